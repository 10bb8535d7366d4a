"""`partsong chat`: turns that remember, commands, and a turn that is stopped."""

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.screen import Screen

ECHO = "scripted:z?echo=1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def piped(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "partsong", "chat", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def sent(number: int) -> list[str]:
    """The words of the messages of a call, by its number from 1."""
    import zlib

    import msgspec

    with closing(sqlite3.connect("state/journal.db")) as connection:
        query = "SELECT messages FROM calls JOIN prompts ON prompts.number = prompt WHERE calls.number = ?"
        (packed,) = connection.execute(query, (number,)).fetchone()
    messages = msgspec.json.decode(zlib.decompress(packed))
    return ["".join(part.get("text", "") for part in message["parts"]) for message in messages]


def test_turns_remember_what_was_said(folder: Path) -> None:
    done = piped("First?\n\nSecond?\n/save said.md\n/cost\n", "--model", ECHO, "--system", "Be brief.")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["First?", "Second?", "$0"]
    assert sent(2) == ["Be brief.", "First?", "First?", "Second?"]
    assert Path("said.md").read_text().count("## Answer") == 2
    with closing(sqlite3.connect("state/journal.db")) as connection:
        rows = connection.execute("SELECT id, conversation FROM runs ORDER BY started").fetchall()
    assert [conversation for _, conversation in rows] == [rows[0][0]] * 2
    # Another chat goes on from it.
    done = piped("Third?\n", "--continue", "last")
    assert done.stdout == "Third?\n"
    assert sent(3) == ["Be brief.", "First?", "First?", "Second?", "Second?", "Third?"]


def test_commands(folder: Path) -> None:
    lines = [
        "/again",
        "First?",
        "/recipe scripted:y?text=Yes",
        "/again",
        "/recipe",
        "/recipe nothing",
        "/nothing",
        "/save",
    ]
    done = piped("\n".join([*lines, "/quit", "Never?"]) + "\n", "--model", ECHO)
    assert done.stdout.splitlines() == ["First?", "Yes", "scripted:y?text=Yes"]
    for told in (
        "there is no question yet",
        "nothing",
        "there is no command /nothing",
        "/save needs the name of a file",
    ):
        assert told in done.stderr
    assert sent(2) == ["First?"]  # the question again, without its first answer


def test_a_turn_that_fails_is_left_out(folder: Path) -> None:
    done = piped(
        "First?\n/recipe scripted:bad?fail=server\nSecond?\n/recipe scripted:z?echo=1\nThird?\n", "--model", ECHO
    )
    assert "no answer: bad failed" in done.stderr
    assert done.stdout.splitlines() == ["First?", "Third?"]
    assert sent(2) == ["First?", "First?", "Third?"]
    assert piped("Again?\n", "--model", "scripted:bad?fail=server").returncode == 1


def test_a_chat_on_a_terminal(folder: Path) -> None:
    screen = Screen("chat", "--model", "scripted:z?echo=1&first=0.3&each=0.3")
    screen.wait_for("ends the chat")
    screen.type(b"Hello?\r")
    screen.wait_for("1 call")
    screen.type(b"one two three four five six seven eight nine ten eleven twelve\r")
    screen.wait_for("one two")
    screen.type(b"\x03")  # stops the turn, and not the chat
    screen.wait_for("stopped; the question is not part of the conversation")
    screen.type(b"/save said.md\r")
    screen.type(b"/help\r")
    screen.wait_for("/quit")
    screen.type(b"\x04")
    assert screen.end() == 0
    assert Path("said.md").read_text() == "## You\n\nHello?\n\n## Answer\n\nHello?\n"
    history = Path("state/chat_history")
    assert "Hello?" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
