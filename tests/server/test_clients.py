"""What the official SDKs send by themselves in each of their helpers, over a real port."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import anthropic
import openai
import pydantic
import pytest
from anthropic import beta_async_tool, beta_tool
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent

from partsong.wire import messages
from partsong.wire.reply import Head
from partsong.wire.sse import Decoder
from tests.server.test_agents import DONE, acting
from tests.serving import THREE, recipe_file, serving

ASK: Any = [{"role": "user", "content": "Where does it rain?"}]


class Weather(pydantic.BaseModel):
    city: str
    rains: bool


WEATHER = "scripted:z?text=" + quote('{"city":"Rome","rains":true}')


# ---- Anthropic's helpers


def test_the_tool_runner_of_anthropic_goes_on_without_a_thread(tmp_path: Path) -> None:
    seen: list[str] = []

    @beta_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        seen.append(city)
        return f"It rains in {city}."

    def run(url: str, **options: Any) -> str:
        with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
            runner = client.beta.messages.tool_runner(
                model="three", max_tokens=99, messages=ASK, tools=[weather], **options
            )
            if not options:
                return text_of(runner.until_done())
            for stream in runner:
                last = stream.get_final_message()
            return text_of(last)

    async def drive() -> None:
        async with acting(tmp_path, 2) as (url, _):
            assert await asyncio.to_thread(run, url) == DONE
            assert await asyncio.to_thread(run, url, stream=True) == DONE

    asyncio.run(drive())
    assert seen == ["City 0.0", "City 0.1", "City 1.0", "City 1.1"] * 2


async def test_the_asynchronous_tool_runner_runs_its_tools_while_the_answer_streams(tmp_path: Path) -> None:
    seen: list[str] = []

    @beta_async_tool
    async def weather(city: str) -> str:
        """The weather of a city."""
        seen.append(city)
        return f"It rains in {city}."

    async with acting(tmp_path, 2) as (url, _), anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        runner = client.beta.messages.tool_runner(
            model="three", max_tokens=99, messages=ASK, tools=[weather], stream=True, run_tools_eagerly=True
        )
        async for stream in runner:
            last = await stream.get_final_message()
    assert text_of(last) == DONE
    assert sorted(seen) == ["City 0.0", "City 0.1", "City 1.0", "City 1.1"]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


async def test_a_thread_is_refused_with_the_code_that_anthropics_sdk_knows(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
            with pytest.raises(anthropic.BadRequestError) as caught:
                await client.beta.messages.create(model="three", max_tokens=9, messages=ASK, thread={"type": "create"})
            assert caught.value.error_code == "thread_unsupported_request"
            assert "thread" in str(caught.value)


async def test_the_parsing_helpers_of_anthropic_get_their_object(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, aggregator=WEATHER)
    async with serving([recipe]) as (url, _), anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        plain = await client.messages.parse(model="three", max_tokens=99, messages=ASK, output_format=Weather)
        beta = await client.beta.messages.parse(model="three", max_tokens=99, messages=ASK, output_format=Weather)
        async with client.messages.stream(model="three", max_tokens=99, messages=ASK, output_format=Weather) as stream:
            streamed = await stream.get_final_message()
    for message in (plain, beta, streamed):
        assert message.parsed_output == Weather(city="Rome", rains=True)


# ---- OpenAI's helpers


async def test_the_parsing_helpers_of_openai_get_their_object(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, aggregator=WEATHER)
    async with serving([recipe]) as (url, _), openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        completion = await client.chat.completions.parse(model="three", messages=ASK, response_format=Weather)
        response = await client.responses.parse(model="three", input=ASK, text_format=Weather)
        async with client.responses.stream(model="three", input=ASK, text_format=Weather) as events:
            streamed = await events.get_final_response()
        async with client.chat.completions.stream(model="three", messages=ASK, response_format=Weather) as chunks:
            chatted = await chunks.get_final_completion()
    assert completion.choices[0].message.parsed == Weather(city="Rome", rains=True)
    assert response.output_parsed == streamed.output_parsed == Weather(city="Rome", rains=True)
    assert chatted.choices[0].message.parsed == Weather(city="Rome", rains=True)


# ---- headers


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", {"model": "three", "messages": ASK}, 200),
        ("POST", "/v1/chat/completions", {"model": "three", "messages": ASK, "stream": True}, 200),
        ("POST", "/v1/messages", {"model": "three", "max_tokens": 9, "messages": ASK}, 200),
        ("POST", "/v1/messages", {"model": "three", "messages": ASK}, 400),
        ("POST", "/v1/messages/count_tokens", {"model": "three", "messages": ASK}, 200),
        ("POST", "/v1/responses", {"model": "nothing", "input": "x"}, 404),
        ("GET", "/v1/models", None, 200),
        ("GET", "/v1/models/nothing", None, 404),
        ("GET", "/v1/nowhere", None, 404),
        ("PUT", "/v1/messages", {}, 405),
        ("GET", "/healthz", None, 200),
    ],
)
async def test_each_response_bears_an_id_of_its_own(
    tmp_path: Path, method: str, path: str, body: Any, status: int
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        ids = set()
        for _ in range(2):
            async with session.request(method, url + path, json=body) as response:
                assert response.status == status
                text = await response.text()
                assert response.headers["x-request-id"] == response.headers["request-id"]
                ids.add(response.headers["request-id"])
                if path.startswith("/v1/messages") and status != 200:
                    assert json.loads(text)["request_id"] == response.headers["request-id"]
        assert len(ids) == 2


async def test_the_id_of_a_run_is_that_of_its_request(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            completion = await client.chat.completions.create(model="three", messages=ASK)
    assert completion.id == f"chatcmpl-{completion._request_id}"


SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("aggregator", "more", "status", "tries"),
    [
        ("scripted:z?text=no+JSON", {"response_format": SCHEMA}, 502, 1),
        ("scripted:z?tokens=100&each=0.2", {"partsong": {"deadline": 0.3}}, 504, 1),
        ("scripted:z?fail=auth", {}, 500, 1),
        ("scripted:z?text=x", {"partsong": {"strict": True}}, 502, 1),
        ("scripted:z?fail=resting", {}, 503, 3),
    ],
)
async def test_a_run_that_would_fail_again_is_bought_once(
    tmp_path: Path, aggregator: str, more: dict[str, Any], status: int, tries: int
) -> None:
    asked = 0

    async def count(_: Any) -> None:
        nonlocal asked
        asked += 1

    text = THREE.replace("scripted:b?text=two", "scripted:b?fail=server") if "strict" in str(more) else THREE
    async with serving([recipe_file(tmp_path, text, aggregator=aggregator)]) as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2) as client:
            client._client.event_hooks["request"].append(count)
            with pytest.raises(openai.APIStatusError) as caught:
                await client.chat.completions.create(model="three", messages=ASK, extra_body=more)
    assert caught.value.status_code == status
    assert (caught.value.response.headers.get("x-should-retry"), asked) == ("false" if tries == 1 else None, tries)


# ---- addresses


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/v1"])
async def test_the_apis_stand_at_their_addresses_with_and_without_a_version(tmp_path: Path, prefix: str) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        for path, body in (
            ("/chat/completions", {"messages": ASK}),
            ("/responses", {"input": ASK}),
            ("/messages", {"max_tokens": 9, "messages": ASK}),
            ("/messages/count_tokens", {"messages": ASK}),
        ):
            async with session.post(f"{url}{prefix}{path}", json={"model": "three", **body}) as response:
                assert response.status == 200, path
        async with session.get(f"{url}{prefix}/models/three") as response:
            assert (await response.json())["id"] == "three"
        async with session.post(f"{url}{prefix}/messages", json={}) as response:
            assert (await response.json())["type"] == "error"  # in the shape of the API that was addressed


# ---- JSON in a code fence


FENCED = "scripted:z?text=" + quote('```json\n{"city":"Rome","rains":true}\n```')


async def test_json_in_a_code_fence_reaches_the_parsing_helpers(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path, aggregator=FENCED)]) as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            response = await client.responses.parse(model="three", input=ASK, text_format=Weather)
            async with client.chat.completions.stream(model="three", messages=ASK, response_format=Weather) as chunks:
                streamed = await chunks.get_final_completion()
            plain = await client.chat.completions.create(model="three", messages=ASK)
    assert response.output_parsed == streamed.choices[0].message.parsed == Weather(city="Rome", rains=True)
    assert plain.choices[0].message.content == '```json\n{"city":"Rome","rains":true}\n```'


# ---- what Anthropic's API requires of a message


MESSAGE = {
    "id",
    "type",
    "role",
    "content",
    "model",
    "stop_reason",
    "stop_sequence",
    "stop_details",
    "container",
    "usage",
}
USAGE = {
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "server_tool_use",
    "service_tier",
}


async def test_messages_have_every_field_that_their_api_requires(tmp_path: Path) -> None:
    body = {"model": "three", "max_tokens": 9, "messages": ASK}
    async with serving([recipe_file(tmp_path)]) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/messages", json=body) as response:
            whole = await response.json()
        async with session.post(f"{url}/v1/messages", json={**body, "stream": True}) as response:
            lines = [line for line in (await response.text()).splitlines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    for message in (whole, events[0]["message"]):
        assert message.keys() >= MESSAGE
        assert message["usage"].keys() >= USAGE
        BetaMessage.model_validate({key: value for key, value in message.items() if key != "partsong"}, strict=True)
    assert whole["content"] == [{"type": "text", "text": "So it is"}]
    for event in events:
        EVENT.validate_python({key: value for key, value in event.items() if key != "partsong"}, strict=True)


EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(BetaRawMessageStreamEvent)


async def test_keeping_a_stream_alive_is_an_event_that_the_sdks_know() -> None:
    request = messages.parse_request(json.dumps({"model": "m", "max_tokens": 9, "messages": ASK}).encode())
    stream = messages.Stream(request, Head("r", 1, "m"))
    assert Decoder().feed(stream.wait()) == [("ping", b'{"type":"ping"}')]
