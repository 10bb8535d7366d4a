"""The table on standard error while the answer goes to a pipe or a file, and a model that is loaded."""

from pathlib import Path

import pytest

from partsong.cli.downloads import Downloads
from partsong.cli.terminal import Terminal
from partsong.weights.fetch import Fetching
from tests.screen import Screen
from tests.watched import Watched, started

RECIPE = """
name = "choir"
[[layers]]
[[layers.agents]]
model = "scripted:alto?text=Low and slow.&first=0.4"
[[layers.agents]]
model = "scripted:tenor?fail=server"
[aggregator]
model = "scripted:bass?text=First%20line.%0ASecond%20line%20of%20the%20answer.&first=0.4&each=0.15"
"""
ANSWER = ["First line.", "Second line of the answer."]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    (tmp_path / "choir.toml").write_text(RECIPE)
    return tmp_path


def asked(folder: Path, pipe: str, *options: str, columns: int = 80, rows: int = 24) -> Screen:
    arguments = ("ask", "--recipe", "choir.toml", "Who sings?", *options)
    return Screen(*arguments, folder=folder, pipe=pipe, columns=columns, rows=rows)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_a_pipe_to_the_same_terminal(folder: Path, columns: int, rows: int) -> None:
    screen = asked(folder, "| cat", columns=columns, rows=rows)
    screen.wait_for("alto")  # the row of a seat that still works
    assert screen.end() == 0
    lines = screen.lines
    here = lines.index(ANSWER[0])
    assert lines[here : here + 2] == ANSWER
    above, below = "\n".join(lines[:here]), "\n".join(lines[here + 2 :])
    assert above.count("scripted:alto") == above.count("scripted:tenor") == 1
    assert "bass" not in above
    assert below.count("bass") == 1
    assert "4 calls" in below or "3 calls" in below
    assert screen.cursor_is_visible


def test_a_file_has_the_answer_alone_and_the_table_stays_alive(folder: Path) -> None:
    screen = asked(folder, "> answer.txt")
    assert screen.end() == 0
    assert (folder / "answer.txt").read_text().splitlines() == ANSWER
    assert all(line not in screen.lines for line in ANSWER)
    assert screen.text.count("bass") == 1
    frames = screen.output.decode()
    assert frames.count("bass") > 1  # the row of the aggregator was redrawn while it wrote


def test_proposals_stand_before_the_answer_and_nothing_is_overwritten(folder: Path) -> None:
    screen = asked(folder, "| cat", "--proposals")
    assert screen.end() == 0
    lines = screen.lines
    assert lines.index("Low and slow.") < lines.index(ANSWER[0]) < lines.index(ANSWER[1])


@pytest.mark.parametrize("options", [("--quiet",), ("--json",)])
def test_no_table(folder: Path, options: tuple[str, ...]) -> None:
    screen = asked(folder, "> answer.txt", *options)
    assert screen.end() == 0
    assert screen.lines == []


def test_raw_on_a_terminal(folder: Path) -> None:
    screen = asked(folder, "", "--raw")
    assert screen.end() == 0
    here = screen.lines.index(ANSWER[0])
    assert screen.lines[here : here + 2] == ANSWER


def test_a_terminal_that_cannot_redraw_gets_finished_lines(folder: Path) -> None:
    arguments = ("ask", "--recipe", "choir.toml", "Who sings?")
    screen = Screen(*arguments, folder=folder, pipe="| cat", environment={"TERM": "dumb"})
    assert screen.end() == 0
    assert b"\x1b" not in screen.output
    assert screen.lines.count(ANSWER[1]) == 1


async def test_a_model_that_is_loaded_is_told_while_it_is() -> None:
    watched = Watched()
    downloads = Downloads(watched.file)
    terminal = Terminal(watched.region, loading=downloads.loading)
    for event in started("local:tiny", "local:small"):
        await terminal.hear(event)
    downloads.hear(Fetching("tiny\x1b[31m", "loading"))
    assert [str(piece) for piece in terminal.frame()[1]][-1] == "loading tiny[31m …"
    downloads.hear(Fetching("tiny\x1b[31m", "loaded"))
    assert not any("loading" in str(piece) for piece in terminal.frame()[1])
