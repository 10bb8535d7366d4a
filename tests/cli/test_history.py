"""`partsong history` and `history prune`, on real stores that real questions have filled."""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from partsong.cli.ages import read_age, written_age
from partsong.cli.journal import when
from partsong.cli.table import shortened
from partsong.errors import InputError
from tests.cli.test_cli import code_of, write
from tests.screen import Screen


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state of this test's own, and an empty folder to work in."""
    folder = tmp_path / "state"
    monkeypatch.setenv("PARTSONG_STATE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def ask(question: str, *models: str, last: str = "scripted:carol?text=It is so.") -> None:
    recipe = write(Path(), *(models or ("scripted:alice?text=First",)), last=last)
    code_of("ask", "--quiet", "-r", recipe, question)


def age(state: Path, question: str, old: timedelta) -> None:
    """Have the runs and calls of a question be as old as that."""
    with sqlite3.connect(state / "journal.db") as connection:
        moment = (datetime.now(UTC) - old).timestamp()
        connection.execute("UPDATE runs SET started = ? WHERE question = ?", (moment, question))
        connection.execute("UPDATE calls SET started = ?", (moment,))
    connection.close()


def test_an_empty_history_says_how_runs_get_there(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("history") == 0
    assert "partsong ask" in capfd.readouterr().err
    assert code_of("history", "prune", "--older-than", "1d") == 0
    assert "no run is stored yet" in capfd.readouterr().err
    assert code_of("history", "--json") == 0
    assert capfd.readouterr() == ("", "")
    assert not state.exists()
    Path("partsong.toml").write_text('store = "off"\n')
    assert code_of("history") == 0
    assert 'store = "off"' in capfd.readouterr().err


def test_runs_are_listed_newest_first(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Which came first?")
    ask("And then?", "scripted:alice?text=a&output=1000", "scripted:bob?fail=rate")
    ask("Nothing?", last="scripted:carol?fail=server")
    capfd.readouterr()
    assert code_of("history") == 0
    heading, *rows = capfd.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in (heading, *rows)]
    assert cells[0] == ["run", "when", "status", "recipe", "calls", "tokens", "dollars", "seconds", "lost", "question"]
    assert [row[-1] for row in cells[1:]] == ["Nothing?", "And then?", "Which came first?"]
    assert [row[2:5] for row in cells[1:]] == [
        ["failed: server", "duet", "2"],
        ["finished", "duet", "3"],
        ["finished", "duet", "2"],
    ]
    assert cells[2][6] == "$0.0010"
    assert cells[2][8] == "1"
    assert all(row[1].startswith(("today ", "yesterday ")) for row in cells[1:])
    assert code_of("history", "--limit", "2", "--json") == 0
    listed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(run["question"], run["status"], run["cause"], run["calls"], run["losses"]) for run in listed] == [
        ("Nothing?", "failed", "server", 2, 0),
        ("And then?", "finished", "", 3, 1),
    ]
    assert listed[1]["dollars"] == "0.001"
    assert datetime.now(UTC) - datetime.fromisoformat(listed[0]["started"]) < timedelta(minutes=5)
    assert cells[1][0] == listed[0]["id"]


def test_runs_of_a_batch_are_listed_only_if_asked_for(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("questions.jsonl").write_text('{"question": "Of a batch"}\n')
    assert code_of("batch", "questions.jsonl", "--model", "scripted:a?text=So", "--out", "answers.jsonl") == 0
    capfd.readouterr()
    assert code_of("history") == 0
    assert "partsong history --all" in capfd.readouterr().err
    ask("Of a person")
    capfd.readouterr()
    assert code_of("history", "--json") == 0
    assert [json.loads(line)["question"] for line in capfd.readouterr().out.splitlines()] == ["Of a person"]
    assert code_of("history", "--all", "--json") == 0
    listed = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(run["question"], run["source"]) for run in listed] == [("Of a person", ""), ("Of a batch", "batch")]


def test_each_run_is_one_line_of_a_terminal(state: Path) -> None:
    ask("Why " + "is it 空 " * 60 + "?")
    screen = Screen("history", columns=90)
    assert screen.end() == 0
    assert len(screen.lines) == 2
    assert screen.lines[1].endswith("…")
    assert len(screen.lines[1]) > 80


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("ab d", 3, "ab…"),
        ("空空空", 6, "空空空"),
        ("空空空", 5, "空空…"),
        ("空空", 2, "…"),
    ],
)
def test_text_is_shortened_by_columns(text: str, width: int, short: str) -> None:
    assert shortened(text, width) == short


def test_pruning_removes_what_is_older_and_says_what(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask("Old?")
    age(state, "Old?", timedelta(days=31))
    ask("New?")
    capfd.readouterr()
    assert code_of("history", "prune", "--older-than", "5w") == 0
    assert capfd.readouterr().out == "removed 0 runs and 0 calls that were older than 5w\n"
    assert code_of("history", "prune", "--older-than", "30d") == 0
    assert capfd.readouterr().out.startswith("removed 1 run and 2 calls that were older than 30d")
    assert code_of("history", "--json") == 0
    assert [json.loads(line)["question"] for line in capfd.readouterr().out.splitlines()] == ["New?"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prune"], "--older-than"),
        (["prune", "--older-than", "soon"], '"soon", but must be a number with a unit'),
        (["prune", "--older-than", "30"], "30d (days)"),
        (["prune", "--older-than", "-3d"], "must be a number with a unit"),
        (["--older-than", "30d"], "history prune --older-than"),
        (["--limit", "0"], "at least 1"),
        (["purge"], "purge"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("history", *arguments) in (1, 2)
    assert words in capfd.readouterr().err
    assert not state.exists()


def test_ages() -> None:
    assert read_age("90m") == timedelta(minutes=90)
    assert read_age(" 12H ") == timedelta(hours=12)
    assert read_age("30 d") == timedelta(days=30)
    assert read_age("2w") == timedelta(days=14)
    assert [written_age(read_age(text).total_seconds()) for text in ("90m", "24h", "30d", "2w")] == [
        "90m",
        "1d",
        "30d",
        "2w",
    ]
    assert read_age("999999w") < timedelta(days=40000)  # no clock goes back further
    for wrong in ("", "d", "1.5d", "1y", "٣d", "1d2h", "1e3d"):
        with pytest.raises(InputError, match="--older-than"):
            read_age(wrong)


def test_moments_are_told_in_the_readers_time() -> None:
    now = datetime(2026, 3, 5, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert when(datetime(2026, 3, 4, 22, 10, tzinfo=UTC), now) == "today 00:10"
    assert when(datetime(2026, 3, 4, 21, 10, tzinfo=UTC), now) == "yesterday 23:10"
    assert when(datetime(2026, 2, 3, 7, 8, tzinfo=UTC), now) == "Feb 3 09:08"
    assert when(datetime(2025, 12, 3, 7, 8, tzinfo=UTC), now) == "2025-12-03 09:08"


def test_a_damaged_store_is_said_to_be(state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state.mkdir()
    (state / "journal.db").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    assert code_of("history") == 1
    assert "journal.db" in capfd.readouterr().err


def test_it_loads_nothing_heavy(state: Path) -> None:
    ask("Quick?")
    program = (
        "import sys; from partsong.cli.main import run; run(['history']);"
        "print([name for name in sys.modules if name.startswith(('aiohttp', 'rich.', 'xllamacpp', 'genai_prices',"
        " 'partsong.providers', 'partsong.weights', 'partsong.engine', 'partsong.cli.ask'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
