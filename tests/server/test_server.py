"""The server over a real port: what clients of each API get, by the official SDKs and byte by byte."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from partsong.configuration import Serving
from partsong.events import from_json
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.server.application import Application
from partsong.server.incoming import identify
from partsong.server.problems import ProblemError
from tests.grammar import check
from tests.serving import recipe_file, serving

WEATHER: Any = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _no_keys_are_left() -> Iterator[None]:
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[str, Application]]:
    async with serving([recipe_file(tmp_path)], models=["scripted:e?echo=1", "scripted:y?text=No"]) as (url, app):
        yield url, app


def openai_at(url: str, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def anthropic_at(url: str, key: str = "none") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0)


async def test_the_openai_sdk_gets_a_completion(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="three", messages=[{"role": "user", "content": "Is it so?"}]
        )
        completion = raw.parse()
    assert completion.choices[0].message.content == "So it is"
    assert completion.choices[0].finish_reason == "stop"
    assert raw.headers["x-partsong-recipe"] == "three"
    assert raw.headers["x-partsong-losses"] == "0"
    report = completion.model_extra["partsong"]  # type: ignore[index]
    assert completion.id == f"chatcmpl-{report['run']}"
    assert [call["seat"] for call in report["calls"]] == [0, 1, 2, 0]
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == sum(call["input_tokens"] for call in report["calls"])
    assert completion.usage.completion_tokens == sum(call["output_tokens"] for call in report["calls"])


async def test_the_openai_sdk_streams_a_completion(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        pieces, usage = [], None
        async for chunk in await client.chat.completions.create(
            model="three",
            messages=[{"role": "user", "content": "Is it so?"}],
            stream=True,
            stream_options={"include_usage": True},
        ):
            pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            usage = chunk.usage or usage
    assert pieces == ["So", " it", " is"]
    assert usage is not None
    assert usage.completion_tokens == 3 + 1 + 1 + 3


async def test_several_answers_are_as_many_runs(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        completion = await client.chat.completions.create(
            model="three", n=2, messages=[{"role": "user", "content": "Is it so?"}]
        )
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert len({run["run"] for run in completion.model_extra["partsong"]["runs"]}) == 2  # type: ignore[index]


async def test_responses_go_on_from_one_another(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        first = await client.responses.create(model="three", input="Is it so?", instructions="Be brief.")
        assert first.output_text == "So it is"
        second = await client.responses.create(
            model="scripted:e?echo=1", input="And now?", previous_response_id=first.id
        )
        assert second.output_text == "And now?"
        store = server[1].service().store
        events = [event for _, event in await store.events(second.id.removeprefix("resp_"))]
        texts = [message.text for message in events[0].conversation.messages]  # type: ignore[union-attr]
        assert texts == ["Is it so?", "So it is", "And now?"]
        unkept = await client.responses.create(model="three", input="Is it so?", store=False)
        for missing in ("resp_nothing", unkept.id):
            with pytest.raises(openai.NotFoundError):
                await client.responses.create(model="three", input="More", previous_response_id=missing)


async def test_responses_stream_to_the_sdks_helper(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        async with client.responses.stream(model="three", input="Is it so?") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 3
    assert final.output_text == "So it is"


async def test_the_anthropic_sdk_gets_a_message(server: tuple[str, Application]) -> None:
    async with anthropic_at(server[0]) as client:
        message = await client.messages.create(
            model="three", max_tokens=100, messages=[{"role": "user", "content": "Is it so?"}]
        )
        assert message.content[0].text == "So it is"  # type: ignore[union-attr]
        assert message.stop_reason == "end_turn"
        counted = await client.messages.count_tokens(model="three", messages=[{"role": "user", "content": "Is it so?"}])
        assert counted.input_tokens > 0


async def test_the_anthropic_sdk_streams_a_message(server: tuple[str, Application]) -> None:
    async with anthropic_at(server[0]) as client:
        async with client.messages.stream(
            model="three", max_tokens=100, messages=[{"role": "user", "content": "Is it so?"}]
        ) as stream:
            pieces = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
    assert pieces == ["So", " it", " is"]
    assert message.usage.output_tokens == 3 + 1 + 1 + 3


def test_the_sdks_without_asyncio_do_as_well(tmp_path: Path) -> None:
    async def serve_and_ask() -> tuple[str | None, str]:
        async with serving([recipe_file(tmp_path)]) as (url, _):
            return await asyncio.to_thread(ask, url)

    def ask(url: str) -> tuple[str | None, str]:
        question: Any = [{"role": "user", "content": "Is it so?"}]
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            one = client.chat.completions.create(model="three", messages=question).choices[0].message.content
        with anthropic.Anthropic(base_url=url, api_key="none") as other:
            two = other.messages.create(model="three", max_tokens=9, messages=question).content[0]
        return one, two.text  # type: ignore[union-attr]

    assert asyncio.run(serve_and_ask()) == ("So it is", "So it is")


async def test_models_are_listed_for_both_sdks(server: tuple[str, Application]) -> None:
    async with openai_at(server[0]) as client:
        assert [model.id async for model in client.models.list()] == ["three"]
        assert (await client.models.retrieve("three")).owned_by == "partsong"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("four")
    async with anthropic_at(server[0]) as other:
        assert [model.id async for model in other.models.list()] == ["three"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/chat/completions", b"{", 400, "JSON"),
        ("/v1/chat/completions", b'{"model": "none", "messages": [{"role": "user", "content": "x"}]}', 404, "three"),
        ("/v1/chat/completions", b'{"model": "three", "messages": []}', 400, "messages"),
        (
            "/v1/chat/completions",
            b'{"model": "three", "messages": [{"role": "user", "content": "x"}], "logprobs": true}',
            400,
            "logprobs",
        ),
        (
            "/v1/chat/completions",
            b'{"model": "three", "messages": [{"role": "user", "content": "x"}], "partsong": {"stric": true}}',
            400,
            "stric",
        ),
        ("/v1/messages", b'{"model": "three", "messages": [{"role": "user", "content": "x"}]}', 400, "max_tokens"),
        ("/v1/responses", b'{"model": "three", "input": "x", "conversation": "c"}', 400, "conversation"),
        ("/v1/nothing", b"{}", 404, "nothing"),
    ],
)
async def test_what_is_wrong_is_said_in_the_apis_own_shape(
    server: tuple[str, Application], path: str, body: bytes, status: int, said: str
) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(server[0] + path, data=body, headers={"content-type": "application/json"}) as response:
            assert response.status == status
            answer = await response.json()
    assert said in answer["error"]["message"]
    if path == "/v1/messages":
        assert answer["type"] == "error"


async def test_a_page_of_the_web_may_not_call(server: tuple[str, Application]) -> None:
    body = b'{"model": "three", "messages": [{"role": "user", "content": "x"}]}'
    async with aiohttp.ClientSession() as session:
        for headers in (
            {"content-type": "text/plain"},
            {"content-type": "application/json", "origin": "https://a.test"},
        ):
            async with session.post(server[0] + "/v1/chat/completions", data=body, headers=headers) as response:
                assert response.status in (400, 403)


async def test_keys_are_asked_for_once_there_is_one(tmp_path: Path) -> None:
    secret = Keys(keys_path()).add("alice", recipes=("three",))
    both = [
        recipe_file(tmp_path),
        recipe_file(
            tmp_path,
            name="four",
            text='name = "four"\n[aggregator]\nmodel = "{aggregator}"\n[[layers]]\nagents=["scripted:a"]',
        ),
    ]
    question: Any = [{"role": "user", "content": "Is it so?"}]
    async with serving(both) as (url, _):
        async with openai_at(url, "wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="three", messages=question)
        async with openai_at(url, secret) as client:
            completion = await client.chat.completions.create(model="three", messages=question)
            assert completion.choices[0].message.content == "So it is"
            with pytest.raises(openai.PermissionDeniedError):
                await client.chat.completions.create(model="four", messages=question)
            assert [model.id async for model in client.models.list()] == ["three"]
            run = completion.id.removeprefix("chatcmpl-")
            assert await told(url, run, secret) == 200
        async with anthropic_at(url, secret) as other:
            assert (await other.messages.create(model="three", max_tokens=9, messages=question)).content
        bob = Keys(keys_path()).add("bob")
        assert await told(url, run, bob) == 404


async def told(url: str, run: str, key: str) -> int:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/v1/runs/{run}/events", headers={"authorization": f"Bearer {key}"}) as response:
            await response.read()
            return response.status


async def test_a_keys_money_is_its_own(tmp_path: Path) -> None:
    poor = Keys(keys_path()).add("poor", dollars_per_day=0)
    rich = Keys(keys_path()).add("rich")
    aggregator = "scripted:z?text=So+it+is&input=1000000&output=1000000"
    question: Any = [{"role": "user", "content": "Is it so?"}]
    async with serving([recipe_file(tmp_path, aggregator=aggregator)]) as (url, _):
        async with openai_at(url, poor) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await client.chat.completions.create(model="three", messages=question)
            assert caught.value.status_code == 402
        async with openai_at(url, rich) as client:
            assert (await client.chat.completions.create(model="three", messages=question)).choices


async def test_options_are_the_requests_own(server: tuple[str, Application]) -> None:
    question: Any = [{"role": "user", "content": "Is it so?"}]
    async with openai_at(server[0]) as client:
        other = {"partsong": {"recipe": {"aggregator": "scripted:y?text=No"}}}
        changed = await client.chat.completions.create(model="three", messages=question, extra_body=other)
        assert changed.choices[0].message.content == "No"
        again = await client.chat.completions.create(model="three", messages=question)
        assert again.choices[0].message.content == "So it is"
        whole = {"X-Partsong": '{"usage": "answer"}'}
        alone = await client.chat.completions.create(model="three", messages=question, extra_headers=whole)
        assert alone.usage is not None
        assert alone.usage.completion_tokens == 3


async def test_events_are_added_where_they_are_wanted_and_told_afterwards(server: tuple[str, Application]) -> None:
    question: Any = [{"role": "user", "content": "Is it so?"}]
    async with openai_at(server[0]) as client:
        text, events, run = "", [], ""
        async for chunk in await client.chat.completions.create(
            model="three", messages=question, stream=True, extra_body={"partsong": {"events": True}}
        ):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            extra = (chunk.model_extra or {}).get("partsong", {})
            events += [extra["event"]] if "event" in extra else []
            run = chunk.id.removeprefix("chatcmpl-")
    assert text == "So it is"
    assert events[0] == "run_started"
    assert events[-1] == "run_finished"
    assert "proposal_delta" in events
    lines = []
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{server[0]}/v1/runs/{run}/events") as response:
            lines = [line async for line in response.content if line.startswith(b"data: ")]
    check([from_json(line.removeprefix(b"data: ")) for line in lines])


async def test_a_failed_run_has_the_status_of_its_cause(tmp_path: Path) -> None:
    question: Any = [{"role": "user", "content": "Is it so?"}]
    before = recipe_file(
        tmp_path,
        name="before",
        text='name = "before"\n[aggregator]\nmodel = "{aggregator}"\n[[layers]]\nagents=["scripted:a"]',
        aggregator="scripted:z?fail=timeout",
    )
    amid = recipe_file(
        tmp_path,
        name="amid",
        text='name = "amid"\n[aggregator]\nmodel = "{aggregator}"\n[[layers]]\nagents=["scripted:a"]',
        aggregator="scripted:z?fail=server&after=3",
    )
    async with serving([before, amid]) as (url, _):
        async with openai_at(url) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                await client.chat.completions.create(model="before", messages=question, stream=True)
            assert caught.value.status_code == 504
            heard: list[str | None] = []
            stream = await client.chat.completions.create(model="amid", messages=question, stream=True)
            with pytest.raises(openai.APIError, match="failed, as its script says"):
                heard.extend([choice.delta.content async for chunk in stream for choice in chunk.choices])
        async with anthropic_at(url) as other:
            manager = other.messages.stream(model="amid", max_tokens=99, messages=question)
            async with manager as said:
                with pytest.raises(anthropic.APIStatusError):
                    await said.until_done()
                assert len(said.current_message_snapshot.content) == 1


async def test_a_client_that_leaves_ends_its_run(tmp_path: Path) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=100000&each=0.01")
    body = {"model": "three", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    async with serving([slow]) as (url, app):
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                await response.content.readline()
                assert len(app.service().working) == 1
        while app.service().working:
            await asyncio.sleep(0.01)
        (run,) = await app.service().store.runs(1)
        assert run.cause == "cancelled"


async def test_requests_beyond_the_limit_are_told_when_to_come_again(tmp_path: Path) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=100000&each=0.01")
    body = {"model": "three", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    async with serving([slow], server=Serving(at_once=1, waiting=0)) as (url, _):
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                await response.content.readline()
                async with session.post(f"{url}/v1/chat/completions", json=body) as other:
                    assert other.status == 503
                    assert int(other.headers["retry-after"]) >= 1


async def test_health_and_readiness(server: tuple[str, Application]) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/readyz"):
            async with session.get(server[0] + path) as response:
                assert response.status == 200
                assert json.loads(await response.read())["status"] in ("ok", "ready")


async def test_a_body_beyond_the_limit_is_refused(server: tuple[str, Application]) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(34):
            yield os.urandom(1) * 1024 * 1024

    async with aiohttp.ClientSession() as session:
        headers = {"content-type": "application/json"}
        try:
            async with session.post(f"{server[0]}/v1/messages", data=endless(), headers=headers) as response:
                assert response.status == 413
        except aiohttp.ClientError:  # it may be hung up on while it is still sending
            pass


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_each_run_is_a_line_of_the_log_without_a_word_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: Any
) -> None:
    question: Any = [{"role": "user", "content": "Is it a secret?"}]
    async with serving([recipe_file(tmp_path)], server=Serving(log=kind)) as (url, _):
        async with openai_at(url) as client:
            completion = await client.chat.completions.create(model="three", messages=question)
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="no\x1bne", messages=question)
    lines = [line for line in capfd.readouterr().err.splitlines() if "three" in line]
    assert completion.id.removeprefix("chatcmpl-") in lines[0]
    assert "finished" in lines[0]
    assert "refused" in lines[1]
    assert not any("secret" in line or "\x1b" in line for line in lines)
    if kind == "json":
        assert json.loads(lines[0])["losses"] == 0


def test_without_keys_only_this_machine_may_ask() -> None:
    none = Keys(keys_path())
    for near in ("127.0.0.1", "::1"):
        assert identify({"client": (near, 1)}, {}, none, ()) is None
    with pytest.raises(ProblemError) as caught:
        identify({"client": ("192.0.2.7", 1)}, {}, none, ())
    assert caught.value.problem.status == 401


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_against_its_schema_is_written_again_where_it_was_not_heard(
    server: tuple[str, Application], stream: bool
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
    asked = {"model": "three", "messages": [{"role": "user", "content": "?"}], "response_format": form}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server[0]}/v1/chat/completions", json={**asked, "stream": stream}) as response,
    ):
        text = await response.text()
    assert response.status == (200 if stream else 502)
    assert ('"content":"So"' in text) is stream
    assert "did not answer as it was to" in text
    assert ("twice" in text) is not stream


async def test_thinking_may_be_cleared_from_the_context_and_nothing_else() -> None:
    from partsong.errors import RequestError
    from partsong.wire.messages.parse import parse_request

    def asking(edit: str) -> bytes:
        return (
            b'{"model":"a","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],'
            b'"context_management":{"edits":[{"type":"%s","keep":"all"}]}}' % edit.encode()
        )

    assert parse_request(asking("clear_thinking_20251015")).model == "a"
    with pytest.raises(RequestError, match=r"context_management\.edits\[0\]\.type: clear_tool_uses_20250919"):
        parse_request(asking("clear_tool_uses_20250919"))


async def test_a_system_turn_after_the_users_belongs_to_it() -> None:
    from partsong.wire.messages.parse import parse_request

    body = (
        b'{"model":"a","max_tokens":9,"messages":[{"role":"user","content":"Hi"},'
        b'{"role":"system","content":"Be brief."},'
        b'{"role":"assistant","content":"Yes?"},{"role":"user","content":"Why?"},'
        b'{"role":"system","content":[{"type":"text","text":"Be kind."}]}]}'
    )
    messages = parse_request(body).conversation.messages
    assert [(message.role, [part.text for part in message.parts]) for message in messages] == [  # type: ignore[union-attr]
        ("user", ["Hi", "\n\n", "Be brief."]),
        ("assistant", ["Yes?"]),
        ("user", ["Why?", "\n\n", "Be kind."]),
    ]


async def test_a_cap_that_pays_for_no_proposal_refuses_a_recipe_that_selects(tmp_path: Path) -> None:
    text = """
name = "rank"
[[layers]]
agents = ["scripted:a?output=10", "scripted:b?output=10"]
[aggregator]
model = "scripted:z?text=1&output=1"
method = "select"
max_tokens = 8
"""
    asked = {"model": "rank", "messages": [{"role": "user", "content": "Which?"}], "partsong": {"max_dollars": 0.01}}
    async with serving([recipe_file(tmp_path, text, "rank")]) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=asked) as response:
            assert response.status == 402
            said = (await response.json())["error"]
    assert said["code"] == "budget"
    assert said["message"].startswith(
        "rank: its aggregator selects one of the proposals; with 2 of them the run may cost"
    )
