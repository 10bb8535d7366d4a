"""A request with a large picture or a long text holds nobody up: its JSON is made beside the event loop."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest

from partsong import Image, Message, Request, Text
from partsong.heavy import LIGHT_BYTES as LARGE
from partsong.heavy import is_heavy
from partsong.model import Document, Part, Reasoning, ToolCall, ToolResult
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.upstream import Server, chat

LONG = "a" * (LARGE + 1)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http() as http:
        yield http


@pytest.mark.parametrize(
    "part",
    [
        Text(LONG),
        Reasoning(LONG),
        ToolCall("c", "look", LONG),
        Image(data=LONG.encode(), media_type="image/png"),
        Document(LONG.encode(), "text/plain"),
        ToolResult("c", (Text(LONG),)),
    ],
)
def test_what_is_heavy(part: Part) -> None:
    assert is_heavy(Request((Message("user", (part,)),)))
    half = Message("user", (Text("a" * (LARGE // 2)),))
    assert is_heavy(Request((half, half, half)))
    assert not is_heavy(Request((half, half)))


async def test_several_large_requests_leave_the_loop_its_turns(http: Http) -> None:
    picture = Image(data=os.urandom(4_000_000), media_type="image/png")
    request = Request((Message("user", (picture, Text("What is it?"))),))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Server(chat("A cat.")) as server:
        model = OpenAI(http, provider="x", base_url=f"{server.url}/v1", name="m")
        beside = asyncio.create_task(others())
        answers = await asyncio.gather(*(model(request, None) for _ in range(3)))
        beside.cancel()
        assert [answer.text for answer in answers] == ["A cat."] * 3
        assert turns > 20
        sent = [json.loads(exchange.body)["messages"] for exchange in server.exchanges]
    assert sent[0] == sent[1] == sent[2]
    assert sent[0][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
