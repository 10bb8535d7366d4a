"""How a vote is shown: on a terminal, in a pipe, and for a stored run."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from partsong.cli.main import run
from partsong.cli.region import Region
from partsong.cli.terminal import Terminal
from partsong.cli.votes import FEW, SHOWN, counted
from partsong.events import VoteGroup, VotesCounted, from_json
from partsong.store.document import as_json
from partsong.transcript import Transcript

GOLDEN = Path(__file__).parents[1] / "golden" / "transcript.json"
(VOTE,) = (case for case in json.loads(GOLDEN.read_text(encoding="utf-8")) if "vote" in case["name"])
JURY = """
name = "jury"
[[layers]]
agents = ["scripted:a?text=The+answer+is+4.", "scripted:b?text=4", "scripted:c?text=5&first=60"]
[aggregator]
method = "vote"
otherwise = "fail"
"""


@pytest.mark.parametrize("proposals", [False, True])
async def test_a_terminal_shows_who_voted_for_what_and_who_was_spared(proposals: bool) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    terminal = Terminal(Region(console), proposals=proposals, clock=lambda: 0.0)
    for event in VOTE["events"]:
        await terminal.hear(from_json(json.dumps(event)))
        terminal.frame()[1]
        for piece in terminal.frame()[0]:
            console.print(piece)
    finished, _ = terminal.frame()
    for piece in finished:
        console.print(piece)
    assert terminal.elected


async def test_the_lines_of_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    terminal = Terminal(Region(console), clock=lambda: 0.0)
    for event in VOTE["events"]:
        await terminal.hear(from_json(json.dumps(event)))
    for piece in terminal.frame()[0]:
        console.print(piece)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for line in (
        '3 for "4.": (0, 0), (0, 1), (0, 3)',
        '1 for "5": (0, 4)',
        "3 must state the same: elected: seat (0, 1)",
        "elected from layer 0, seat 1",
        "4 of 5 answered, 1 spared",
    ):
        assert line in shown, shown
    assert "spared" in shown.split("(0, 2)")[1].splitlines()[0]


def test_many_groups_and_long_answers_take_few_lines() -> None:
    groups = tuple(VoteGroup("x" * 200, tuple(range(10 * n, 10 * n + 10))) for n in range(30))
    lines = counted(VotesCounted(0, "majority", groups, (400, 401), 200))
    assert len(lines) == FEW + 3
    assert max(map(len, lines)) < SHOWN + 150
    assert lines[-1] == "200 must state the same: none is elected"


def test_a_pipe_gets_the_answer_and_a_stored_run_says_who_voted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jury.toml"
    path.write_text(JURY)
    assert run(("ask", "--recipe", str(path), "What is 2 + 2?")) == 0
    assert capfd.readouterr().out.strip() == "The answer is 4."
    assert run(("show", "last")) == 0
    shown = capfd.readouterr().out
    for words in ("spared", '2 for "4.": (0, 0), (0, 1)', "2 must state the same: elected: seat (0, 0)"):
        assert words in shown, shown
    assert shown.count("The answer is 4.") == 1, "the elected proposal is shown once"
    assert run(("show", "last", "--json")) == 0
    whole: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert (whole["layer"], whole["seat"], whole["spared"]) == (0, 0, 1)
    assert whole["votes"][0]["groups"] == [{"answer": "4.", "seats": [0, 1]}]
    assert [seat["spared"] for seat in whole["layers"][0]["seats"]] == [False, False, True]
    assert run(("replay", "last")) == 0
    assert "The answer is 4." in capfd.readouterr().out


def test_a_document_of_a_vote_agrees_with_its_transcript() -> None:
    transcript = Transcript()
    events = [(0.0, from_json(json.dumps(event))) for event in VOTE["events"]]
    for _, event in events:
        transcript.hear(event)
    shown = as_json({}, events)
    assert (shown["layer"], shown["seat"], shown["spared"]) == (transcript.layer, transcript.seat, transcript.spared)
    assert len(shown["votes"]) == len(transcript.votes) == 1
    assert shown["aggregator"] is None
