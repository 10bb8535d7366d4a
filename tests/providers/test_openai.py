"""OpenAI-compatible models against a real server that behaves, has its quirks, and misbehaves."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest

from partsong.errors import Cause, ModelError
from partsong.model import (
    Answer,
    Delta,
    Image,
    Message,
    Reasoning,
    ReasoningDelta,
    Request,
    Sampling,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.upstream import (
    HTML,
    NOTHING,
    RESET,
    SILENCE,
    Exchange,
    Reply,
    Server,
    as_json,
    chat,
    chunk,
    counts,
    event,
    status,
    stream,
)

KEY = "sk-secret-0123456789"
ASKED = Request((Message("user", (Text("Why?"),)),))
SAMPLED = Request(ASKED.messages, sampling=Sampling(0.7, 0.9, 100, 5))
DONE = event("[DONE]")


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(silence=5) as http:
        yield http


def model(http: Http, server: Server, name: str = "m") -> OpenAI:
    return OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name=name, key=KEY)


class Listener:
    """Hears deltas."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    async def __call__(self, delta: Delta) -> None:
        self.deltas.append(delta)


async def streamed(http: Http, answer: Reply, request: Request = ASKED) -> tuple[Answer, list[Delta]]:
    listener = Listener()
    async with Server(answer) as server:
        return await model(http, server)(request, listener), listener.deltas


async def fault(http: Http, answer: Reply, *, plain: bool = False, request: Request = ASKED) -> ModelError:
    async with Server(answer) as server:
        with pytest.raises(ModelError) as caught:
            await model(http, server)(request, None if plain else Listener())
        assert len(server.exchanges) == 1
    assert KEY not in repr(caught.value.__dict__) + str(caught.value) + repr(caught.value.__cause__)
    return caught.value


# ---- as it should be


async def test_a_plain_call(http: Http) -> None:
    async with Server(chat("Hello, world.")) as server:
        answer = await model(http, server)(ASKED, None)
    assert answer == Answer((Text("Hello, world."),), "stop", Usage(11, 7), "said")
    sent = server.exchanges[0]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.json == {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


async def test_a_stream(http: Http) -> None:
    listener = Listener()
    async with Server(chat("Hello, world.")) as server:
        answer = await model(http, server)(ASKED, listener)
    assert answer == Answer((Text("Hello, world."),), "stop", Usage(11, 7), "said")
    assert listener.deltas == [TextDelta("Hello, "), TextDelta("world.")]
    sent = server.exchanges[0].json
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})


async def test_without_a_key_none_is_sent(http: Http) -> None:
    async with Server(chat()) as server:
        await OpenAI(http, provider="lab", base_url=f"{server.url}/v1/", name="m")(ASKED, None)
    assert "Authorization" not in server.exchanges[0].headers
    assert server.exchanges[0].path == "/v1/chat/completions"


async def test_all_that_one_read_brings_is_one_delta(http: Http) -> None:
    one, two, three = (event(chunk(content=word)) for word in ("a", "b", "c"))
    last = event(chunk("stop"))
    answer, deltas = await streamed(http, stream(one + two + three[:20], three[20:] + last + DONE))
    assert deltas == [TextDelta("ab"), TextDelta("c")]
    assert answer.text == "abc"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_reads_may_end_anywhere(http: Http, size: int) -> None:
    words = "Grüße 😀"
    sent = event(chunk(content=words)).replace(b"\\u", b"\\u")
    raw = f'data: {{"choices":[{{"delta":{{"content":"{words}"}}}}]}}\r\n\r\n'.encode() + event(chunk("stop")) + DONE
    answer, deltas = await streamed(
        http, stream(*((sent + raw)[i : i + size] for i in range(0, len(sent + raw), size)))
    )
    assert answer.text == words * 2
    assert deltas == [TextDelta(words), TextDelta(words)]


async def test_tool_calls_are_streamed(http: Http) -> None:
    def piece(index: int, **function: Any) -> bytes:
        identity = {"id": f"c{index}"} if "name" in function else {}
        return event(chunk(tool_calls=[{"index": index, **identity, "type": "function", "function": function}]))

    answer, deltas = await streamed(
        http,
        stream(
            event(chunk(content="Wait.")) + piece(0, name="look", arguments=""),
            piece(0, arguments='{"at":') + piece(0, arguments='"sky"}'),
            piece(1, name="wait", arguments="{}") + event(chunk("tool_calls")) + DONE,
        ),
        Request(ASKED.messages, tools=(Tool("look"), Tool("wait"))),
    )
    assert deltas == [
        TextDelta("Wait."),
        ToolCallDelta(0, "c0", "look"),
        ToolCallDelta(0, arguments='{"at":"sky"}'),
        ToolCallDelta(1, "c1", "wait", "{}"),
    ]
    assert answer.parts == (Text("Wait."), ToolCall("c0", "look", '{"at":"sky"}'), ToolCall("c1", "wait", "{}"))
    assert answer.finish_reason == "tool_calls"


async def test_a_call_without_a_word_is_an_answer(http: Http) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}
    choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "stop"}
    async with Server(as_json({"choices": [choice]})) as server:
        answer = await model(http, server)(ASKED, None)
    assert (answer.parts, answer.finish_reason) == ((ToolCall("c", "look", "{}"),), "tool_calls")


async def test_reasoning_is_told_from_the_answer(http: Http) -> None:
    answer, deltas = await streamed(
        http, stream(event(chunk(reasoning_content="Hm.")) + event(chunk(content="Yes.")) + event(chunk("stop")) + DONE)
    )
    assert deltas == [ReasoningDelta("Hm."), TextDelta("Yes.")]
    assert answer.parts == (Reasoning("Hm."), Text("Yes."))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([chunk(refusal="I can"), chunk(refusal="not."), chunk("stop")], "stopped the answer: I cannot."),
        ([chunk(content="First, take"), chunk("content_filter")], "stopped the answer"),
        ([chunk(content="First, take"), chunk("refusal")], "stopped the answer"),
        ([chunk(content="First, take"), chunk(refusal=f"No {KEY}\n" + "x" * 999), chunk("stop")], ": No [key] xxx"),
        ([chunk(tool_calls=[{"id": "c", "function": {"name": "f"}}]), chunk("content_filter")], "stopped the answer"),
    ],
)
async def test_what_a_filter_stopped_is_no_answer_whatever_came_before(
    http: Http, said: list[dict[str, Any]], words: str
) -> None:
    counted = event({"choices": [], "usage": counts()})
    error = await fault(http, stream(*map(event, said), counted, DONE))
    assert (error.cause, error.usage) == ("content_filter", Usage(11, 7))
    assert words in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("plain", [True, False])
async def test_a_refusal_in_a_whole_answer_is_none_either(http: Http, plain: bool) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I cannot."}
    answer = as_json({"choices": [{"message": message, "finish_reason": "stop"}], "usage": counts()})
    error = await fault(http, answer, plain=plain)
    assert (error.cause, error.usage) == ("content_filter", Usage(11, 7))
    assert str(error) == "the provider's filter stopped the answer: I cannot."


@pytest.mark.parametrize(
    "end",
    [
        [event(chunk("stop")), DONE],
        [event(chunk("stop"))],
        [DONE],
        [event(chunk("stop")), b"data: [DONE]"],
        [b": bye\n\n", event(chunk("stop"))[:-1]],
    ],
)
async def test_ways_to_end(http: Http, end: list[bytes]) -> None:
    answer, _ = await streamed(http, stream(event(chunk(content="a")), *end))
    assert (answer.text, answer.finish_reason) == ("a", "stop")


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_an_answer_that_is_complete_may_lose_its_connection(http: Http, end: Any) -> None:
    answer, _ = await streamed(http, stream(event(chunk(content="a")) + event(chunk("stop")), end=end))
    assert answer.text == "a"


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("end", [event(chunk("stop")), event(chunk("stop")) + DONE])
async def test_a_server_that_stays_after_the_end_is_left(end: bytes, plain: bool) -> None:
    async with Http() as http, Server(stream(event(chunk(content="a")), end, end="silence")) as server:
        async with asyncio.timeout(30):  # less than silence is allowed to last, and more than anybody waits
            answer = await model(http, server)(ASKED, None if plain else Listener())
            await server.exchanges[0].left.wait()
    assert answer.text == "a"


async def test_a_count_that_comes_late_is_waited_for(http: Http) -> None:
    later = asyncio.Event()
    last = event({"choices": [], "usage": counts()})
    asyncio.get_running_loop().call_later(0.1, later.set)
    answer, _ = await streamed(http, stream(WORD + event(chunk("stop")), later, last + DONE))
    assert answer.usage == Usage(11, 7)


async def test_dollars_that_the_provider_reports_are_passed_on(http: Http) -> None:
    answer, _ = await streamed(
        http, stream(WORD, event(chunk("stop")), event({"choices": [], "usage": counts(cost=0.00014159)}), DONE)
    )
    assert answer.usage == Usage(11, 7, dollars=Decimal("0.00014159"))


async def test_what_was_not_counted_is_estimated(http: Http) -> None:
    words = "word " * 30
    for answer in (
        (await streamed(http, stream(event(chunk(content=words)) + event(chunk("stop")) + DONE)))[0],
        (await streamed(http, as_json({"choices": [{"message": {"content": words}}], "usage": {}})))[0],
    ):
        assert answer.usage.estimated
        assert answer.usage.input_tokens > 0
        assert answer.usage.output_tokens == 60


# ---- connections


async def test_connections_are_used_again(http: Http) -> None:
    async with Server(chat()) as server:
        asked = model(http, server)
        for _ in range(3):
            await asked(ASKED, None)
            await asked(ASKED, Listener())
            await asyncio.gather(asked(ASKED, Listener()), asked(ASKED, None))
        assert len(server.exchanges) == 12
        assert server.connections == 2


@pytest.mark.parametrize("answer", [SILENCE, stream(event(chunk(content="a")), end="silence")])
@pytest.mark.parametrize("plain", [True, False])
async def test_cancelling_a_call_closes_its_connection(http: Http, answer: Reply, plain: bool) -> None:
    async with Server(answer) as server:
        task = asyncio.create_task(model(http, server)(ASKED, None if plain else Listener()))
        while not server.exchanges:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.exchanges[0].left.wait()


async def test_a_listener_that_fails_ends_the_call(http: Http) -> None:
    async def send(delta: Delta) -> None:
        raise ConnectionResetError("the listener's own")

    async with Server(stream(event(chunk(content="a")), end="silence")) as server:
        with pytest.raises(ConnectionResetError, match="the listener's own"):
            await model(http, server)(ASKED, send)
        async with asyncio.timeout(5):
            await server.exchanges[0].left.wait()


# ---- failures

ERROR = {"error": {"message": f"overloaded {KEY}", "type": "server_error"}}
HALF = b'data: {"choices":[{"delta":{"content":"half a char\xc3"}}]}\n\n'
WORD = event(chunk(content="word"))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (status(401, f"bad key {KEY}"), "auth"),
        (status(402), "billing"),
        (status(403), "auth"),
        (status(404, "no such model"), "refused"),
        (status(408), "timeout"),
        (status(413), "window"),
        (status(400, "too long", code="context_length_exceeded"), "window"),
        (status(400, "no", code="content_filter"), "content_filter"),
        (status(422, "no"), "refused"),
        (status(429, "slow down"), "rate"),
        (status(429, "pay", code="insufficient_quota"), "billing"),
        (status(500), "server"),
        (status(503), "server"),
        (status(504), "timeout"),
        (Reply(b"<html>", 502, content_type="text/html"), "server"),
        (Reply(b"", 302, {"Location": "/login"}), "refused"),
        (HTML, "server"),
        (NOTHING, "network"),
        (RESET, "network"),
        (Reply(b""), "empty"),
        (Reply(b"  \n"), "empty"),
        (as_json(ERROR), "server"),
        (as_json({"error": {"message": "slow down", "code": 429}}), "rate"),
        (as_json({"object": "list"}), "server"),
        (as_json([1]), "server"),
        (as_json({"choices": []}), "empty"),
        (as_json({"choices": [{"message": {"content": None, "reasoning_content": "Hm."}}]}), "empty"),
        (as_json({"choices": [{"message": {"content": " \n"}, "finish_reason": "stop"}]}), "empty"),
        (as_json({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}), "content_filter"),
        (Reply(b'{"choices":[{"mess', end="close", headers={"Content-Length": "99"}), "truncated"),
        (Reply(b'{"choices":[{"mess'), "server"),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
async def test_a_failure_has_a_cause(http: Http, answer: Reply, cause: Cause, plain: bool) -> None:
    assert (await fault(http, answer, plain=plain)).cause == cause


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (stream(), "empty"),
        (stream(DONE), "empty"),
        (stream(event(chunk(content="")), event(chunk("stop")), DONE), "empty"),
        (stream(event(chunk(reasoning="Hm.")), event(chunk("length")), DONE), "empty"),
        (stream(event(chunk("content_filter")), DONE), "content_filter"),
        (stream(b"garbage\n\nmore of it\n\n"), "server"),
        (stream(b"\x00\xff" * 99), "server"),
        (stream(b": keep-alive\n\n"), "server"),
        (stream(b"data: garbage\n\n", DONE), "server"),
        (stream(HALF, DONE), "server"),
        (stream(WORD, HALF, DONE), "server"),
        (stream(b"data: " + b"x" * (17 << 20)), "server"),
        (stream(WORD), "truncated"),
        (stream(WORD, b'data: {"choices":[{"del'), "truncated"),
        (stream(WORD, end="close"), "truncated"),
        (stream(WORD, end="reset"), "truncated"),
        (stream(WORD, event(ERROR)), "server"),
        (stream(WORD, event({"error": {"message": "slow down", "code": 429}})), "rate"),
        (stream(WORD, event({"message": "too long for the context window"}, "error")), "window"),
        (stream(WORD, event(chunk("error"))), "server"),
    ],
)
async def test_a_failure_of_a_stream_has_a_cause(http: Http, answer: Reply, cause: Cause) -> None:
    assert (await fault(http, answer)).cause == cause


@pytest.mark.parametrize("answer", [SILENCE, stream(WORD, end="silence")])
async def test_silence_is_a_timeout(answer: Reply) -> None:
    async with Http(silence=0.1) as http:
        assert (await fault(http, answer)).cause == "timeout"
        assert (await fault(http, answer, plain=True)).cause == "timeout"


async def test_the_providers_words_are_passed_on_without_the_key(http: Http) -> None:
    assert str(await fault(http, status(401, f"bad key {KEY}"))) == "HTTP 401 Unauthorized: bad key [key]"
    assert str(await fault(http, stream(event(ERROR)))) == "the provider reported: overloaded [key]"
    assert len(str(await fault(http, status(400, "x" * 5000)))) < 400


async def test_a_failure_says_when_to_try_again(http: Http) -> None:
    error = await fault(http, status(429, "slow down", {"Retry-After": "7"}))
    assert (error.status, error.retry_after, error.passing) == (429, 7.0, True)


async def test_what_a_failure_has_cost_is_told_where_something_was_said(http: Http) -> None:
    for answer in (
        stream(WORD),
        stream(WORD, event(ERROR)),
        stream(WORD, b"data: garbage\n\n"),
        stream(WORD, end="reset"),
    ):
        usage = (await fault(http, answer)).usage
        assert usage is not None
        assert usage.estimated
        assert usage.output_tokens == 2
    counted = stream(WORD, event({"choices": [], "usage": counts()}))
    assert (await fault(http, counted)).usage == Usage(11, 7)
    thought = event(chunk(reasoning="Hm.")) + event({"choices": [], "usage": counts()}) + DONE
    assert (await fault(http, stream(thought))).usage == Usage(11, 7)
    for answer in (status(500), NOTHING, stream()):
        assert (await fault(http, answer)).usage is None


async def test_an_empty_answer_says_why_it_is_empty(http: Http) -> None:
    said = [event(chunk(reasoning="Hm.")), event(chunk("length")), DONE]
    assert "reasoning; max_tokens must be higher" in str(await fault(http, stream(*said)))
    assert "max_tokens is too low" in str(await fault(http, stream(*said[1:])))


async def test_a_schema_that_is_none_is_refused_before_it_is_sent(http: Http) -> None:
    async with Server(chat()) as server:
        with pytest.raises(ModelError, match="parameters of the tool look are no JSON Schema") as caught:
            await model(http, server)(Request(ASKED.messages, tools=(Tool("look", "", b"[]"),)), None)
        assert caught.value.cause == "refused"
        assert not server.exchanges


async def test_text_that_is_none_is_refused_before_it_is_sent(http: Http) -> None:
    async with Server(chat()) as server:
        with pytest.raises(ModelError, match="half a surrogate pair") as caught:
            await model(http, server)(Request((Message("user", (Text("\ud800"),)),)), None)
        assert caught.value.cause == "refused"
        assert not server.exchanges


# ---- quirks


def picky(rule: Callable[[dict[str, Any]], str | None], code: int = 400) -> Callable[[Exchange], Reply]:
    """A server that refuses a body with the words of the rule, and answers one that the rule has no words for."""

    def answer(exchange: Exchange) -> Reply:
        complaint = rule(exchange.json)
        return chat()(exchange) if complaint is None else status(code, complaint)

    return answer


def without(field: str, complaint: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda body: complaint if field in body else None


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


def alternates(body: dict[str, Any]) -> str | None:
    spoken = [role for role in roles(body) if role != "system"]
    wrong = any(one == next_one for one, next_one in pairwise(spoken))
    return "Conversation roles must alternate user/assistant/user/assistant/..." if wrong else None


def no_system(words: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda body: words if "system" in roles(body) else None


TALK = Request(
    (
        Message("system", (Text("Be kind."),)),
        Message("user", (Text("One."),)),
        Message("user", (Text("Two."), Image(url="https://example.org/a"))),
        Message("assistant", (Text("Three."),)),
        Message("assistant", (Text("Four."),)),
        Message("user", (Text("Five?"),)),
    ),
    sampling=SAMPLED.sampling,
    response_format=b'{"type":"object"}',
)
OPENAI_SAYS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


@pytest.mark.parametrize(
    ("rule", "quirk"),
    [
        (without("max_tokens", OPENAI_SAYS), "max_completion_tokens in place of max_tokens"),
        (
            without(
                "temperature",
                "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
                "supported.",
            ),
            "no temperature",
        ),
        (without("top_p", "Unsupported parameter: 'top_p' is not supported with this model."), "no top_p"),
        (without("top_p", "`temperature` and `top_p` cannot both be specified for this model."), "no top_p"),
        (without("seed", "body.seed: Extra inputs are not permitted"), "no seed"),
        (without("seed", "property 'seed' is unsupported"), "no seed"),
        (without("stream_options", "Unknown parameter: 'stream_options'."), "no stream_options"),
        (without("stream", "Your organization must be verified to stream this model."), "no stream"),
        (
            without("stream", "Unsupported value: 'stream' does not support true with this model."),
            "no stream",
        ),
        (without("stream", "Streaming is not implemented"), "no stream"),
        (alternates, "roles alternate"),
        (no_system("System role not supported"), "no system role"),
        (no_system("Only user, assistant and tool roles are supported, got system."), "no system role"),
        (no_system("'messages[0].role' does not support 'system' with this model."), "no system role"),
        (no_system("Developer instruction is not enabled for models/x"), "no system role"),
        (
            lambda body: (
                "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required"
                if body["response_format"]["json_schema"]["strict"]
                else None
            ),
            "no strict schema",
        ),
    ],
)
async def test_a_quirk_is_learnt_from_the_refusal_and_remembered(
    http: Http, rule: Callable[[dict[str, Any]], str | None], quirk: str
) -> None:
    async with Server(picky(rule)) as server:
        asked, listener = model(http, server), Listener()
        assert (await asked(TALK, listener)).text == "Hello, world."
        assert "".join(delta.text for delta in listener.deltas if isinstance(delta, TextDelta)) == "Hello, world."
        assert [known.name for known in asked.quirks.known] == [quirk]
        assert len(server.exchanges) == 2
        await asked(TALK, Listener())
        assert len(server.exchanges) == 3


async def test_what_the_quirks_change() -> None:
    async with Http() as http:

        async def sent(rule: Callable[[dict[str, Any]], str | None], request: Request = TALK) -> Any:
            async with Server(picky(rule)) as server:
                await model(http, server)(request, Listener())
                return server.exchanges[-1].json

        body = await sent(without("max_tokens", OPENAI_SAYS))
        assert body["max_completion_tokens"] == 100
        body = await sent(alternates)
        assert body["messages"] == [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "One."},
                    {"type": "text", "text": "Two."},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a"}},
                ],
            },
            {"role": "assistant", "content": "Three.\n\nFour."},
            {"role": "user", "content": "Five?"},
        ]
        body = await sent(no_system("System role not supported"))
        assert body["messages"][0] == {"role": "user", "content": "Be kind.\n\nOne."}
        only = Request((Message("system", (Text("Be kind."),)), Message("assistant", (Text("Yes."),))))
        body = await sent(no_system("System role not supported"), only)
        assert body["messages"] == [{"role": "user", "content": "Be kind."}, {"role": "assistant", "content": "Yes."}]
        assert "stream_options" not in await sent(without("stream_options", "Unknown parameter: 'stream_options'."))


async def test_signatures_of_calls_that_were_lost_are_made_up_for(http: Http) -> None:
    def unsigned(body: dict[str, Any]) -> str | None:
        calls = [message["tool_calls"][0] for message in body["messages"] if "tool_calls" in message]
        if all("extra_content" in call for call in calls):
            return None
        return "Function call is missing a thought_signature in functionCall parts."

    call = Message("assistant", (ToolCall("c", "look", "{}"), ToolCall("d", "wait", "{}")))
    async with Server(picky(unsigned)) as server:
        await model(http, server)(Request((*ASKED.messages, call, *ASKED.messages)), None)
    first, second = server.exchanges[1].json["messages"][1]["tool_calls"]
    assert first["id"] == "c"
    assert list(first["extra_content"]) == ["google"]
    assert "extra_content" not in second


async def test_an_old_template_without_a_system_role_complains_about_the_order(http: Http) -> None:
    def rule(body: dict[str, Any]) -> str | None:
        return (
            alternates({"messages": [{"role": "user"}, *body["messages"]]})
            if "system" in roles(body)
            else alternates(body)
        )

    async with Server(picky(rule, 500)) as server:
        asked = model(http, server)
        await asked(TALK, None)
        assert [quirk.name for quirk in asked.quirks.known] == ["roles alternate, and no system role"]
        assert roles(server.exchanges[-1].json) == ["user", "assistant", "user"]


async def test_several_quirks_are_learnt_in_one_call(http: Http) -> None:
    def rule(body: dict[str, Any]) -> str | None:
        for field in ("max_tokens", "temperature", "top_p", "seed", "stream_options", "stream"):
            if field in body:
                return f"Unsupported parameter: '{field}'"
        return None

    async with Server(picky(rule)) as server:
        asked = model(http, server)
        assert (await asked(SAMPLED, Listener())).text == "Hello, world."
        assert len(server.exchanges) == 7
        await asyncio.gather(*(asked(SAMPLED, Listener()) for _ in range(3)))
        assert len(server.exchanges) == 10
        assert len(asked.quirks.known) == 6


async def test_calls_at_once_learn_the_same_quirk_once(http: Http) -> None:
    async with Server(picky(without("seed", "Unknown parameter: 'seed'"))) as server:
        asked = model(http, server)
        await asyncio.gather(*(asked(SAMPLED, None) for _ in range(5)))
        assert [quirk.name for quirk in asked.quirks.known] == ["no seed"]


async def test_a_quirk_that_did_not_help_is_not_remembered(http: Http) -> None:
    async with Server(status(400, "Unsupported parameter: 'seed'")) as server:
        asked = model(http, server)
        with pytest.raises(ModelError, match="Unsupported parameter: 'seed'"):
            await asked(SAMPLED, None)
        assert len(server.exchanges) == 2
        assert not asked.quirks.known


async def test_of_several_quirks_only_the_one_that_helped_is_remembered(http: Http) -> None:
    words = "Unsupported parameter: 'seed'. Known are temperature and top_p."
    async with Server(picky(without("seed", words))) as server:
        asked = model(http, server)
        assert (await asked(SAMPLED, None)).text == "Hello, world."
        assert [quirk.name for quirk in asked.quirks.known] == ["no seed"]
        assert server.exchanges[-1].json.keys() >= {"temperature", "top_p", "max_tokens"}


async def test_a_quirk_that_met_its_complaint_stays_while_others_are_learnt(http: Http) -> None:
    def rule(body: dict[str, Any]) -> str | None:
        extra = [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in ("seed", "top_p")]
        return json.dumps([item for item in extra if item["loc"][1] in body]) if {"seed", "top_p"} & set(body) else None

    async with Server(picky(rule, 422)) as server:
        asked = model(http, server)
        await asked(SAMPLED, None)
        assert {quirk.name for quirk in asked.quirks.known} == {"no seed", "no top_p"}
        assert len(server.exchanges) == 3


async def test_a_refusal_that_numbers_itself_is_the_same_complaint(http: Http) -> None:
    def answer(exchange: Exchange) -> Reply:
        return status(400, "Unsupported parameter: 'seed'", request_id=f"req_{len(server.exchanges)}")

    async with Server(answer) as server:
        asked = model(http, server)
        with pytest.raises(ModelError, match="seed"):
            await asked(SAMPLED, None)
        assert len(server.exchanges) == 2
        assert not asked.quirks.known


@pytest.mark.parametrize("field", ["stop", "tools", "tool_choice", "response_format"])
async def test_what_changes_the_answer_is_not_dropped(http: Http, field: str) -> None:
    request = Request(
        ASKED.messages,
        tools=(Tool("look"),),
        tool_choice="look",
        response_format=b"{}",
        sampling=Sampling(stop=("END",)),
    )
    async with Server(
        picky(without(field, f"Unsupported parameter: '{field}' is not supported with this model."))
    ) as server:
        with pytest.raises(ModelError, match=field) as caught:
            await model(http, server)(request, None)
        assert caught.value.cause == "refused"
        assert len(server.exchanges) == 1


@pytest.mark.parametrize(
    "answer",
    [
        status(400, "temperature must be from 0 to 2"),
        status(400, "There is no such thing"),
        status(400, "Access to this model is restricted"),
        status(400, "For long answers we recommend streaming"),
        status(400, "This question cannot be answered; see our guides on streaming and strictness"),
        status(401, "Unsupported parameter: 'seed'"),
        status(429, "Unsupported parameter: 'seed'"),
    ],
)
async def test_other_refusals_teach_nothing(http: Http, answer: Reply) -> None:
    await fault(http, answer, request=TALK)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("o3", {"max_completion_tokens", "seed"}),
        ("o4-mini-2025-04-16", {"max_completion_tokens", "seed"}),
        ("gpt-5", {"max_completion_tokens", "seed"}),
        ("openai/gpt-5-mini", {"max_completion_tokens", "seed"}),
        ("gpt-5-2025-08-07", {"max_completion_tokens", "seed"}),
        ("gpt-5-chat-latest", {"max_completion_tokens", "temperature", "top_p", "seed"}),
        ("gpt-5.2", {"max_completion_tokens", "temperature", "top_p", "seed"}),
        ("gpt-4o", {"max_tokens", "temperature", "top_p", "seed"}),
        ("gpt-oss-120b", {"max_tokens", "temperature", "top_p", "seed"}),
        ("qwen3-o1-merge", {"max_tokens", "temperature", "top_p", "seed"}),
    ],
)
async def test_reasoning_models_are_known_by_name(http: Http, name: str, sent: set[str]) -> None:
    async with Server(chat()) as server:
        await model(http, server, name)(SAMPLED, None)
        assert server.exchanges[0].json.keys() - {"model", "messages"} == sent


# ---- servers that stream otherwise


async def test_a_server_that_answers_whole_though_a_stream_was_asked_for(http: Http) -> None:
    def answer(exchange: Exchange) -> Reply:
        return as_json({"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}], "usage": counts()})

    async with Server(answer) as server:
        asked = model(http, server)
        for _ in range(2):
            listener = Listener()
            assert (await asked(ASKED, listener)).usage == Usage(11, 7)
            assert listener.deltas == [TextDelta("Hello.")]
        assert ["stream" in exchange.json for exchange in server.exchanges] == [True, False]


async def test_a_web_page_does_not_teach_that_there_are_no_streams(http: Http) -> None:
    async with Server(HTML, chat()) as server:
        asked = model(http, server)
        with pytest.raises(ModelError, match="web page"):
            await asked(ASKED, Listener())
        listener = Listener()
        await asked(ASKED, listener)
        assert len(listener.deltas) == 2


async def test_a_server_that_streams_whatever_is_asked_for(http: Http) -> None:
    async with Server(stream(b": hello\n\n", WORD, event(chunk("stop")), DONE)) as server:
        assert (await model(http, server)(ASKED, None)).text == "word"


async def test_whitespace_that_keeps_a_plain_call_alive_is_passed_over(http: Http) -> None:
    said = json.dumps({"choices": [{"message": {"content": "Hello."}}]}).encode()
    async with Server(Reply((b"\n \n", b"  \n", said))) as server:
        assert (await model(http, server)(ASKED, None)).text == "Hello."


# ---- the table of providers


def test_the_providers_that_are_known_by_name() -> None:
    table = tomllib.loads((resources.files("partsong.providers") / "known.toml").read_text(encoding="utf-8"))
    hosted = {name: entry for name, entry in table.items() if entry["api"] in ("openai", "anthropic")}
    hosts = {"openai", "anthropic", "gemini", "openrouter", "together", "groq", "mistral", "deepseek", "xai"}
    assert set(hosted) == hosts | {"fireworks", "cerebras", "ollama", "lmstudio", "vllm"}
    for name, entry in hosted.items():
        here = entry["base_url"].startswith("http://127.0.0.1:")
        assert here or entry["base_url"].startswith("https://")
        assert not entry["base_url"].endswith("/")
        assert here == (name in ("ollama", "lmstudio", "vllm")) == ("key_env" not in entry) == entry.get("free", False)
        assert set(entry) <= {"api", "base_url", "key_env", "key_page", "free", "documents"}
        assert ("key_page" in entry) == ("key_env" in entry)
        assert entry.get("key_page", "https://").startswith("https://")
        assert entry.get("documents", False) == (name in ("openai", "anthropic"))
