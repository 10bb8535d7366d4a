"""Whatever a model says, no command writes control characters or marks of direction of it to a terminal."""

import asyncio
import json
import re
import unicodedata
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.cli.printable import printable, printable_json
from tests.cli.test_cli import write
from tests.screen import Screen
from tests.upstream import Server, status

BIDIRECTIONAL = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
MARKS = "\u061c\u200e\u200f"
HOSTILE = "a\x1b]0;owned\x07b\x9b31mc\x7fd\x85e\u202ef\u2066g\u200fh\u061ci\u2028j"


def is_unsafe(letter: str) -> bool:
    return (
        (unicodedata.category(letter) == "Cc" and letter not in "\t\n")
        or unicodedata.bidirectional(letter) in BIDIRECTIONAL
        or letter in MARKS
    )


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(HOSTILE)))
def test_text_and_json_are_safe_and_json_stays_the_same_value(text: str) -> None:
    assert not any(map(is_unsafe, printable(text)))
    encoded = msgspec.json.encode({text: [text]})
    safe = printable_json(encoded)
    assert not any(is_unsafe(letter) or letter in "\u2028\u2029" for letter in safe.decode())
    assert json.loads(safe) == json.loads(encoded) == {text: [text]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    ["ask", "-r", "duet.toml", "--json", "Why?"],
    ["ask", "-r", "duet.toml", "--proposals", "Why?"],
    ["show", "last", "--json"],
    ["show", "last"],
    ["replay", "last", "--json", "--at-once"],
    ["replay", "last", "--at-once"],
    ["history", "--json"],
    ["history"],
    ["batch", "q.jsonl", "--out", "/dev/stdout", "-r", "duet.toml"],
    ["recipes", "duet.toml"],
    ["cost", "duet.toml", "--prompt-tokens", "9", "--json"],
]


def test_no_command_writes_them_to_a_terminal(folder: Path) -> None:
    said = quote(HOSTILE)
    write(folder, f"scripted:a?text={said}", "scripted:b?fail=rate", last=f"scripted:c?text=x{said}")
    Path("q.jsonl").write_text(json.dumps(HOSTILE) + "\n")
    for command in COMMANDS:
        screen = Screen(*command)
        assert screen.end() == 0, command
        # The only control sequences are those with which partsong itself draws.
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", screen.output.decode())
        assert text
        assert not any(map(is_unsafe, text)), (command, [letter for letter in text if is_unsafe(letter)])


@pytest.mark.parametrize("letters", ["\x7f", "\x9b", "\u202e", "\u2067"])
async def test_the_words_of_a_failing_server_are_safe(folder: Path, letters: str) -> None:
    async with Server(status(400, f"no{letters}such model")) as server:
        Path("partsong.toml").write_text(f'[providers.own]\napi = "openai"\nbase_url = "{server.url}/v1"\n')
        recipe = write(folder, "scripted:a", last="own:model")
        screen = Screen("ask", "-r", recipe, "Why?")
        assert await asyncio.to_thread(screen.end) == 1
        assert server.exchanges
        assert b"such model" in screen.output
        assert not any(letter.encode() in screen.output for letter in letters)


@pytest.mark.parametrize("letters", ["\x7f", "\x9b", "\u202e", "\u2067"])
def test_a_model_whose_id_has_them_is_refused_without_them(folder: Path, letters: str) -> None:
    recipe = write(folder, "scripted:a", last=f"scripted:c{letters}?fail=refused")
    screen = Screen("ask", "-r", recipe, "Why?")
    assert screen.end() == 2
    assert f"U+{ord(letters):04X}".encode() in screen.output
    assert not any(letter.encode() in screen.output for letter in letters)
