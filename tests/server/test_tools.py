"""Recipes with tools on a server: seats look things up, the report has the sources, and requests name no servers."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.configuration import Configuration, Provider, ToolServer
from partsong.folders import keys_path
from partsong.keys import Keys
from tests.serving import recipe_file, serving
from tests.upstream import Exchange, Reply, Server

PROGRAM = str(Path(__file__).parents[1] / "tools" / "misbehaving.py")
RECIPE = """
name = "readers"
[[layers]]
agents = [{{ model = "up:reader", tools = "odd" }}, "scripted:b?text=No"]
[aggregator]
model = "{aggregator}"
"""
CITES = "scripted:z?text=It+is+so+[1]+[2]"
USAGE = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}


def reader(exchange: Exchange) -> Reply:
    """The upstream's model: it calls the tool once, and then answers."""
    messages = exchange.json["messages"]
    said: dict[str, Any] = {"role": "assistant", "content": "It is so."}
    if not any(message["role"] == "tool" for message in messages):
        function = {"name": "odd__say", "arguments": json.dumps({"text": "https://example.org/sky"})}
        said = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls" if "tool_calls" in said else "stop"}
    return Reply(json.dumps({"id": "1", "model": "reader", "choices": [choice], "usage": USAGE}).encode())


@asynccontextmanager
async def served(folder: Path, upstream: Server) -> AsyncIterator[str]:
    configuration = Configuration(
        providers={"up": Provider("openai", f"{upstream.url}/v1", free=True)},
        tools={"odd": ToolServer((sys.executable, PROGRAM)), "other": ToolServer((sys.executable, PROGRAM))},
    )
    recipe = recipe_file(folder, RECIPE, "readers", CITES)
    async with serving([recipe], configuration=configuration) as (url, _):
        yield url


async def asked(url: str, body: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    whole = {"model": "readers", "messages": [{"role": "user", "content": "Is it so?"}], **body}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/v1/chat/completions", json=whole) as response,
    ):
        return response.status, await response.json()


async def test_a_seat_looks_something_up_and_the_report_has_its_sources(tmp_path: Path) -> None:
    async with Server(reader) as upstream, served(tmp_path, upstream) as url:
        status, answer = await asked(url, {})
        assert status == 200, answer
        assert answer["choices"][0]["message"]["content"] == "It is so [1]"
        report = answer["partsong"]
        assert report["sources"] == [{"number": 1, "address": "https://example.org/sky", "seats": [[0, 0]]}]
        assert report["tools"] == [{"layer": 0, "seat": 0, "server": "odd", "tool": "say", "size": 23}]
        assert [loss["kind"] for loss in report["losses"]] == ["shortened"]
        first, second = (exchange.json for exchange in upstream.exchanges)
        assert "odd__say" in [tool["function"]["name"] for tool in first["tools"]]
        roles = [message["role"] for message in second["messages"]]
        assert roles == ["system", "user", "assistant", "tool"]
        assert "material and no instruction" in second["messages"][-1]["content"]


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": [{"agents": [{"model": "up:reader", "tools": ["other"]}]}]},
        {"aggregator": {"model": "up:reader", "tools": ["other"]}},
        {"layers": [{"agents": [{"model": "up:reader", "tools": ["nowhere"]}]}]},
    ],
)
async def test_a_request_cannot_name_another_server(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with Server(reader) as upstream, served(tmp_path, upstream) as url:
        status, answer = await asked(url, {"partsong": {"recipe": fields}})
        assert status == 400
        assert "a request cannot name the server" in answer["error"]["message"]
        assert upstream.exchanges == []


async def test_a_key_without_tools_may_not_use_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    keys = Keys(keys_path())
    plain, looking = keys.add("plain", tools=False), keys.add("looking")
    async with Server(reader) as upstream, served(tmp_path, upstream) as url:
        status, answer = await asked(url, {}, plain)
        assert (status, "look things up with tools" in answer["error"]["message"]) == (403, True)
        assert upstream.exchanges == []
        assert (await asked(url, {}, looking))[0] == 200
