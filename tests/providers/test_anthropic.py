"""A model behind the Messages API, against a real server on loopback that answers, refuses and misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from partsong.errors import ConfigurationError, ModelError
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
from partsong.providers.anthropic import Anthropic, reachable
from partsong.providers.http import Http
from partsong.wire.tokens import estimate, estimate_tokens
from tests.upstream import (
    HTML,
    NOTHING,
    RESET,
    SILENCE,
    Answering,
    Exchange,
    Piece,
    Reply,
    Server,
    as_json,
    event,
    stream,
)

KEY = "sk-ant-secret"
ASKED = Request((Message("user", (Text("Why is the sky blue?"),)),))
COUNTED = Usage(11, 7)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http() as http:
        yield http


def model_at(server: Server, http: Http, key: str | None = KEY) -> Anthropic:
    return Anthropic(http, provider="anthropic", base_url=server.url, name="claude", key=key)


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    async def __call__(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))


def named(value: dict[str, Any]) -> bytes:
    return event(value, value["type"])


def start(**usage: int) -> bytes:
    counts = {"input_tokens": 11, "output_tokens": 1} | usage
    return named({"type": "message_start", "message": {"id": "msg_1", "model": "said", "content": [], "usage": counts}})


def opened(index: int = 0, **block: Any) -> bytes:
    return named(
        {"type": "content_block_start", "index": index, "content_block": block or {"type": "text", "text": ""}}
    )


def piece(index: int, kind: str, **fields: str) -> bytes:
    return named({"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **fields}})


def word(text: str, index: int = 0) -> bytes:
    return piece(index, "text", text=text)


def closed(index: int = 0) -> bytes:
    return named({"type": "content_block_stop", "index": index})


def stopped(reason: str = "end_turn", **more: Any) -> bytes:
    return named({"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": {"output_tokens": 7}})


END = named({"type": "message_stop"})
PING = named({"type": "ping"})
HELLO = (start(), opened() + PING, word("Hello,"), word(" wor") + word("ld."), closed() + stopped() + END)


def whole(*content: dict[str, Any], reason: str = "end_turn", **more: Any) -> Reply:
    counts = {"input_tokens": 11, "output_tokens": 7}
    return as_json(
        {"type": "message", "model": "said", "content": content, "stop_reason": reason, "usage": counts} | more
    )


def hello(exchange: Exchange) -> Reply:
    return stream(*HELLO) if exchange.json.get("stream") else whole({"type": "text", "text": "Hello, world."})


def refusal(status: int, kind: str, message: str = "no", **headers: str) -> Reply:
    named_so = {name.replace("_", "-"): value for name, value in headers.items()}
    return as_json({"type": "error", "error": {"type": kind, "message": message}}, status, named_so)


async def failure(
    http: Http, *answers: Answering, request: Request = ASKED, plain: bool = False, ear: Ear | None = None
) -> ModelError:
    async with Server(*answers) as server:
        with pytest.raises(ModelError) as caught:
            await model_at(server, http)(request, None if plain else ear or Ear())
        assert KEY not in str(caught.value)
        return caught.value


# ---- what is sent, and what comes back


async def test_a_stream(http: Http) -> None:
    async with Server(hello) as server:
        ear = Ear()
        answer = await model_at(server, http)(ASKED, ear)
        assert answer == Answer((Text("Hello, world."),), "stop", COUNTED, "said")
        assert ear.deltas == [TextDelta("Hello,"), TextDelta(" world.")]  # one for all that a read brought
        (exchange,) = server.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/messages")
    assert exchange.headers["x-api-key"] == KEY
    assert exchange.headers["anthropic-version"] == "2023-06-01"
    assert exchange.headers["Content-Type"] == "application/json"
    assert "Authorization" not in exchange.headers
    assert exchange.json == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}],
        "stream": True,
    }


async def test_a_plain_call(http: Http) -> None:
    async with Server(hello) as server:
        answer = await model_at(server, http)(ASKED, None)
        assert answer == Answer((Text("Hello, world."),), "stop", COUNTED, "said")
        assert "stream" not in server.exchanges[0].json


async def test_no_key_is_sent_where_there_is_none(http: Http) -> None:
    async with Server(hello) as server:
        await model_at(server, http, key=None)(ASKED, None)
        assert "x-api-key" not in server.exchanges[0].headers


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/v1/messages"),
        ("/", "/v1/messages"),
        ("/v1", "/v1/messages"),
        ("/v1/", "/v1/messages"),
        ("/anthropic", "/anthropic/v1/messages"),
        ("/v1?tenant=a", "/v1/messages?tenant=a"),
    ],
)
async def test_the_address_may_name_the_version_or_not(http: Http, path: str, asked: str) -> None:
    async with Server(hello) as server:
        await Anthropic(http, provider="lab", base_url=server.url + path, name="claude")(ASKED, None)
        assert server.exchanges[0].path == asked


@pytest.mark.parametrize("base_url", ["", "api.anthropic.com", "ftp://host", "https://user:word@host", "http://[::1"])
async def test_an_address_that_is_none(http: Http, base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        Anthropic(http, provider="lab", base_url=base_url, name="claude")


async def test_reasoning_and_tool_calls_in_a_stream(http: Http) -> None:
    pieces = (
        start(),
        opened(0, type="thinking", thinking="", signature="") + piece(0, "thinking", thinking="Hm."),
        piece(0, "signature", signature="c2ln") + closed(0),
        opened(1, type="tool_use", id="t1", name="weather", input={}) + piece(1, "input_json", partial_json='{"town":'),
        piece(1, "input_json", partial_json='"Ulm"}') + closed(1) + stopped("tool_use") + END,
    )
    async with Server(stream(*pieces)) as server:
        ear = Ear()
        answer = await model_at(server, http)(ASKED, ear)
    assert answer.parts == (Reasoning("Hm.", "c2ln"), ToolCall("t1", "weather", '{"town":"Ulm"}'))
    assert answer.finish_reason == "tool_calls"
    assert ear.deltas == [
        ReasoningDelta("Hm."),
        ToolCallDelta(0, "t1", "weather", '{"town":'),
        ToolCallDelta(0, arguments='"Ulm"}'),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
async def test_a_stream_in_the_smallest_pieces(http: Http, size: int) -> None:
    data = b"".join((start(), opened(), word("Grüße 🌧"), closed(), stopped(), END))
    async with Server(stream(*(data[at : at + size] for at in range(0, len(data), size)))) as server:
        ear = Ear()
        answer = await model_at(server, http)(ASKED, ear)
    assert answer.text == ear.text == "Grüße 🌧"


async def test_a_stream_whose_last_line_has_no_end(http: Http) -> None:
    async with Server(stream(*HELLO[:-1], closed() + stopped() + END.rstrip())) as server:
        assert (await model_at(server, http)(ASKED, Ear())).text == "Hello, world."


async def test_connections_are_kept(http: Http) -> None:
    async with Server(hello, hello, refusal(400, "invalid_request_error"), hello) as server:
        model = model_at(server, http)
        await model(ASKED, Ear())
        await model(ASKED, None)
        with pytest.raises(ModelError):
            await model(ASKED, Ear())
        await model(ASKED, Ear())
        assert server.connections == 1


async def test_a_large_question_arrives_whole(http: Http) -> None:
    picture = Image(bytes(range(256)) * 16_384, "image/png")
    async with Server(hello) as server:
        await model_at(server, http)(Request((Message("user", (picture, Text("What is this?"))),)), None)
        assert len(server.exchanges[0].json["messages"][0]["content"][0]["source"]["data"]) == 5_592_408


# ---- quirks


async def test_a_server_that_cannot_stream_is_asked_plainly_from_then_on(http: Http) -> None:
    async with Server(whole({"type": "text", "text": "Hello."})) as server:
        model, ear = model_at(server, http), Ear()
        assert (await model(ASKED, ear)).text == ear.text == "Hello."
        await model(ASKED, ear)
        assert ["stream" in exchange.json for exchange in server.exchanges] == [True, False]


async def test_a_server_may_keep_us_waiting_with_white_space(http: Http) -> None:
    document = whole({"type": "text", "text": "Hello."}).body
    assert isinstance(document, bytes)
    async with Server(Reply((b"\n", b" \n", document))) as server:
        assert (await model_at(server, http)(ASKED, Ear())).text == "Hello."


async def test_a_web_page_does_not_teach_that_a_server_cannot_stream(http: Http) -> None:
    async with Server(HTML, hello) as server:
        model = model_at(server, http)
        with pytest.raises(ModelError, match="web page"):
            await model(ASKED, Ear())
        await model(ASKED, Ear())
        assert server.exchanges[1].json["stream"] is True


async def test_a_server_that_streams_though_nobody_listens(http: Http) -> None:
    async with Server(stream(*HELLO)) as server:
        assert await model_at(server, http)(ASKED, None) == Answer((Text("Hello, world."),), "stop", COUNTED, "said")


SAMPLED = Request(ASKED.messages, sampling=Sampling(temperature=0.7, top_p=0.9))


def insisting(*rules: tuple[str, Callable[[Any], bool]]) -> Answering:
    """A server that refuses, in these words, what the rules find in a body."""

    def answer(exchange: Exchange) -> Reply:
        for words, found in rules:
            if found(exchange.json):
                return refusal(400, "invalid_request_error", words)
        return hello(exchange)

    return answer


NOT_BOTH = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ([(NOT_BOTH, lambda body: "temperature" in body and "top_p" in body)], {"temperature"}),
        ([("`temperature` is deprecated for this model.", lambda body: "temperature" in body)], {"top_p"}),
        (
            [
                (NOT_BOTH, lambda body: "temperature" in body and "top_p" in body),
                ("`temperature` is deprecated for this model.", lambda body: "temperature" in body),
            ],
            set(),
        ),
        (
            [
                ("temperature: Extra inputs are not permitted", lambda body: "temperature" in body),
                ("top_p: Extra inputs are not permitted", lambda body: "top_p" in body),
            ],
            set(),
        ),
        ([("Streaming is not supported for this model", lambda body: "stream" in body)], {"temperature", "top_p"}),
    ],
)
async def test_what_a_model_does_not_accept_is_learnt_and_remembered(
    http: Http, rules: list[tuple[str, Callable[[Any], bool]]], left: set[str]
) -> None:
    async with Server(insisting(*rules)) as server:
        model = model_at(server, http)
        assert (await model(SAMPLED, Ear())).text == "Hello, world."
        assert len(server.exchanges) == len(rules) + 1
        assert {"temperature", "top_p"} & set(server.exchanges[-1].json) == left
        await model(SAMPLED, Ear())
        assert len(server.exchanges) == len(rules) + 2


async def test_a_top_p_alone_is_kept_where_both_are_refused(http: Http) -> None:
    async with Server(insisting((NOT_BOTH, lambda body: "temperature" in body and "top_p" in body))) as server:
        model = model_at(server, http)
        await model(SAMPLED, None)
        await model(Request(ASKED.messages, sampling=Sampling(top_p=0.9)), None)
        assert server.exchanges[-1].json["top_p"] == 0.9


async def test_another_s_thoughts_are_left_out_of_this_conversation_only(http: Http) -> None:
    foreign = Message("assistant", (Reasoning("Hm.", "foreign"), Text("Because.")))
    own = Message("assistant", (Reasoning("Hm.", "own"), Text("Because.")))
    words = "messages.1.content.0: Invalid `signature` in `thinking` block"
    async with Server(insisting((words, lambda body: "foreign" in str(body)))) as server:
        model = model_at(server, http)
        await model(Request((*ASKED.messages, foreign, *ASKED.messages)), None)
        await model(Request((*ASKED.messages, own, *ASKED.messages)), None)
        kinds = [[block["type"] for block in exchange.json["messages"][1]["content"]] for exchange in server.exchanges]
        assert kinds == [["thinking", "text"], ["text"], ["thinking", "text"]]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            Request(ASKED.messages, response_format=b'{"type":"object"}'),
            "output_config.format: structured outputs are not supported for this model",
        ),
        (Request(ASKED.messages, tools=(Tool("now"),)), "tools: tool use is not supported for this model"),
        (Request(ASKED.messages, sampling=Sampling(stop=("\n",))), "stop_sequences: each must contain non-whitespace"),
    ],
)
async def test_what_would_change_the_answer_is_never_dropped(http: Http, request_: Request, words: str) -> None:
    async with Server(refusal(400, "invalid_request_error", words)) as server:
        with pytest.raises(ModelError, match=words.partition(":")[0]) as caught:
            await model_at(server, http)(request_, Ear())
        assert caught.value.cause == "refused"
        assert len(server.exchanges) == 1


# ---- refusals


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "words", "cause"),
    [
        (400, "invalid_request_error", "messages: at least one message is required", "refused"),
        (400, "invalid_request_error", "max_tokens: 10000 > 8192, which is the maximum allowed number", "refused"),
        (400, "invalid_request_error", "messages.0.content.0.image.source: image is too large", "refused"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "window"),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000, decrease input length",
            "window",
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
            "billing",
        ),
        (
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits. You will regain access on 2027-01-01 at 00:00 UTC.",
            "billing",
        ),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "There is a problem with your payment", "billing"),
        (403, "permission_error", "Your API key does not have permission to use the model", "auth"),
        (404, "not_found_error", "model: claude", "refused"),
        (413, "request_too_large", "Request exceeds the maximum size", "window"),
        (429, "rate_limit_error", "This request would exceed your organization's rate limit", "rate"),
        (500, "api_error", "Internal server error", "server"),
        (504, "timeout_error", "The request timed out while processing", "timeout"),
        (529, "overloaded_error", "Overloaded", "server"),
    ],
)
async def test_a_refusal_is_said_with_its_cause(
    http: Http, plain: bool, status: int, kind: str, words: str, cause: str
) -> None:
    error = await failure(http, refusal(status, kind, words), plain=plain)
    assert (error.cause, error.status) == (cause, status)
    assert words in str(error)
    assert error.usage is None


async def test_a_rate_limit_says_how_long_to_wait(http: Http) -> None:
    error = await failure(http, refusal(429, "rate_limit_error", retry_after="7"))
    assert error.retry_after == 7.0
    dates = {"Date": "Mon, 23 Nov 2026 10:00:00 GMT", "Retry_After": "Mon, 23 Nov 2026 10:00:30 GMT"}
    error = await failure(http, refusal(429, "rate_limit_error", **dates))
    assert error.retry_after == 30.0
    assert (await failure(http, refusal(429, "rate_limit_error"))).retry_after is None


async def test_a_key_that_the_provider_repeats_is_not_shown(http: Http) -> None:
    error = await failure(http, refusal(401, "authentication_error", f"invalid x-api-key: {KEY}"))
    assert error.cause == "auth"


async def test_a_redirection_is_not_followed(http: Http) -> None:
    error = await failure(http, Reply(b"", 308, {"Location": "https://elsewhere.example/v1/messages"}))
    assert "elsewhere.example" in str(error)


async def test_half_a_surrogate_pair_is_refused_before_anything_is_sent(http: Http) -> None:
    async with Server(hello) as server:
        with pytest.raises(ModelError, match="surrogate") as caught:
            await model_at(server, http)(Request((Message("user", (Text("\ud83d"),)),)), None)
        assert caught.value.cause == "refused"
        assert not server.exchanges


# ---- misbehaviour


@pytest.mark.parametrize("plain", [False, True])
async def test_a_web_page_in_place_of_an_answer(http: Http, plain: bool) -> None:
    error = await failure(http, HTML, plain=plain)
    assert error.cause == "server"
    assert "web page" in str(error)


@pytest.mark.parametrize("plain", [False, True])
async def test_nothing_at_all(http: Http, plain: bool) -> None:
    assert (await failure(http, Reply(b"", content_type="text/event-stream"), plain=plain)).cause == "empty"
    assert (await failure(http, NOTHING, plain=plain)).cause == "network"
    assert (await failure(http, RESET, plain=plain)).cause == "network"


@pytest.mark.parametrize(
    "body", [b'{"content":', b"[]", b"{}", b'{"content":[{"type":"text","text":"\xc3"}]}', b"\xff"]
)
@pytest.mark.parametrize("plain", [False, True])
async def test_a_document_that_is_no_message(http: Http, plain: bool, body: bytes) -> None:
    assert (await failure(http, Reply(body), plain=plain)).cause == "server"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"data: {\n\n",
        b"event: content_block_delta\ndata: [1]\n\n",
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xc3"}}\n\n',
    ],
)
async def test_events_that_nobody_can_read(http: Http, rubbish: bytes) -> None:
    ear = Ear()
    error = await failure(http, stream(start() + opened(), word("So far"), rubbish, END), ear=ear)
    assert error.cause == "server"
    assert ear.text == "So far"
    assert error.usage is not None
    assert error.usage.input_tokens == 11


async def test_a_stream_that_is_none(http: Http) -> None:
    assert (await failure(http, stream(b"Welcome!\n\nThis is no stream.\n\n"))).cause == "server"


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        (HELLO[:1], "whole"),
        (HELLO[:3], "whole"),
        ((*HELLO[:-1], closed() + stopped()), "whole"),
        ((*HELLO[:3], word("ld")[:-9]), "whole"),
        ((*HELLO[:2], "ü".encode()[:1]), "whole"),
        (HELLO[:3], "close"),
        (HELLO[:3], "reset"),
    ],
)
async def test_a_stream_that_breaks_off(http: Http, pieces: tuple[Piece, ...], end: Any) -> None:
    ear = Ear()
    error = await failure(http, stream(*pieces, end=end), ear=ear)
    assert error.cause == "truncated"
    assert error.usage is not None
    assert error.usage.input_tokens == 11
    assert error.usage.output_tokens >= max(1, estimate(ear.text))


async def test_a_server_that_stays_after_the_end_is_left(http: Http) -> None:
    async with Server(stream(*HELLO, end="silence")) as server:
        async with asyncio.timeout(30):
            assert (await model_at(server, http)(ASKED, Ear())).text == "Hello, world."
            await server.exchanges[0].left.wait()


async def test_a_quirk_that_did_not_help_is_not_remembered(http: Http) -> None:
    async with Server(refusal(400, "invalid_request_error", "`temperature` is deprecated for this model.")) as server:
        model = model_at(server, http)
        with pytest.raises(ModelError, match="deprecated"):
            await model(SAMPLED, None)
        assert ["temperature" in exchange.json for exchange in server.exchanges] == [True, False]
        assert not model.quirks.known


async def test_a_document_that_breaks_off(http: Http) -> None:
    error = await failure(http, Reply(b'{"content":[{"type":"text"', end="close"), plain=True)
    assert error.cause == "truncated"


async def test_usage_that_nobody_counted_is_estimated(http: Http) -> None:
    uncounted = whole({"type": "text", "text": "Hello, world."}, usage=None)
    async with Server(uncounted) as server:
        answer = await model_at(server, http)(ASKED, None)
    assert answer.usage == Usage(estimate_tokens(ASKED), estimate("Hello, world."), estimated=True)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("invalid_request_error", "refused"),
        ("authentication_error", "auth"),
        ("billing_error", "billing"),
        ("permission_error", "auth"),
        ("not_found_error", "refused"),
        ("rate_limit_error", "rate"),
        ("timeout_error", "timeout"),
        ("api_error", "server"),
        ("overloaded_error", "server"),
        ("invented_later", "server"),
    ],
)
async def test_an_error_in_the_middle_of_a_stream(http: Http, kind: str, cause: str) -> None:
    ear = Ear()
    problem = named({"type": "error", "error": {"type": kind, "message": "Something happened"}})
    error = await failure(http, stream(*HELLO[:3], problem), ear=ear)
    assert error.cause == cause
    assert "Something happened" in str(error)
    assert ear.text == "Hello,"
    assert error.usage is not None
    assert error.usage.input_tokens == 11


async def test_an_error_with_the_status_of_an_answer(http: Http) -> None:
    for plain in (False, True):
        error = await failure(http, refusal(200, "overloaded_error", "Overloaded"), plain=plain)
        assert error.cause == "server"
        assert "Overloaded" in str(error)


@pytest.mark.parametrize(
    ("reason", "pieces", "cause", "words"),
    [
        ("end_turn", (), "empty", "without a word"),
        ("end_turn", (opened(), word(" \n"), closed()), "empty", "without a word"),
        ("max_tokens", (), "empty", "max_tokens is too low"),
        ("max_tokens", (opened(0, type="thinking", thinking="Hm"), closed()), "empty", "went into reasoning"),
        ("refusal", (), "content_filter", "filter stopped the answer: Not this."),
        ("refusal", (opened(), word("First, take"), closed()), "content_filter", "filter stopped the answer"),
    ],
)
async def test_an_answer_that_is_none(
    http: Http, reason: str, pieces: tuple[bytes, ...], cause: str, words: str
) -> None:
    end = stopped(reason, stop_details={"type": "refusal", "explanation": "Not this."} if cause != "empty" else None)
    error = await failure(http, stream(start(), *pieces, end + END))
    assert error.cause == cause
    assert words in str(error)
    assert error.usage == COUNTED


async def test_an_answer_that_was_cut_at_its_limit_is_one(http: Http) -> None:
    async with Server(whole({"type": "text", "text": "Because of"}, reason="max_tokens")) as server:
        assert (await model_at(server, http)(ASKED, None)).finish_reason == "length"


@pytest.mark.parametrize("answer", [SILENCE, stream(*HELLO[:3], end="silence")])
async def test_silence(answer: Reply) -> None:
    async with Http(silence=0.05) as http, Server(answer) as server:
        with pytest.raises(ModelError, match="silent") as caught:
            await model_at(server, http)(ASKED, Ear())
        assert caught.value.cause == "timeout"
        await server.exchanges[0].left.wait()


async def test_nobody_is_there(http: Http) -> None:
    async with Server() as server:
        url = server.url
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        await Anthropic(http, provider="anthropic", base_url=url, name="claude")(ASKED, None)
    assert caught.value.cause == "network"


# ---- leaving


@pytest.mark.parametrize("plain", [False, True])
async def test_cancelling_a_call_closes_it_at_the_provider(http: Http, plain: bool) -> None:
    async with Server(SILENCE if plain else stream(*HELLO[:3], end="silence")) as server:
        speaking = asyncio.Event()

        async def send(delta: Delta) -> None:
            speaking.set()

        call = asyncio.create_task(model_at(server, http)(ASKED, None if plain else send))
        if plain:
            while not server.exchanges:
                await asyncio.sleep(0)
        else:
            await speaking.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.exchanges[0].left.wait()


async def test_a_listener_that_fails_closes_the_call(http: Http) -> None:
    class Gone(Exception):
        pass

    async def send(delta: Delta) -> None:
        raise Gone

    async with Server(stream(*HELLO[:3], end="silence")) as server:
        with pytest.raises(Gone):
            await model_at(server, http)(ASKED, send)
        await server.exchanges[0].left.wait()


async def test_whether_a_provider_can_be_reached(http: Http) -> None:
    async with Server(as_json({"data": []}), refusal(401, "authentication_error", "invalid x-api-key")) as server:
        assert await reachable(http, server.url, KEY) is None
        wrong = await reachable(http, server.url, KEY)
        assert wrong is not None
        assert "invalid x-api-key" in wrong
        assert (server.exchanges[0].method, server.exchanges[0].path) == ("GET", "/v1/models")
        assert server.exchanges[0].headers["x-api-key"] == KEY
