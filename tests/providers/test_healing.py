"""Refusals that a change of the request heals: the table of wordings, each with what is sent the second time."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from partsong.errors import Cause, ModelError
from partsong.model import (
    Answer,
    Image,
    Message,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from partsong.providers.anthropic import Anthropic
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from partsong.providers.ranges import Range, nearest_effort, read_effort, read_range
from tests.upstream import Exchange, Reply, Server, as_json, chat, event, status, stream

ASKED = Request((Message("user", (Text("Why?"),)),), tools=(Tool("look"),))
LIMIT = r"max_?(?:completion_)?tokens"


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(silence=5) as http:
        yield http


def model(http: Http, server: Server, name: str = "m", provider: str = "lab") -> OpenAI:
    return OpenAI(http, provider=provider, base_url=f"{server.url}/v1", name=name)


def until(fits: Callable[[Any], bool], words: str, code: int = 400) -> Callable[[Exchange], Reply]:
    """A server that refuses a body in these words until it fits."""
    return lambda exchange: chat()(exchange) if fits(exchange.json) else status(code, words)


def whole(exchange: Exchange) -> Reply:
    return as_json({"content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "usage": {}})


# ---- numbers and words that a refusal offers


@pytest.mark.parametrize(
    ("words", "field", "whole_number", "bounds"),
    [
        (
            "max_tokens is too large: 100000. this model supports at most 16384 completion tokens",
            LIMIT,
            True,
            (None, 16384),
        ),
        ("`max_tokens` must be less than or equal to `32768`, the maximum value for it", LIMIT, True, (None, 32768)),
        ("range of max_tokens should be [1, 8192]", LIMIT, True, (1, 8192)),
        (
            "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens",
            LIMIT,
            True,
            (None, 64000),
        ),
        (
            "maxtokens value of 9 but the supported range is from 1 (inclusive) to 8193 (exclusive)",
            LIMIT,
            True,
            (1, 8192),
        ),
        ("max_tokens (40000) exceeds the maximum of 8,192", LIMIT, True, (None, 8192)),
        ("max_tokens must be at least 1, got 0", LIMIT, True, (1, None)),
        ("temperature: range: 0..1", "temperature", False, (0, 1)),
        ("expected a value <= 2, but got 99.0 instead. invalid 'temperature'", "temperature", False, (None, 2)),
        ("temperature must be between 0 and 2, got 100", "temperature", False, (0, 2)),
        ("temperature must be in (0, 1]", "temperature", False, (0.01, 1)),
        ("0 <= temperature < 2", "temperature", False, (0, 1.99)),
        ("`top_p` must be greater than 0.0", "top_p", False, (0.01, None)),
        ("invalid temperature: only 1 is allowed for this model", "temperature", False, (1, 1)),
        ("temperature is not supported", "temperature", False, None),
        ("the answer is 42", "temperature", False, None),
    ],
)
def test_a_range_is_read_out_of_a_refusal(
    words: str, field: str, whole_number: bool, bounds: tuple[float | None, float | None] | None
) -> None:
    found = read_range(words, field, whole=whole_number)
    if bounds is None:
        assert found is None
    else:
        low, high = bounds
        inf = float("inf")
        assert found == Range(-inf if low is None else low, inf if high is None else high)


@pytest.mark.parametrize(
    ("asked", "words", "nearest"),
    [
        ("xhigh", "does not support effort level 'xhigh'. supported levels: high, low, max, medium.", "high"),
        (
            "minimal",
            "'reasoning_effort' does not support 'minimal'. supported values are: 'low', 'medium', 'high'",
            "low",
        ),
        ("low", "`reasoning_effort` must be one of `none` or `default`", "default"),
        ("max", 'level "max" not supported, valid levels: low, medium, high, xhigh', "xhigh"),
        ("xhigh", "input should be 'low', 'medium' or 'high'", "high"),
        ("xhigh", "expected one of 'low' | 'medium' | 'high', received 'xhigh'", "high"),
        ("medium", "reasoning_effort: supported values are ['low', 'high', 'max']", "low"),
        ("minimal", "unknown variant `minimal`, expected one of `high`, `low`, `medium`, `max`, `xhigh`", "low"),
        ("none", "reasoning_effort 'none' is not supported; choose low or high", "low"),
    ],
)
def test_the_nearest_effort_is_taken(asked: str, words: str, nearest: str) -> None:
    assert nearest_effort(asked, read_effort(words, asked)) == nearest


# ---- healed once, and remembered

SAMPLED = Request(
    ASKED.messages,
    tools=ASKED.tools,
    tool_choice="look",
    sampling=Sampling(temperature=1.9, top_p=0.0, max_tokens=100_000, effort="minimal", top_logprobs=20),
)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("Range of max_tokens should be [1, 8192]", "max_tokens", 8192),
        ("'max_tokens' is too large: 100000. Its window is 32768 (100000 > 32768 - 5).", "max_tokens", 32763),
        ("temperature: range: 0..1", "temperature", 1.0),
        ("top_p must be in (0, 1]", "top_p", 0.01),
        ("top_logprobs must be less than or equal to 5", "top_logprobs", 5),
        ("Logprobs are not enabled for this model", "top_logprobs", None),
        ("Unsupported value: 'reasoning_effort'. Supported values are: 'low' and 'high'", "reasoning_effort", "low"),
        ("This model does not support parameter reasoningEffort", "reasoning_effort", None),
        ("Thinking mode does not support this tool_choice", "thinking", {"type": "disabled"}),
    ],
)
async def test_what_a_refusal_offers_is_sent_and_remembered(http: Http, words: str, field: str, value: Any) -> None:
    async with Server(until(lambda body: body.get(field) == value, words)) as server:
        asked = model(http, server)
        assert (await asked(SAMPLED, None)).text == "Hello, world."
        assert len(server.exchanges) == 2
        assert server.exchanges[1].json.get(field) == value
        await asked(SAMPLED, None)
        # What the window leaves depends on the prompt, so that it is not remembered.
        assert len(server.exchanges) == (4 if "window" in words else 3)


async def test_a_forced_tool_is_given_up_only_where_thinking_cannot_be_turned_off(http: Http) -> None:
    words = "The tool_choice parameter does not support being set to required or object in thinking mode"
    async with Server(until(lambda body: body.get("enable_thinking") is False, words)) as server:
        await model(http, server)(SAMPLED, None)
        assert server.exchanges[-1].json["tool_choice"] == {"type": "function", "function": {"name": "look"}}
        assert "thinking" not in server.exchanges[-1].json
    async with Server(until(lambda body: body["tool_choice"] == "auto", words)) as server:
        await model(http, server)(SAMPLED, None)
        assert server.exchanges[-1].json.keys() & {"thinking", "enable_thinking"} == set()
        assert len(server.exchanges) == 4


async def test_the_system_speaks_first_and_once(http: Http) -> None:
    def fits(body: Any) -> bool:
        return "system" not in [message["role"] for message in body["messages"][1:]]

    system = [Message("system", (Text(word),)) for word in ("One.", "Two.", "Three.", "Four.")]
    talk = (system[0], system[1], *ASKED.messages, system[2], Message("assistant", (Text("So."),)), *ASKED.messages)
    for words in ("System message must be at the beginning.", "Only the first message can have the role system"):
        async with Server(until(fits, words)) as server:
            await model(http, server)(Request((*talk, system[3])), None)
            assert [(message["role"], message["content"]) for message in server.exchanges[-1].json["messages"]] == [
                ("system", "One.\n\nTwo."),
                ("user", "Why?"),
                ("assistant", "So."),
                ("user", "Three.\n\nWhy?"),
                ("user", "Four."),
            ]


PICTURED = Request((Message("user", (Text("What is this?"), Image(b"\x89PNG", "image/png"))),))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (404, "No endpoints found that support image input"),
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (400, "messages[0]: unknown variant `image_url`, expected `text` at line 1 column 391"),
        (400, "this model does not support image input (ref: b8bd)"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "messages[0].content must be a string"),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (400, "m is not a multimodal model"),
    ],
)
async def test_a_model_that_reads_no_pictures_is_told_that_there_was_one(http: Http, code: int, words: str) -> None:
    async with Server(until(lambda body: "image" not in json.dumps(body), words, code)) as server:
        asked = model(http, server)
        for _ in range(2):
            answer = await asked(PICTURED, None)
            (caveat,) = answer.caveats or ()
            assert (answer.text, caveat.kind) == ("Hello, world.", "shortened")
            assert server.exchanges[-1].json["messages"][0]["content"] == "What is this?\n\n[picture]"
        assert len(server.exchanges) == 3
        assert not (await asked(ASKED, None)).caveats


async def test_the_same_in_the_messages_format(http: Http) -> None:
    def fits(exchange: Exchange) -> Reply:
        if "base64" in exchange.body.decode():
            return status(400, "This model does not support image input")
        if exchange.json["max_tokens"] > 64000:
            return status(400, "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens")
        if exchange.json.get("output_config", {}).get("effort") == "xhigh":
            return status(400, "This model does not support effort level 'xhigh'. Supported levels: high, low.")
        if exchange.json.get("thinking") and exchange.json.get("tool_choice", {}).get("type") == "any":
            return status(400, "Thinking may not be enabled when tool_choice forces tool use.")
        return whole(exchange)

    sampling = Sampling(max_tokens=100_000, effort="xhigh", thinks=True)
    request = Request(PICTURED.messages, tools=(Tool("look"),), tool_choice="required", sampling=sampling)
    async with Server(fits) as server:
        asked = Anthropic(http, provider="lab", base_url=server.url, name="claude")
        assert (await asked(request, None)).caveats
        assert len(server.exchanges) == 5
        sent = server.exchanges[-1].json
        assert sent["messages"][0]["content"][1] == {"type": "text", "text": "[picture]"}
        assert (sent["max_tokens"], sent["output_config"]["effort"], "thinking" in sent) == (64000, "high", False)
        await asked(request, None)
        assert len(server.exchanges) == 6


# ---- histories

STEP = (
    *ASKED.messages,
    Message("assistant", (Reasoning("Hm."), ToolCall("functions.look:0", "look", "{}", signature="google:c2ln"))),
    Message("tool", (ToolResult("functions.look:0", (Text("blue"),)),)),
)


async def sent(http: Http, name: str, messages: tuple[Message, ...] = STEP, provider: str = "lab") -> Any:
    async with Server(chat()) as server:
        await model(http, server, name, provider)(Request(messages), None)
        return server.exchanges[0].json["messages"]


@pytest.mark.parametrize("name", ["deepseek-v4-pro", "moonshotai/kimi-k2-thinking"])
async def test_reasoning_goes_back_on_every_turn_where_it_must(http: Http, name: str) -> None:
    foreign = (*STEP, Message("assistant", (Text("Blue."),)), *ASKED.messages)
    turns = [message for message in await sent(http, name, foreign) if message["role"] == "assistant"]
    assert [turn["reasoning_content"] for turn in turns] == ["Hm.", " "]
    assert all("reasoning_content" not in message for message in await sent(http, "gpt-4o", foreign))


async def test_that_reasoning_goes_back_is_learnt_and_so_is_that_it_does_not(http: Http) -> None:
    def needs(body: Any) -> bool:
        return all("reasoning_content" in turn for turn in body["messages"] if turn["role"] == "assistant")

    words = "The `reasoning_content` in the thinking mode must be passed back to the API."
    async with Server(until(needs, words)) as server:
        await model(http, server)(Request(STEP), None)
        assert len(server.exchanges) == 2
    words = "'messages.1' : for 'role:assistant' property 'reasoning_content' is unsupported"
    async with Server(
        until(lambda body: not any("reasoning_content" in turn for turn in body["messages"]), words)
    ) as server:
        await model(http, server, "kimi-k2")(Request(STEP), None)
        assert len(server.exchanges) == 2


async def test_ids_fit_whoever_reads_them_and_results_follow_their_tool_calls(http: Http) -> None:
    calls = ("a" * 64, "same", "same", "", "functions.look:0")
    history = (
        *ASKED.messages,
        Message("assistant", tuple(ToolCall(call, "look", "{}") for call in calls)),
        Message("tool", tuple(ToolResult(call, (Text(str(index)),)) for index, call in enumerate(calls))),
    )
    for name, fits in (
        ("gpt-4o", lambda identity: 0 < len(identity) <= 40),
        ("mistral-large-latest", lambda identity: len(identity) == 9 and identity.isalnum()),
    ):
        _, turn, *results = await sent(http, name, history)
        written = [call["id"] for call in turn["tool_calls"]]
        assert all(map(fits, written))
        assert len(set(written)) == 5
        assert [(result["tool_call_id"], result["content"]) for result in results] == [
            (identity, str(index)) for index, identity in enumerate(written)
        ]
        assert await sent(http, name, history) == await sent(http, name, history)
    async with Server(whole) as server:
        await Anthropic(http, provider="lab", base_url=server.url, name="claude")(Request(history), None)
        body = server.exchanges[0].json
    written = [block["id"] for block in body["messages"][1]["content"]]
    assert written == [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert len(set(written)) == 5
    assert body["tools"] == [{"name": "look", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


async def test_signatures_go_back_to_gemini_alone(http: Http) -> None:
    assert (await sent(http, "gemini-3-pro"))[1]["tool_calls"][0]["extra_content"] == {
        "google": {"thought_signature": "c2ln"}
    }
    assert "extra_content" not in (await sent(http, "gpt-4o"))[1]["tool_calls"][0]


async def test_what_an_endpoint_has_sent_with_an_answer_goes_back_to_it(http: Http) -> None:
    details = [{"type": "reasoning.text", "text": text, "index": 0, "format": None} for text in ("Hm", ".")]
    details += [{"type": "reasoning.encrypted", "data": "QUJD", "index": 1}]
    call = {"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}
    call |= {"extra_content": {"vertex": {"thought_signature": "c2ln"}}}
    said = [event({"choices": [{"delta": {"reasoning": "Hm.", "reasoning_details": [detail]}}]}) for detail in details]
    said += [event({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}), event("[DONE]")]
    async with Server(stream(*said), chat()) as server:
        asked = model(http, server)
        answer: Answer = await asked(ASKED, None)
        result = Message("tool", (ToolResult("c", (Text("blue"),)),))
        await asked(Request((*ASKED.messages, Message("assistant", answer.parts), result)), None)
        turn = server.exchanges[1].json["messages"][1]
    assert turn["reasoning_details"] == [details[0] | {"text": "Hm."}, details[2]]
    assert turn["tool_calls"][0]["extra_content"] == {"vertex": {"thought_signature": "c2ln"}}
    # Another API's blocks are nothing that Anthropic's takes.
    async with Server(whole) as server:
        request = Request((*ASKED.messages, Message("assistant", answer.parts), result))
        await Anthropic(http, provider="lab", base_url=server.url, name="claude")(request, None)
        assert [block["type"] for block in server.exchanges[0].json["messages"][1]["content"]] == ["tool_use"]


# ---- statuses, pauses, and what may be asked again


@pytest.mark.parametrize(
    ("reply", "cause", "passing", "seconds"),
    [
        (status(409, "conflict"), "server", True, None),
        (status(425, "too early"), "server", True, None),
        (status(400, "no", {"x-should-retry": "true"}), "refused", True, None),
        (status(500, "no", {"x-should-retry": "false"}), "server", False, None),
        (status(500, "tools param requires --jinja flag"), "refused", False, None),
        (status(500, "Cannot use both json_schema and grammar"), "refused", False, None),
        (status(500, "The server had an error"), "server", True, None),
        (status(429, "Please try again in 7.66s"), "rate", True, 7.66),
        (status(429, "Please retry in 1m2s."), "rate", True, 62.0),
        (status(429, "Retry after 20 seconds."), "rate", True, 20.0),
        (status(429, "slow", retry_after=3), "rate", True, 3.0),
        (
            status(
                429, "slow", details=[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]
            ),
            "rate",
            True,
            34.07,
        ),
        (status(429, "slow", {"Retry-After": "1"}, retry_after=3), "rate", True, 1.0),
        (status(400, "see https://docs.example.org/context-window for more"), "refused", False, None),
        (status(400, "The total length is too long", type="too_many_prompt_tokens"), "window", False, None),
        (
            status(400, "Tool choice is required, but model did not call a tool", code="tool_use_failed"),
            "invalid",
            False,
            None,
        ),
        (as_json({"choices": [{"error": {"message": "slow down", "code": 429}}]}), "rate", True, None),
        (stream(event({"choices": [{"error": {"message": "slow down", "code": 429}}]})), "rate", True, None),
        (stream(b'error: {"message": "overloaded, sorry", "code": 503}\n\n'), "server", True, None),
        (stream(event({"error": {"message": "Token limit reached", "code": 400}})), "truncated", True, None),
        (as_json({"choices": [{"message": {"content": "a"}, "finish_reason": "tool_calls"}]}), "invalid", False, None),
        (as_json({"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}]}), "server", True, None),
    ],
)
async def test_a_failure_tells_its_cause_and_whether_it_passes(
    http: Http, reply: Reply, cause: Cause, passing: bool, seconds: float | None
) -> None:
    async with Server(reply) as server:
        with pytest.raises(ModelError) as caught:
            await model(http, server)(ASKED, None)
    assert (caught.value.cause, caught.value.passing, caught.value.retry_after) == (cause, passing, seconds)


async def test_the_providers_words_are_kept_wherever_they_stand(http: Http) -> None:
    for reply in (
        stream(event({"choices": [{"error": {"message": "the cat sat on it"}}]})),
        stream(b"error: the cat sat on it\n\n"),
        stream(event({"message": "the cat sat on it", "code": 7}, "error")),
    ):
        async with Server(reply) as server:
            with pytest.raises(ModelError, match="the cat sat on it"):
                await model(http, server)(ASKED, None)


@pytest.mark.parametrize("code", [200, 201, 202])
async def test_other_good_statuses_come_with_an_answer(http: Http, code: int) -> None:
    async with Server(as_json({"choices": [{"message": {"content": "a"}}]}, code)) as server:
        assert (await model(http, server)(ASKED, None)).text == "a"
    async with Server(Reply(b"{}", code)) as server:
        with pytest.raises(ModelError, match="no choices"):
            await model(http, server)(ASKED, None)
