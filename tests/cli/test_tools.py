"""`partsong ask` with tools, and `partsong doctor`: a program of its own asks a model on loopback and a folder."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.upstream import Exchange, Reply, Server

USAGE = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}


def reader(exchange: Exchange) -> Reply:
    """The upstream's model: it searches the folder once, and then answers with what it has read."""
    messages = exchange.json["messages"]
    said: dict[str, Any] = {"role": "assistant", "content": "I do not know."}
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if results:
        said = {
            "role": "assistant",
            "content": "The roof is red." if "roof is red" in results[-1] else "Nothing found.",
        }
    elif exchange.json.get("tools"):
        function = {"name": "notes__search", "arguments": json.dumps({"query": "roof"})}
        said = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
    reason = "tool_calls" if "tool_calls" in said else "stop"
    whole = {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": reason}],
        "usage": USAGE,
    }
    if not exchange.json.get("stream"):
        return Reply(json.dumps(whole).encode())
    delta = dict(said)
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": 0, **each} for each in delta["tool_calls"]]
    chunk = {**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    return Reply((f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n"), content_type="text/event-stream")


async def ran(folder: Path, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "PARTSONG_STATE": str(folder / "state")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "partsong", *arguments),
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "house.md").write_text("The roof is red.")
    return tmp_path


def configure(folder: Path, url: str) -> None:
    (folder / "partsong.toml").write_text(
        f'[providers.up]\napi = "openai"\nbase_url = "{url}/v1"\nfree = true\n'
        '[tools.notes]\ncommand = ["partsong", "mcp", "files", "notes"]\n'
    )


async def test_a_model_answers_about_a_folder(folder: Path) -> None:
    async with Server(reader) as upstream:
        configure(folder, upstream.url)
        code, out, err = await ran(folder, "ask", "--model", "up:m", "--tools", "notes", "Which colour is the roof?")
        assert (code, out) == (0, "The roof is red.\n"), err
        assert "[1] file:house.md  (0, 0)" in err
        code, out, err = await ran(folder, "ask", "--model", "up:m", "Which colour is the roof?")
        assert (code, out, err) == (0, "I do not know.\n", "")
        code, out, err = await ran(folder, "ask", "--model", "up:m", "--tools", "notes", "--json", "The roof?")
        events = [json.loads(line) for line in out.splitlines()]
        (use,) = [event for event in events if event["event"] == "tool_used"]
        assert (use["server"], use["tool"], use["sources"]) == ("notes", "search", ["file:house.md"])
        code, out, _ = await ran(folder, "show", "last")
        assert code == 0
        assert "used notes search" in out
        assert "[1] file:house.md" in out


async def test_an_unknown_server_is_told(folder: Path) -> None:
    configure(folder, "http://127.0.0.1:9")
    code, out, err = await ran(folder, "ask", "--model", "up:m", "--tools", "nots", "?")
    assert (code != 0, out) == (True, "")
    assert 'there is no server "nots"; known: notes' in err


async def test_doctor_lists_the_tools(folder: Path) -> None:
    configure(folder, "http://127.0.0.1:9")
    _, out, _ = await ran(folder, "doctor")
    assert "list, search, read" in out


async def test_a_batch_refuses_a_recipe_with_tools(folder: Path) -> None:
    configure(folder, "http://127.0.0.1:9")
    (folder / "r.toml").write_text('name = "r"\nlayers = []\n[aggregator]\nmodel = "up:m"\ntools = "notes"\n')
    (folder / "q.jsonl").write_text('{"prompt": "?"}\n')
    code, _, err = await ran(folder, "batch", "q.jsonl", "--out", "a.jsonl", "--recipe", "r.toml")
    assert code != 0
    assert "its agents use the tools of notes, which this command does not offer" in err
