"""Upstreams without end: whatever form an answer has, what is read and kept of it is bounded, and the end is told."""

import asyncio
from typing import Any

import pytest

from partsong import Delta, ModelError, Request, Text, TextDelta, asking
from partsong.bounds import Bounds
from partsong.middleware.timeouts import Timeouts
from partsong.model import Answer, Reasoning, ReasoningDelta, Sampling, ToolCallDelta
from partsong.providers import backlog
from partsong.providers.anthropic import Anthropic
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from partsong.wire.room import A_TOKEN, BEYOND
from tests.clock import START, jumping
from tests.endless import CHAT, MESSAGES, Endless, Form
from tests.upstream import Exchange, Piece, Reply, Server, as_json, chat, chunk, counts, event, stream

BOUNDS = Bounds(answer_megabytes=1, stream_megabytes=1, answer_characters=20_000)
BUFFERS = 24 << 20  # bytes: more than both ends of a connection hold back
FORMS = [("openai", name, form) for name, form in CHAT.items()]
FORMS += [("anthropic", name, form) for name, form in MESSAGES.items()]
# An answer in one of these forms has words, so that it is cut and not refused.
WITH_WORDS = {"words", "letters", "lone tags", "parts", "lenient", "logprobs", "small chunks", "squeezed", "indexes"}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stream waits because the machine is busy."""
    monkeypatch.setattr(backlog, "BEHIND", float("inf"))
    monkeypatch.setattr(backlog, "BEAT", 10.0)  # each beat is a jump where time jumps


def model(http: Http, api: str, url: str) -> OpenAI | Anthropic:
    kind: Any = OpenAI if api == "openai" else Anthropic
    return kind(http, provider="lab", base_url=f"{url}/v1", name="m")  # type: ignore[no-any-return]


def asked(**sampling: Any) -> Request:
    return Request(asking("Why?").messages, sampling=Sampling(**sampling))


def length(delta: Delta) -> int:
    return len(delta.name) + len(delta.arguments) if isinstance(delta, ToolCallDelta) else len(delta.text)


async def outcome(
    api: str, form: Form, request: Request, bounds: Bounds, *, listen: bool = True
) -> tuple[Answer | ModelError, list[Delta], int]:
    """What became of a call to an endless upstream, what was heard of it, and how many bytes it could send."""
    heard: list[Delta] = []

    async def send(delta: Delta) -> None:
        heard.append(delta)

    async with Endless(form) as upstream, Http(bounds=bounds) as http:
        try:
            async with asyncio.timeout(60):
                answer: Any = await model(http, api, upstream.url)(request, send if listen else None)
        except ModelError as error:
            answer = error
        return answer, heard, upstream.sent


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize(("api", "name", "form"), FORMS, ids=lambda value: value if isinstance(value, str) else "")
async def test_every_form_has_an_end(api: str, name: str, form: Form, listen: bool) -> None:
    answer, heard, sent = await outcome(api, form, asked(), BOUNDS, listen=listen)
    squeezed = 200 if form.squeezed else 1  # of what is squeezed, more fits into the same buffers
    assert sent < BUFFERS * squeezed
    assert sum(map(length, heard)) <= BOUNDS.answer_characters
    if isinstance(answer, ModelError):
        assert name not in WITH_WORDS
        assert not answer.passing, "what has no end has none the next time"
        return
    assert name in WITH_WORDS
    assert answer.finish_reason == "length"
    assert any(caveat.kind == "truncated" for caveat in answer.caveats or ())
    assert len(answer.text) <= BOUNDS.answer_characters
    if listen:
        assert "".join(delta.text for delta in heard if isinstance(delta, TextDelta)) == answer.text


@pytest.mark.parametrize("listen", [True, False])
@pytest.mark.parametrize("max_tokens", [1, 100, 1000])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_an_answer_far_beyond_max_tokens_is_cut_and_told(api: str, max_tokens: int, listen: bool) -> None:
    form = (CHAT if api == "openai" else MESSAGES)["words"]
    answer, _, sent = await outcome(api, form, asked(max_tokens=max_tokens), Bounds(), listen=listen)
    assert isinstance(answer, Answer)
    assert len(answer.text) == A_TOKEN * max_tokens + BEYOND
    assert answer.finish_reason == "length"
    (caveat,) = answer.caveats or ()
    assert (caveat.kind, f"far beyond max_tokens ({max_tokens:,})" in caveat.message) == ("truncated", True)
    assert answer.usage.output_tokens >= max_tokens
    assert sent < BUFFERS


@pytest.mark.parametrize("plain", [True, False])
async def test_a_whole_answer_is_cut_where_a_stream_is(plain: bool) -> None:
    words = "word " * 10_000
    async with Server(chat(words)) as server, Http() as http:

        async def send(delta: Delta) -> None:
            pass

        answer = await model(http, "openai", server.url)(asked(max_tokens=9), None if plain else send)
    assert answer.text == words[: A_TOKEN * 9 + BEYOND]
    assert answer.finish_reason == "length"


@pytest.mark.parametrize(
    "text", ["word " * 3_500, "你好，世界" * 3_500, "ทำไมท้องฟ้า" * 1_500, "🏴‍☠️" * 4_000, "    x = 1\n" * 1_700]
)
async def test_what_is_not_far_beyond_max_tokens_is_whole(text: str) -> None:
    async with Server(chat(text)) as server, Http() as http:
        answer = await model(http, "openai", server.url)(asked(max_tokens=100), None)
    assert (answer.text, answer.finish_reason) == (text, "stop")


async def test_reasoning_that_no_limit_counts_is_not_cut() -> None:
    thoughts = "hm " * 200_000
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": thoughts}
    answer = as_json({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts()})
    async with Server(answer) as server, Http() as http:
        said = await model(http, "openai", server.url)(asked(max_tokens=10), None)
    assert said.parts == (Reasoning(thoughts), Text("Yes."))
    form = CHAT["reasoning"]
    cut, heard, sent = await outcome("openai", form, asked(max_tokens=10), Bounds())
    assert isinstance(cut, ModelError)
    assert cut.cause == "empty"
    assert "far beyond max_tokens (10)" in str(cut)
    assert len(thoughts) < sum(len(delta.text) for delta in heard if isinstance(delta, ReasoningDelta)) < 1_100_000
    assert sent < 200 << 20


@pytest.mark.parametrize("name", ["arguments", "tool calls"])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_nobody_acts_on_tool_calls_that_were_cut(api: str, name: str) -> None:
    form = (CHAT if api == "openai" else MESSAGES)[name]
    error, _, _ = await outcome(api, form, asked(max_tokens=50), Bounds())
    assert isinstance(error, ModelError)
    assert (error.cause, error.passing) == ("truncated", False)
    assert error.usage is not None
    assert error.usage.estimated


# ---- signs of life


def every_second(*pieces: bytes, times: int = 100) -> Reply:
    def later(seconds: float) -> asyncio.Event:
        due = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, due.set)
        return due

    all_pieces: list[Piece] = []
    for number in range(times):
        all_pieces += (b"".join(pieces), later(number + 1))
    return stream(*all_pieces, end="silence")


ALIVE = {
    "comments": b": alive\n\n",
    "blank lines": b"\n\n",
    "pings": b"event: ping\ndata: {}\n\n",
    "roles": event(chunk(role="assistant", content="")),
    "nothing": event({"choices": []}),
    "white space": event(chunk(content=" \n")),
    "white reasoning": event(chunk(reasoning_content=" ")),
}


@pytest.mark.parametrize("alive", ALIVE.values(), ids=ALIVE)
@pytest.mark.parametrize("spoken", [b"", event(chunk(content="Well, "))])
@jumping(settle=0.002)
async def test_signs_of_life_are_no_progress(alive: bytes, spoken: bytes) -> None:
    def answer(exchange: Exchange) -> Reply:
        return every_second(alive) if not spoken else stream(spoken, *every_second(alive).body, end="silence")

    async with Server(answer) as server, Http() as http:
        limited = Timeouts(model(http, "openai", server.url), first=10, silence=5)
        with pytest.raises(ModelError, match=r"silent for 5 s" if spoken else r"said nothing for 10 s"):
            await limited(asked(), None)


@pytest.mark.parametrize("alive", ALIVE.values(), ids=ALIVE)
@jumping(settle=0.002)
async def test_without_a_limit_signs_of_life_have_an_end_all_the_same(alive: bytes) -> None:
    async with Server(lambda exchange: every_second(alive)) as server, Http(bounds=Bounds(progress_seconds=10)) as http:

        async def send(delta: Delta) -> None:
            pass

        with pytest.raises(ModelError, match="nothing but signs of life for 10 s") as caught:
            await model(http, "openai", server.url)(asked(), send)
    assert caught.value.cause == "timeout"
    assert asyncio.get_running_loop().time() < START + 15


@jumping(settle=0.002)
async def test_white_space_before_a_document_has_an_end() -> None:
    bounds = Bounds(progress_seconds=10)
    async with Server(lambda exchange: every_second(b"  ")) as server, Http(bounds=bounds) as http:
        with pytest.raises(ModelError, match="nothing but signs of life for 10 s"):
            await model(http, "openai", server.url)(asked(), None)


@pytest.mark.parametrize("listener", [0.0, 7.0])
@jumping(settle=0.002)
async def test_an_answer_that_trickles_has_an_end_and_a_listeners_time_does_not_count(listener: float) -> None:
    heard = 0

    async def send(delta: Delta) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            await asyncio.sleep(listener)

    bounds = Bounds(call_seconds=10)
    word = event(chunk(content="word "))
    async with Server(lambda exchange: every_second(word)) as server, Http(bounds=bounds) as http:
        with pytest.raises(ModelError, match="did not end its answer within 10 s") as caught:
            await model(http, "openai", server.url)(asked(), send)
    assert not caught.value.passing
    assert START + 10 + listener <= asyncio.get_running_loop().time() < START + 13 + listener


async def test_a_head_that_trickles_has_an_end() -> None:
    left = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()
            left.set()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Http(bounds=Bounds(progress_seconds=0.3)) as http:
            with pytest.raises(ModelError, match=r"did not begin to answer within 0\.3 s") as caught:
                await model(http, "openai", url)(asked(), None)
        await left.wait()
    assert caught.value.cause == "timeout"


async def test_other_work_goes_on_between_the_pieces_of_one_read() -> None:
    """One read of many events does not hold up the loop until all of them are parsed."""
    numbers: list[int] = []

    async def count_turns() -> None:
        while True:
            numbers.append(len(numbers))
            await asyncio.sleep(0)

    data = event(chunk(content="word ")) * 5_000 + event(chunk("stop")) + event("[DONE]")
    reads: list[int] = []

    async def send(delta: Delta) -> None:
        reads.append(len(numbers))

    async with Server(Reply(data, content_type="text/event-stream")) as server, Http() as http:
        counting = asyncio.create_task(count_turns())
        answer = await model(http, "openai", server.url)(asked(), send)
        counting.cancel()
    assert answer.text == "word " * 5_000
    assert len(reads) >= len(data) // (1 << 14), "a delta for each piece"
    assert len(set(reads)) >= len(data) // (1 << 14), "and a turn of the loop between two pieces"
