"""`partsong ask --continue`, the settings of an answer, and answers that can be copied as they are."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.test_cli import code_of
from tests.screen import Screen

RECIPE = 'name = "echoes"\nlayers = []\naggregator = "scripted:z?echo=1"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echoes.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def ask(*arguments: str) -> int:
    return code_of("ask", *arguments)


def sent(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """The messages of the newest run: the role and the words of each."""
    capfd.readouterr()
    assert code_of("show", "last", "--json") == 0
    messages = json.loads(capfd.readouterr().out)["conversation"]["messages"]
    return [(message["role"], "".join(part.get("text", "") for part in message["parts"])) for message in messages]


def test_an_earlier_run_is_continued_with_its_recipe(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("--recipe", "echoes.toml", "--system", "Be brief.", "First?") == 0
    Path("echoes.toml").unlink()  # the run has its recipe
    assert ask("--continue", "last", "Second?") == 0
    before = [("user", "First?"), ("assistant", "First?"), ("user", "Second?")]
    assert sent(capfd) == [("system", "Be brief."), *before]
    assert ask("--continue", "last", "--system", "Be long.", "Third?") == 0
    assert sent(capfd) == [("system", "Be long."), *before, ("assistant", "Second?"), ("user", "Third?")]
    with closing(sqlite3.connect("state/journal.db")) as connection:
        rows = connection.execute("SELECT id, conversation, recipe FROM runs ORDER BY started").fetchall()
    assert [recipe for *_, recipe in rows] == ["echoes"] * 3
    assert [conversation for _, conversation, _ in rows] == [rows[0][0]] * 3


def test_another_model_may_go_on(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("--recipe", "echoes.toml", "First?") == 0
    assert ask("--continue", "last", "--model", "scripted:y?text=Yes", "Second?") == 0
    assert capfd.readouterr().out.endswith("Yes\n")


def test_what_cannot_be_continued_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("--continue", "last", "And?") == 2
    assert "no run is stored yet" in capfd.readouterr().err
    assert ask("--model", "scripted:z?fail=server", "First?") == 1
    capfd.readouterr()
    assert ask("--continue", "last", "And?") == 2
    assert "has no answer to go on from" in capfd.readouterr().err
    assert ask("--model", "scripted:z?text=Yes", "--store", "metadata", "First?") == 0
    capfd.readouterr()
    assert ask("--continue", "last", "And?") == 2
    assert "was stored without its words" in capfd.readouterr().err
    assert code_of("show", "last", "--answer") == 2
    assert "has no answer that is stored" in capfd.readouterr().err


def test_settings_of_the_answer(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask("--model", "scripted:z?tokens=20", "--max-tokens", "3", "--temperature", "0", "Go") == 0
    assert len(capfd.readouterr().out.split()) == 3
    for wrong in (["--temperature", "3"], ["--temperature", "-1"], ["--temperature", "nan"], ["--max-tokens", "0"]):
        assert ask("--model", "scripted:z", *wrong, "Go") == 2
        assert f"{wrong[0]} is" in capfd.readouterr().err


def test_an_answer_can_be_copied_as_it_is(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "```python%0Adef long() -> str:%0A    return 'a line that is longer than the terminal is wide, by far'%0A```"
    model = f"scripted:z?text={code}"
    lines = [
        "```python",
        "def long() -> str:",
        "    return 'a line that is longer than the terminal is wide, by far'",
        "```",
    ]
    screen = Screen("ask", "--raw", "--quiet", "--model", model, "Code?", columns=40)
    assert screen.end() == 0
    shown = "".join(line.ljust(40) for line in screen.lines)
    assert "return 'a line that is longer than the terminal is wide, by far'" in shown  # only the terminal wraps it
    assert "│" not in shown
    assert ask("--model", model, "Code?") == 0
    capfd.readouterr()
    assert code_of("show", "last", "--answer") == 0
    assert capfd.readouterr().out.splitlines() == lines
    assert code_of("show", "last", "--answer", "--json") == 2
