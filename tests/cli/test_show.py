"""`partsong show`: a stored run as a page for people, and as one object for programs."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from partsong.cli.rows import Row
from partsong.cli.show import bar, page
from partsong.events import (
    AggregationStarted,
    AnyEvent,
    Failure,
    LayerFinished,
    LayerStarted,
    Loss,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalStarted,
    RunFinished,
    RunStarted,
)
from partsong.model import Answer, Text, TextDelta, Usage, asking
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.store import StoredRun
from tests.cli.test_cli import code_of
from tests.screen import Screen
from tests.store.samples import forget_calls

RECIPE = """\
name = "trio"
[[layers]]
agents = [
    "scripted:alice?text=The **first** voice.&output=2000",
    "scripted:bob?fail=rate",
    { model = "scripted:eve?fail=server", fallback = "scripted:dan?text=In place of eve." },
]
[aggregator]
model = "scripted:carol?text=It is _so_.&output=1000"
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state of this test's own, and a folder with a recipe to work in."""
    folder = tmp_path / "state"
    monkeypatch.setenv("PARTSONG_STATE", str(folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trio.toml").write_text(RECIPE)
    return folder


def test_what_each_seat_was_sent_is_shown(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("Is it \x1b[31mred?") == 0
    capfd.readouterr()
    assert code_of("show", "last", "--prompts") == 0
    told = capfd.readouterr().out
    heads = [line for line in told.splitlines() if line.startswith("── ")]
    assert [head.split("  ")[0] for head in heads] == ["── (0, 0)", "── (0, 1)", "── (0, 2)", "── (1, 0)"]
    assert heads[0].endswith("  scripted:alice")
    assert "scripted:eve" in heads[2]
    assert "scripted:dan" in heads[2]
    seats = told.split("── ")[1:]
    assert all("user:\n" in seat for seat in seats)
    assert "about " in seats[0].splitlines()[1]
    assert "The **first** voice." in seats[3].split("\n", 1)[1]  # the aggregator read the proposal, word for word
    assert "The **first** voice." not in seats[1]
    assert "\x1b" not in told  # what a caller wrote never commands the terminal
    assert code_of("show", "last", "--prompts", "--json") == 0
    sent = json.loads(capfd.readouterr().out)
    assert [(each["layer"], each["seat"]) for each in sent] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert sent[0]["messages"][-1]["text"].endswith("red?")
    assert code_of("show", "last", "--prompts", "--brief") == 2
    assert "exclude each other" in capfd.readouterr().err


def test_prompts_that_are_not_stored_are_told(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("Is it so?", "--store", "metadata") == 0
    assert code_of("show", "last", "--prompts") == 2
    assert "are not stored" in capfd.readouterr().err


def ask(question: str, *arguments: str) -> int:
    return code_of("ask", "--json", "-r", "trio.toml", *arguments, question)


def shown(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    capfd.readouterr()
    assert code_of("show", *arguments) == 0
    said = capfd.readouterr()
    assert said.err == ""
    return said.out


def test_in_a_pipe_it_is_plain_text(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Is it so?")
    out = shown(capfd, "last")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("trio  ")
    assert " · finished · run " in lines[0]
    assert lines[1] == "Is it so?"
    rows = {line[:6]: line.split() for line in lines if line.startswith("(") and "scripted:" in line}
    assert rows["(0, 0)"][2:5] == ["scripted:alice", "done", "3"]
    assert rows["(0, 0)"][-1] == "$0.0060"
    assert "lost" in rows["(0, 1)"]
    assert "scripted:dan" in rows["(0, 2)"]
    assert "        instead of scripted:eve: server: eve failed, as its script says" in lines
    assert "        rate: bob failed, as its script says" in lines
    assert "\n## (0, 0) scripted:alice\n\nThe **first** voice.\n" in out
    assert "\n## (0, 2) scripted:dan\n\nIn place of eve.\n" in out
    assert "\n## (1, 0) scripted:carol\n\nIt is _so_.\n" in out
    assert lines[-1].startswith("5 calls · ")
    assert "$0.0090 · " in lines[-1]
    assert lines[-1].endswith("replaced by scripted:dan: server")


def test_brief_leaves_the_texts_out(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Is it so?")
    whole, brief = shown(capfd, "last"), shown(capfd, "last", "--brief")
    assert "voice" in whole
    assert "voice" not in brief
    assert "##" not in brief
    assert brief.splitlines()[0] == whole.splitlines()[0]
    assert brief.splitlines()[-1] == whole.splitlines()[-1]


def test_on_a_terminal_texts_are_markdown(state: Path) -> None:
    ask("Is it so?")
    screen = Screen("show", "last", columns=72, rows=60)
    assert screen.end() == 0
    assert "The first voice." in screen.text
    assert "It is so." in screen.text
    assert "**" not in screen.text
    assert b"\x1b[1m" in screen.output
    assert all(len(line) <= 72 for line in screen.lines)


def test_the_object_for_programs(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    ask("Is it so?")
    end = json.loads(capfd.readouterr().out.splitlines()[-1])
    run: dict[str, Any] = json.loads(shown(capfd, "last", "--json"))
    assert (run["run"]["status"], run["run"]["question"], run["run"]["recipe"]) == ("finished", "Is it so?", "trio")
    assert datetime.fromisoformat(run["run"]["started"]).tzinfo is not None
    assert run["recipe"]["layers"][0]["agents"][2]["fallback"] == ["scripted:dan?text=In place of eve."]
    assert (run["usage"], run["losses"]) == (end["usage"], end["losses"])
    assert (run["planned"], run["answered"], run["last_resort"]) == (3, 2, False)
    assert run["answer"]["text"] == "It is _so_."
    assert run["error"] is None
    (layer,) = run["layers"]
    alice, bob, dan = layer["seats"]
    assert [seat["seat"] for seat in layer["seats"]] == [0, 1, 2]
    assert (alice["text"], alice["model"], alice["planned"]) == (
        "The **first** voice.",
        *["scripted:alice?text=The **first** voice.&output=2000"] * 2,
    )
    assert alice["usage"]["dollars"] == "0.006"
    assert 0 <= alice["started"] <= alice["first"] <= alice["ended"] <= run["run"]["seconds"]
    assert (bob["error"]["cause"], bob["text"], bob["usage"]) == ("rate", "", None)
    assert (dan["planned"], dan["model"]) == ("scripted:eve?fail=server", "scripted:dan?text=In place of eve.")
    assert [(past["model"], past["error"]["cause"]) for past in dan["replaced"]] == [
        ("scripted:eve?fail=server", "server")
    ]
    assert (run["aggregator"]["layer"], run["aggregator"]["text"]) == (1, "It is _so_.")
    assert run["aggregator"]["stored"] is None


def test_a_stored_answer_is_marked(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Is it so?", "--cache")
    ask("Is it so?", "--cache")
    seats = json.loads(shown(capfd, "last", "--json"))["layers"][0]["seats"]
    assert (seats[0]["usage"]["dollars"], seats[0]["stored"]["dollars"]) == ("0", "0.006")
    out = shown(capfd, "last")
    assert any("scripted:alice  stored" in line for line in out.splitlines())
    assert ", 3 stored · " in out.splitlines()[-1]


def test_runs_are_found_by_the_letters_their_ids_begin_with(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("show", "last") == 2
    assert "no run is stored yet" in capfd.readouterr().err
    assert not state.exists()
    ask("The one?")
    identity = json.loads(shown(capfd, "last", "--json"))["run"]["id"]
    ask("The other?")
    assert "The one?" in shown(capfd, identity)
    assert "The one?" in shown(capfd, identity[:-2])
    assert code_of("show", "nothing") == 2
    assert f'there is no run "nothing"; near it: {identity[:4]}' in capfd.readouterr().err


def test_a_run_that_was_stored_without_its_words(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Is it so?", "--store", "metadata")
    out = shown(capfd, "last")
    assert 'without its words (store = "metadata")' in out
    assert "Is it so" not in out
    assert out.splitlines()[-1].startswith("5 calls · ")
    run = json.loads(shown(capfd, "last", "--json"))
    assert (run["run"]["mode"], run["run"]["calls"], run["layers"], run["answer"]) == ("metadata", 5, [], None)


def test_a_run_that_failed(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("trio.toml").write_text(
        'name = "broken"\n[[layers]]\nagents = ["scripted:alice"]\n'
        '[aggregator]\nmodel = "scripted:carol?text=It is not so&fail=network&after=2"\n'
    )
    assert ask("Is it so?") == 1
    out = shown(capfd, "last")
    assert "failed: network" in out.splitlines()[0]
    assert "\n## (1, 0) scripted:carol\n\nIt is\n" in out
    assert "carol failed, as its script says" in out
    run = json.loads(shown(capfd, "last", "--json"))
    assert (run["answer"], run["error"]["cause"], run["aggregator"]["text"]) == (None, "network", "It is")


def test_no_text_of_a_model_steers_the_terminal(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "scripted:a?text=a%1b[2Jb"
    Path("trio.toml").write_text(f'name = "trio"\n[[layers]]\nagents = ["{text}"]\n[aggregator]\nmodel = "{text}"\n')
    ask("Is \x1b[2J it so?")
    out = shown(capfd, "last")
    assert "\x1b" not in out
    assert out.count("a[2Jb") == 2
    screen = Screen("show", "last")
    assert screen.end() == 0
    assert b"\x1b[2J" not in screen.output


# ---- pages of runs with times of their own


TWO = Recipe("two", (Layer((Agent("lab:a"), Agent("lab:b"))),), Aggregator("lab:z"))
USED = Usage(10, 40)


def run_of(seconds: float, **changes: Any) -> StoredRun:
    fields: dict[str, Any] = {
        "id": "6ap5dpjqfzev", "mode": "full", "started": datetime(2026, 1, 2, tzinfo=UTC), "seconds": seconds,
        "recipe": "two", "model": "lab:a", "question": "Why?", "status": "finished", "cause": "", "calls": 3,
        "stored": 0, "tokens": 150, "dollars": None, "losses": 0,
    }  # fmt: skip
    return StoredRun(**{**fields, **changes})


async def told(run: StoredRun, events: list[tuple[float, AnyEvent]]) -> list[str]:
    pieces = await page(run, events, Console(width=60), brief=False, drawn=False)
    return "\n".join(str(piece) for piece in pieces).splitlines()


BEGIN: list[tuple[float, AnyEvent]] = [
    (0.0, RunStarted(TWO, asking("Why?"))),
    (0.0, LayerStarted(0, ("lab:a", "lab:b"))),
    (0.0, ProposalStarted(0, 0, "lab:a")),
    (0.0, ProposalStarted(0, 1, "lab:b")),
    (2.5, ProposalDelta(0, 0, TextDelta("Be"))),
    (5.0, ProposalDelta(0, 0, TextDelta("cause."))),
    (5.0, ProposalFinished(0, 0, Answer((Text("Because."),), usage=USED), "lab:a")),
    (7.5, ProposalFailed(0, 1, Failure("timeout", "it said nothing"))),
    (7.5, LayerFinished(0, 1)),
    (7.5, AggregationStarted("lab:z")),
]  # fmt: skip


async def test_the_timeline_has_a_bar_for_each_seat() -> None:
    answer = Answer((Text("So."),), usage=USED)
    lines = await told(run_of(10.0), [*BEGIN, (10.0, RunFinished(answer, USED, model="lab:z", planned=2, answered=1))])
    begin = next(number for number, line in enumerate(lines) if "░" in line)
    room = 60 - 6 - 3
    first, second, last, legend = lines[begin : begin + 4]
    assert first == "(0, 0)  " + "░" * 13 + "█" * 13
    assert second == "(0, 1)  " + "░" * 37 + "×"
    assert last == "(1, 0)  " + " " * 38 + "━" * 13
    assert len(last) == 8 + room
    assert legend.strip().startswith("0 to 10.0 s: ░ nothing said yet  █ writing  ━ asked for all at once  × lost")


async def test_a_run_that_never_ended_is_shown_as_far_as_it_came() -> None:
    lines = await told(run_of(7.5, status="open"), BEGIN)
    assert " · open · " in lines[0]
    assert any("lab:z" in line and "waiting" in line for line in lines)
    assert "Because." in lines
    assert lines[-1] == "3 calls · 150 tokens · price unknown · 7.5 s · it goes on, or its process was ended"


async def test_a_proposal_that_had_to_do_is_not_passed_off_as_the_aggregators() -> None:
    answer = Answer((Text("Because."),), usage=USED)
    loss = Loss(1, 0, "lab:z", "server", "it broke")
    end = RunFinished(answer, USED, (loss,), model="lab:a", planned=2, answered=1, last_resort=True)
    lines = await told(run_of(10.0), [*BEGIN, (10.0, end)])
    heading = next(number for number, line in enumerate(lines) if line.startswith("## (1, 0)"))
    assert "no aggregator answered" in lines[heading]
    assert lines[heading].endswith("of lab:a")


def test_bars_stay_within_their_room() -> None:
    assert bar(Row(0, 0, "a", started=0.0, ended=0.0), 0.0, 10) == "━"
    assert bar(Row(0, 0, "a", started=9.99, spoke=10.0, ended=10.0), 10.0, 10) == " " * 9 + "█"
    assert bar(Row(0, 0, "a", started=0.0, spoke=0.0, ended=10.0), 10.0, 10) == "█" * 10
    assert bar(Row(0, 0, "a", started=5.0), 10.0, 10) == " " * 5 + "░" * 5


# ---- runs of earlier versions, which had no events for calls


def test_a_run_of_an_earlier_version_is_shown_as_it_was(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Is it so?")
    before, object_before = shown(capfd, "last"), json.loads(shown(capfd, "last", "--json"))
    forget_calls(state / "journal.db")
    after, object_after = shown(capfd, "last"), json.loads(shown(capfd, "last", "--json"))
    assert after == before
    for document in (object_before, object_after):  # a call's own clock and the event's differ by a little
        for seat in (*document["layers"][0]["seats"], document["aggregator"]):
            for call in seat["calls"]:
                assert call.pop("started") >= 0
                assert call.pop("seconds") >= 0
    assert object_after == object_before
