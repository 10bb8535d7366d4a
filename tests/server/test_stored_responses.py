"""Responses that are kept: found by their id and their items' ids, and made in the background, by OpenAI's SDK."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import Response

from partsong.bounds import Bounds
from partsong.configuration import Configuration, Serving
from partsong.folders import keys_path
from partsong.keys import Keys
from tests.server.test_agents import DONE, RESPONSES_TOOLS, Cities, acting, outputs
from tests.serving import recipe_file, serving

SLOW = "scripted:z?tokens=40&each=0.1"


@pytest.fixture(autouse=True)
def _no_keys_are_left() -> Iterator[None]:
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    slow = recipe_file(tmp_path, name="slow", aggregator=SLOW)
    Path(slow).write_text(Path(slow).read_text("utf-8").replace('name = "three"', 'name = "slow"'), "utf-8")
    async with serving([recipe_file(tmp_path), slow]) as (url, _):
        yield url


def client_of(url: str, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_a_stored_response_is_what_was_answered(url: str) -> None:
    async with client_of(url) as client:
        made = await client.responses.create(
            model="three",
            input="Is it so?",
            instructions="Be brief.",
            metadata={"keep": "this", "api": "mine"},
            temperature=0.5,
            max_output_tokens=99,
            tools=RESPONSES_TOOLS,
            text={"format": {"type": "text"}, "verbosity": "low"},
        )
        found = await client.responses.retrieve(made.id)
        assert found.to_dict() == made.to_dict()
        page = await client.responses.input_items.list(made.id)
        assert [item.to_dict()["content"] for item in page.data] == [[{"type": "input_text", "text": "Is it so?"}]]
        await client.responses.delete(made.id)
        for gone in (client.responses.retrieve(made.id), client.responses.delete(made.id)):
            with pytest.raises(openai.NotFoundError):
                await gone


async def test_a_streamed_response_is_kept_with_the_same_items_and_its_schema(url: str) -> None:
    async with client_of(url) as client:
        async with client.responses.stream(model="three", input="Is it so?") as events:
            streamed = await events.get_final_response()
        found = await client.responses.retrieve(streamed.id)
        assert found.output_text == streamed.output_text
        ids = [[getattr(item, "id", "") for item in each.output] for each in (found, streamed)]
        assert ids[0] == ids[1]
        assert found.usage == streamed.usage


async def test_input_items_come_page_by_page(url: str) -> None:
    said: list[Any] = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://e.org/a.png"}]},
    ]
    async with client_of(url) as client:
        made = await client.responses.create(model="three", input=said, tools=RESPONSES_TOOLS)
        listed = [item async for item in client.responses.input_items.list(made.id, limit=2, order="asc")]
        assert [item.type for item in listed] == [
            "message",
            "message",
            "function_call",
            "function_call_output",
            "message",
        ]
        newest = await client.responses.input_items.list(made.id, limit=1)
        assert newest.has_more
        assert newest.data[0].id == listed[-1].id
        with pytest.raises(openai.BadRequestError):
            await client.responses.input_items.list(made.id, limit=101)


async def test_responses_that_are_not_kept_and_other_callers_are_not_found(tmp_path: Path) -> None:
    mine, other = (Keys(keys_path()).add(name) for name in ("mine", "other"))
    async with serving([recipe_file(tmp_path)]) as (url, _), client_of(url, mine) as client:
        unkept = await client.responses.create(model="three", input="x", store=False)
        made = await client.responses.create(model="three", input="x")
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(unkept.id)
        async with client_of(url, other) as stranger:
            refer: Any = [{"type": "item_reference", "id": made.output[0].id}, {"role": "user", "content": "y"}]
            for attempt in (
                stranger.responses.retrieve(made.id),
                stranger.responses.delete(made.id),
                stranger.responses.cancel(made.id),
                stranger.responses.input_items.list(made.id),
                stranger.responses.create(model="three", input=refer),
                stranger.responses.create(model="three", input="y", previous_response_id=made.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await attempt
        assert (await client.responses.retrieve(made.id)).id == made.id


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_that_refers_to_its_earlier_items_is_understood(tmp_path: Path, stream: bool) -> None:
    """As Vercel's AI SDK does by default: what the server said is sent back as `item_reference`."""
    cities = Cities()
    given: list[Any] = [{"role": "user", "content": "Where does it rain?"}]
    async with acting(tmp_path, 3) as (url, upstream), client_of(url) as client:
        for _ in range(4):
            if stream:
                async with client.responses.stream(model="three", input=given, tools=RESPONSES_TOOLS) as events:
                    answer: Any = await events.get_final_response()
            else:
                answer = await client.responses.create(model="three", input=given, tools=RESPONSES_TOOLS)
            given += [{"type": "item_reference", "id": item.id} for item in answer.output]
            given += outputs(answer.output, cities)
        given.append({"role": "user", "content": "Thanks?"})
        await client.responses.create(model="three", input=given, tools=RESPONSES_TOOLS)
    assert answer.output_text == DONE
    cities.check(3)
    last = upstream.exchanges[-1].json["messages"]
    assert [message["role"] for message in last].count("tool") == 6
    assert sum(DONE in str(message.get("content")) for message in last if message["role"] == "assistant") == 1


async def test_an_item_that_nobody_said_is_not_found(url: str) -> None:
    async with client_of(url) as client:
        made = await client.responses.create(model="three", input="x")
        for name in ("msg_1", "call_abc", f"fc_{made.id[5:]}_0x", "rs_nobody_0"):
            refer: Any = [{"type": "item_reference", "id": name}, {"role": "user", "content": "y"}]
            if name.startswith("fc_"):  # that response called no tool: the reference says nothing
                await client.responses.create(model="three", input=refer)
                continue
            with pytest.raises(openai.NotFoundError) as caught:
                await client.responses.create(model="three", input=refer)
            assert caught.value.code == "item_not_found"


async def test_references_to_items_have_a_bound(tmp_path: Path) -> None:
    bounds = Bounds(referenced_items=2)
    async with (
        serving([recipe_file(tmp_path)], configuration=Configuration(bounds=bounds)) as (url, _),
        client_of(url) as client,
    ):
        made = await client.responses.create(model="three", input="x")
        refer: list[Any] = [{"type": "item_reference", "id": made.output[0].id}]
        question: Any = {"role": "user", "content": "y"}
        assert (await client.responses.create(model="three", input=[*refer * 2, question])).output_text
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="three", input=[*refer * 3, question])
        assert caught.value.param == "input"
        assert "more than 2 items of earlier responses" in str(caught.value)


async def polled(client: openai.AsyncOpenAI, name: str) -> Response:
    for _ in range(400):
        found = await client.responses.retrieve(name)
        if found.status not in ("queued", "in_progress"):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("it does not end")


async def test_a_response_in_the_background_is_polled_to_its_end(url: str) -> None:
    async with client_of(url) as client:
        begun = await client.responses.create(model="slow", input="Is it so?", background=True)
        assert (begun.status, begun.background, begun.output) == ("in_progress", True, [])
        assert (await client.responses.retrieve(begun.id)).status == "in_progress"
        done = await polled(client, begun.id)
        assert done.status == "completed"
        assert done.output_text
        assert done.usage is not None
        again = await client.responses.create(model="three", input="And?", previous_response_id=begun.id)
        assert again.output_text == "So it is"


async def test_a_response_in_the_background_can_be_cancelled(url: str) -> None:
    async with client_of(url) as client:
        begun = await client.responses.create(model="slow", input="Is it so?", background=True)
        cancelled = await client.responses.cancel(begun.id)
        assert (cancelled.status, cancelled.error) == ("cancelled", None)
        assert (await client.responses.cancel(begun.id)).status == "cancelled"
        assert (await client.responses.retrieve(begun.id)).status == "cancelled"
        plain = await client.responses.create(model="three", input="x")
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel(plain.id)


async def test_a_response_that_fails_in_the_background_says_why(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, aggregator="scripted:z?fail=refused")
    async with serving([recipe]) as (url, _), client_of(url) as client:
        begun = await client.responses.create(model="three", input="Is it so?", background=True)
        done = await polled(client, begun.id)
        assert done.status == "failed"
        assert done.error is not None
        assert "failed, as its script says" in done.error.message


async def test_a_stream_in_the_background_is_taken_up_where_it_was_left(url: str) -> None:
    async with client_of(url) as client:
        heard: list[Any] = []
        async with client.responses.stream(model="slow", input="Is it so?", background=True) as stream:
            async for event in stream:
                heard.append(event)
                if event.type == "response.output_text.delta" and event.sequence_number > 6:
                    break
        last = heard[-1].sequence_number
        name = heard[0].response.id
        rest = [each async for each in await client.responses.retrieve(name, stream=True, starting_after=last)]
        assert [event.sequence_number for event in rest] == list(range(last + 1, last + 1 + len(rest)))
        assert rest[-1].type == "response.completed"
        words = "".join(event.delta for event in [*heard, *rest] if event.type == "response.output_text.delta")
        assert words == rest[-1].response.output_text
        async with client.responses.stream(response_id=name, starting_after=last) as resumed:
            assert (await resumed.get_final_response()).output_text == words
        assert (await client.responses.retrieve(name)).output_text == words


async def test_what_the_background_needs_is_said(tmp_path: Path) -> None:
    async with serving([recipe_file(tmp_path)], mode="metadata") as (url, _), client_of(url) as client:
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.create(model="three", input="x", background=True)
    async with serving([recipe_file(tmp_path)], server=Serving()) as (url, _), client_of(url) as client:
        with pytest.raises(openai.BadRequestError, match="background"):
            await client.responses.create(model="three", input="x", background=True, store=False)


async def test_the_tokens_of_a_request_are_counted_with_what_it_goes_on_from(url: str) -> None:
    async with client_of(url) as client:
        made = await client.responses.create(model="three", input="Is it so? " * 100)
        short = await client.responses.input_tokens.count(model="three", input="And?")
        long = await client.responses.input_tokens.count(model="three", input="And?", previous_response_id=made.id)
    assert (short.object, short.input_tokens < 20, long.input_tokens > 200) == ("response.input_tokens", True, True)


@pytest.mark.parametrize("query", ["stream=true&starting_after=-1", "stream=true&starting_after=x"])
async def test_a_stream_is_taken_up_behind_a_number_alone(url: str, query: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/responses", json={"model": "three", "input": "x"}) as made:
            name = (await made.json())["id"]
        async with session.get(f"{url}/v1/responses/{name}?{query}") as response:
            assert response.status == 400
            assert json.loads(await response.text())["error"]["param"] == "starting_after"
