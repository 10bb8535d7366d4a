"""Agents that go on for twenty steps, two calls at a time, through each API by its official SDK, and by `llm`.

The models are behind a real server of their own: three proposers, which advise, and an aggregator that acts.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from partsong.configuration import Provider
from tests.serving import recipe_file, serving
from tests.upstream import Exchange, Reply, Server, as_json, chunk, counts, event, stream

STEPS = 20
RECIPE = """
name = "three"
[[layers]]
agents = ["up:a", "up:b", "up:c"]
[aggregator]
model = "up:z"
"""
PARAMETERS: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DONE = "It rains everywhere."


def acts(steps: int) -> Any:
    """A model with tools asks for the weather of two cities at each step; without, it advises."""

    def answer(exchange: Exchange) -> Reply:
        asked = exchange.json
        if not asked.get("tools"):
            return said(asked, content="Look it up.")
        step = sum(message["role"] == "tool" for message in asked["messages"]) // 2
        if step == steps:
            return said(asked, content=DONE)
        calls = [
            {
                "index": at,
                "id": f"call_{step}_{at}",
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps({"city": f"City {step}.{at}"})},
            }
            for at in range(2)
        ]
        return said(asked, tool_calls=calls)

    return answer


def said(asked: dict[str, Any], **message: Any) -> Reply:
    """The answer, streamed in pieces if it is to be."""
    finish = "tool_calls" if "tool_calls" in message else "stop"
    if not asked.get("stream"):
        whole = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
        return as_json({"id": "c", "model": "said", "choices": [whole], "usage": counts()})
    pieces: list[Any] = []
    if "content" in message:
        pieces = [chunk(content=message["content"])]
    for call in message.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        begun = call | {"function": {"name": call["function"]["name"], "arguments": arguments[:5]}}
        rest = {"index": call["index"], "function": {"arguments": arguments[5:]}}
        pieces += [chunk(tool_calls=[begun]), chunk(tool_calls=[rest])]
    pieces += [chunk(finish), {"id": "c", "choices": [], "usage": counts()}]
    return stream(*map(event, pieces), event("[DONE]"))


@asynccontextmanager
async def acting(folder: Path, steps: int = STEPS) -> AsyncIterator[tuple[str, Server]]:
    """Our server's address, and the server behind it."""
    async with Server(acts(steps)) as upstream:
        provider = Provider(api="openai", base_url=f"{upstream.url}/v1", key_env=None, free=True)
        async with serving([recipe_file(folder, RECIPE)], providers={"up": provider}) as (url, _):
            yield url, upstream


def check_upstream(upstream: Server, steps: int = STEPS) -> None:
    """Proposers were asked once for the whole turn; the aggregator's prompt stayed, but for the advice at its end."""
    asked = [exchange.json for exchange in upstream.exchanges]
    advising = [request for request in asked if not request.get("tools")]
    assert sorted(request["model"] for request in advising) == ["a", "b", "c"]
    acting = [request for request in asked if request.get("tools")]
    assert len(acting) == steps + 1
    for before, after in pairwise(acting):
        assert after["messages"][: len(before["messages"]) - 1] == before["messages"][:-1]
        assert "Look it up." in after["messages"][-1]["content"]


class Cities:
    """What the calls asked for, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def look(self, arguments: Any) -> str:
        self.asked.append((json.loads(arguments) if isinstance(arguments, str) else arguments)["city"])
        return f"It rains in {self.asked[-1]}."

    def check(self, steps: int = STEPS) -> None:
        assert self.asked == [f"City {step}.{at}" for step in range(steps) for at in range(2)]


CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
RESPONSES_TOOLS: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}]
MESSAGES_TOOLS: Any = [{"name": "weather", "input_schema": PARAMETERS}]


def chat_turns(message: Any, cities: Cities) -> list[Any]:
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": cities.look(call.function.arguments)}
        for call in message.tool_calls or ()
    ]
    return [message.model_dump(exclude_none=True, exclude={"parsed"}), *results]


async def test_chat_completions_at_once(tmp_path: Path) -> None:
    cities = Cities()

    def loop(url: str) -> str | None:
        messages: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                answer = client.chat.completions.create(model="three", messages=messages, tools=CHAT_TOOLS)
                messages += chat_turns(answer.choices[0].message, cities)
        return answer.choices[0].message.content

    async with acting(tmp_path) as (url, upstream):
        assert await asyncio.to_thread(loop, url) == DONE
    cities.check()
    check_upstream(upstream)


async def test_chat_completions_streamed(tmp_path: Path) -> None:
    cities = Cities()
    messages: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
    async with acting(tmp_path) as (url, upstream):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                async with client.chat.completions.stream(model="three", messages=messages, tools=CHAT_TOOLS) as events:
                    answer = await events.get_final_completion()
                for call in (dumped := answer.choices[0].message).tool_calls or ():
                    call.function.parsed_arguments = None
                messages += chat_turns(dumped, cities)
    assert answer.choices[0].message.content == DONE
    cities.check()
    check_upstream(upstream)


def outputs(items: Any, cities: Cities) -> list[Any]:
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": cities.look(item.arguments)}
        for item in items
        if item.type == "function_call"
    ]


async def test_responses_at_once(tmp_path: Path) -> None:
    cities = Cities()

    def loop(url: str) -> str:
        given: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                answer = client.responses.create(model="three", input=given, tools=RESPONSES_TOOLS)
                given += [*answer.output, *outputs(answer.output, cities)]
        return answer.output_text

    async with acting(tmp_path) as (url, upstream):
        assert await asyncio.to_thread(loop, url) == DONE
    cities.check()
    check_upstream(upstream)


async def test_responses_streamed_each_going_on_from_the_one_before(tmp_path: Path) -> None:
    cities = Cities()
    given: Any = "Where does it rain?"
    before: Any = openai.omit
    async with acting(tmp_path) as (url, upstream):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                async with client.responses.stream(
                    model="three", input=given, tools=RESPONSES_TOOLS, previous_response_id=before
                ) as events:
                    answer = await events.get_final_response()
                given, before = outputs(answer.output, cities), answer.id
    assert answer.output_text == DONE
    cities.check()
    check_upstream(upstream)


def message_turns(message: Any, cities: Cities) -> list[Any]:
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": cities.look(block.input)}
        for block in message.content
        if block.type == "tool_use"
    ]
    return [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]


async def test_messages_at_once(tmp_path: Path) -> None:
    cities = Cities()

    def loop(url: str) -> str:
        messages: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                answer = client.messages.create(model="three", max_tokens=99, messages=messages, tools=MESSAGES_TOOLS)
                messages += message_turns(answer, cities)
        return str(getattr(answer.content[0], "text", ""))

    async with acting(tmp_path) as (url, upstream):
        assert await asyncio.to_thread(loop, url) == DONE
    cities.check()
    check_upstream(upstream)


async def test_messages_streamed(tmp_path: Path) -> None:
    cities = Cities()
    messages: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
    async with acting(tmp_path) as (url, upstream):
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
            for _ in range(STEPS + 1):
                async with client.messages.stream(
                    model="three", max_tokens=99, messages=messages, tools=MESSAGES_TOOLS
                ) as events:
                    answer = await events.get_final_message()
                messages += message_turns(answer, cities)
    assert getattr(answer.content[0], "text", "") == DONE
    cities.check()
    check_upstream(upstream)


@pytest.mark.parametrize("more", [(), ("--no-stream",)], ids=["streamed", "at once"])
async def test_the_tools_of_llm(tmp_path: Path, more: tuple[str, ...]) -> None:
    """`llm` as its users have it: a model of its own file, a tool in Python, a chain of calls to its end."""
    tool = 'def weather(city: str) -> str:\n    "The weather."\n    return f"It rains in {city}."\n'
    async with acting(tmp_path, steps=3) as (url, upstream):
        entry = f"- model_id: choir\n  model_name: three\n  api_base: {url}/v1\n  supports_tools: true\n"
        (tmp_path / "extra-openai-models.yaml").write_text(entry, encoding="utf-8")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "llm", "-m", "choir", "--key", "none", "--functions", tool, *more, "Where is rain?"],
            env=os.environ | {"LLM_USER_PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == DONE
    results = [message["content"] for message in upstream.exchanges[-1].json["messages"] if message["role"] == "tool"]
    assert results == [f"It rains in City {step}.{at}." for step in range(3) for at in range(2)]
    check_upstream(upstream, steps=3)
