"""One call to a hosted model of any API: sends the request, sends it changed after a refusal, and reads the answer.

Whatever differs between APIs is in a `Format`, a module of `partsong.wire`. An answer without an end or without text,
or one that a filter has stopped, is a failure even if text has come: partial text must not pass for an answer.

An answer that exceeds its room (see `wire.room`) is cut, and the connection is closed. The text so far is the answer,
which is told to be truncated. With tool calls, the call fails, because nobody must act on half of them.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.heavy import done, is_heavy, text_in
from partsong.model import Answer, Delta, Request, Send, ToolCall, Usage
from partsong.providers.bodies import Body
from partsong.providers.http import LARGE, Call, Endpoint
from partsong.providers.quirks import NO_STREAM, THINKS_FIRST, Lesson, Quirks
from partsong.providers.rejection import read_problem
from partsong.wire.blobs import Encoded
from partsong.wire.deltas import is_progress
from partsong.wire.history import HistoryRules
from partsong.wire.room import Room, room_of
from partsong.wire.sse import Decoder

# Seconds to wait after a finish reason for the usage and the end of the stream. Some servers never end the stream.
REST = 1.0
# Seconds to wait after a finish reason if text may still follow. Some servers send a finish reason with each chunk, or
# after the reasoning. Only the end of the stream is then the end of the answer.
LONG_REST = 60.0
# Bytes of a stream that are read before other work has its turn. Some milliseconds of work, whatever the bytes are.
PIECE = 1 << 14
ANSWERED = frozenset({200, 201, 202, 203})  # statuses that come with an answer


class Said(Protocol):
    """One answer as far as it has been received, in one API: takes events or a whole answer, and returns deltas.

    At the end, `answer` makes the answer.

    heard: whether a part of an answer has come
    ended: whether a finish reason has come
    settled: whether the finish reason looks final
    broken: whether text has followed a finish reason
    done: whether nothing more will come
    problem: JSON of an error that the server sent in place of an answer; `None` if none came
    refusal: the model's refusal, or the provider's explanation for stopping the answer; "" if there is none
    room: the room that is left for the answer
    lone_tag: whether a `</think>` without a `<think>` has shown that the content began with thoughts
    """

    heard: bool
    ended: bool
    broken: bool
    done: bool
    problem: bytes | None
    room: Room

    @property
    def settled(self) -> bool: ...

    @property
    def lone_tag(self) -> bool: ...

    @property
    def refusal(self) -> str: ...

    def hear(self, events: Sequence[tuple[str, bytes]]) -> list[Delta]: ...

    def hear_whole(self, document: bytes) -> list[Delta]: ...

    def finish(self, deltas: list[Delta]) -> None: ...

    def used(self, request: Request) -> Usage: ...

    def answer(self) -> Answer: ...


class Format(Protocol):
    """The provider's side of one API: serializes requests (`body`) and parses answers (`Said`)."""

    def body(self, request: Request, model: str, *, stream: bool, rules: HistoryRules) -> Body: ...

    def Said(self, tools: Collection[str] = (), *, thinks_first: bool = False, room: Room | None = None) -> Said: ...


async def ask(
    endpoint: Endpoint, wire: Format, model: str, quirks: Quirks, request: Request, send: Send | None
) -> Answer:
    """Make one call to a model, and return its answer.

    endpoint: where the request is sent
    wire: the API's module
    model: the model's name at the provider
    quirks: what the model does not accept; learns from refusals, after which the changed request is sent again
    send: receives deltas of the answer, which is then streamed; `None` for no listener

    Raises `ModelError` if the provider refuses the request, cannot be reached, or gives no complete answer.
    """
    lesson = Lesson(quirks, lambda rules: wire.body(request, model, stream=send is not None, rules=rules))
    heavy = is_heavy(request)
    size = await done(heavy, text_in, request) if heavy else 0
    while True:
        async with endpoint.place(size) as place:
            body, streams = await done(heavy, _written, lesson, heavy)
            sending = endpoint.post(body, place)
            del body  # a large body is forgotten as it is sent
            async with sending as call:
                place.release()
                endpoint.tell(model, call.headers)
                if call.status in ANSWERED:
                    quirks.remember(*lesson.in_force)
                    answer = await _hear(call, wire, quirks, request, send)
                    if streams and not call.streamed:
                        quirks.remember(NO_STREAM)  # the server ignores the request for a stream
                    quirks.hear(answer)
                    return await done(heavy, lesson.with_caveats, answer)
                rejection = await call.rejection()
        if not await done(heavy, lesson.learn, rejection):
            raise rejection.error()


async def _hear(call: Call, wire: Format, quirks: Quirks, request: Request, send: Send | None) -> Answer:
    """Read the answer, streamed or whole. Raises `ModelError` with the usage so far if there is no complete answer."""
    tools = frozenset(tool.name for tool in request.tools)
    room = room_of(request, call.bounds)
    said = wire.Said(tools, thinks_first=THINKS_FIRST in quirks.known, room=room)
    try:
        data = await call.read()
        while data.isspace():  # the server sends white space to keep the connection alive
            data = await call.read()
        call.streamed = data.lstrip()[:1] not in (b"{", b"[", b"<")  # some servers ignore what was requested
        if call.streamed:
            with call.backlog:
                answer = await _hear_stream(call, data, said, request, send)
        else:
            answer = await _hear_whole(call, data, said, request, send)
    except ModelError as fault:
        if said.heard and fault.usage is None:
            fault.usage = await done(is_heavy(request), said.used, request)
        raise
    if said.lone_tag:
        quirks.remember(THINKS_FIRST)
    return answer


async def _hear_stream(call: Call, data: bytes, said: Said, request: Request, send: Send | None) -> Answer:
    if not data:
        raise ModelError("the provider answered nothing at all", "empty")
    decoder, spoke, backlog = Decoder(call.bounds.answer_megabytes << 20), False, call.backlog
    until: float | None = None  # after a finish reason: when to stop waiting for more, by the loop's clock
    settled, read = False, 0
    while data:
        heard = await _hear_read(call, data, decoder, said, send)
        spoke, read = spoke or heard, read + len(data)
        if said.done:
            await call.finish()
            return await _answer(call, said, request)
        if call.is_over:
            said.room.close(f"the answer was cut: its stream has more than {call.bounds.stream_megabytes:,} MiB")
        if said.room.full:
            return await _cut(call, said, request, send)
        if said.ended and (heard or until is None or settled != said.settled):
            settled = said.settled
            until = asyncio.get_running_loop().time() + (REST if settled else LONG_REST)
        if backlog.pause and (spoke or read > PIECE) and until is None:
            await call.rest(backlog.pause)
        data = await _read_on(call, said, until)
    rest: list[Delta] = []
    with suppress(ModelError):  # half an event is ignored, but a whole one may lack the blank line at its end
        rest += said.hear(decoder.end())
    if said.problem is not None:
        raise call.problem(said.problem).error()
    if said.ended:
        said.finish(rest)
    if send is not None:
        for delta in rest:
            await send(delta)
    return await _answer(call, said, request)


async def _hear_read(call: Call, data: bytes, decoder: Decoder, said: Said, send: Send | None) -> bool:
    """Parse the bytes of one network read, and send their deltas. Returns whether there were any deltas.

    A read is parsed piece by piece, so that other work goes on whatever a server sends. It ends early if the answer
    does. Raises `ModelError` for an error of the server.
    """
    clock, spoke = asyncio.get_running_loop().time, False
    for start in range(0, len(data), PIECE):
        if start:
            await asyncio.sleep(call.backlog.pause)
        deltas = said.hear(decoder.feed(data[start : start + PIECE] if len(data) > PIECE else data))
        began = clock()
        for delta in deltas:
            if send is not None:
                await send(delta)
        if deltas:
            spoke = True
            call.note(progress=any(is_progress(delta) for delta in deltas), listened=clock() - began)
        if said.problem is not None:
            raise call.problem(said.problem).error()
        if said.done or said.room.full:
            break
    return spoke


async def _cut(call: Call, said: Said, request: Request, send: Send | None) -> Answer:
    """Return an answer that has exceeded its room, as far as it came. The caller then closes the connection."""
    rest: list[Delta] = []
    with suppress(ModelError):  # the cut may divide a character
        said.finish(rest)
    if send is not None:
        for delta in rest:
            await send(delta)
    return await _answer(call, said, request)


async def _read_on(call: Call, said: Said, until: float | None) -> bytes:
    """Return the bytes of one network read; empty at the end of the answer.

    until: when to stop waiting after a finish reason, by the loop's clock; `None` before a finish reason

    Silence until then ends the answer, unless the finish reason is not final and text has already followed one. In this
    case, the answer counts as truncated. Raises `ModelError` for a truncated answer or a network fault.
    """
    if until is None or said.settled:
        return await call.read(until)
    try:
        async with asyncio.timeout_at(until):
            return await call.read()
    except TimeoutError:
        pass
    except ModelError as fault:
        if fault.cause != "timeout":
            raise
    if said.broken:
        raise ModelError("the stream fell silent before its end", "truncated")
    return b""


async def _hear_whole(call: Call, data: bytes, said: Said, request: Request, send: Send | None) -> Answer:
    async with call.reading_place() as place:
        document = (await call.whole(data, place)).strip()
        if document.startswith(b"<"):
            raise ModelError("the answer is a web page; is base_url right?", "server")
        # A shorter answer is parsed at once: many that wait for a thread would fill the memory.
        deltas = await done(len(document) > LARGE, said.hear_whole, document)
        del document
    if said.problem is not None:
        raise call.problem(said.problem).error()
    answer = await _answer(call, said, request)
    if send is not None:
        for delta in deltas:
            await send(delta)
    return answer


async def whole_answer(endpoint: Endpoint, wire: Format, request: Request, document: bytes) -> Answer:
    """Return the answer in a JSON document that came in another way than as the response to a call, as in a batch.

    Raises `ModelError` as a call does.
    """
    tools = frozenset(tool.name for tool in request.tools)
    said = wire.Said(tools, room=room_of(request, endpoint.http.bounds))
    said.hear_whole(document)
    if said.problem is not None:
        raise read_problem(said.problem, endpoint.secret).error()
    return await _answer(endpoint, said, request)


async def _answer(call: Call | Endpoint, said: Said, request: Request) -> Answer:
    """Return the answer. Raises `ModelError` if it has no end or no content, or if a filter has stopped it."""
    cut = said.room.full
    if not said.ended and not said.heard and not cut:
        raise ModelError("the answer is neither JSON nor a stream of events", "server")
    if not said.ended and not cut:
        raise ModelError("the stream ended before the answer did", "truncated")
    answer = replace(said.answer(), usage=await done(is_heavy(request), said.used, request))
    if answer.finish_reason == "content_filter":
        # The text before is cut off where the filter stopped the model, so no later prompt may use the text.
        why = f": {call.quote(said.refusal)}" if said.refusal else ""
        raise ModelError(f"the provider's filter stopped the answer{why}", "content_filter", usage=answer.usage)
    called = any(type(part) is ToolCall for part in answer.parts)
    if cut and called:
        raise ModelError(f"{cut}; it has tool calls", "truncated", usage=answer.usage, again=False)
    if answer.finish_reason == "tool_calls" and not called:
        raise ModelError("it ended for a tool call, but there is none in the answer", "invalid", usage=answer.usage)
    if called or answer.text.strip():
        return answer
    raise ModelError(_why_empty(answer, request), "empty", usage=answer.usage)


def _why_empty(answer: Answer, request: Request) -> str:
    """Return a sentence for people about why an answer is empty."""
    if answer.caveats:
        return f"it answered without a word: {'; '.join(caveat.message for caveat in answer.caveats)}"
    if answer.finish_reason == "length":
        return (
            "it answered without a word, as its tokens went into reasoning; max_tokens must be higher"
            if answer.parts
            else "it answered without a word: max_tokens is too low"
        )
    if request.messages and request.messages[-1].role == "tool":
        return "it answered without a word after a tool's result"
    return "it answered without a word"


def _written(lesson: Lesson, heavy: bool) -> tuple[bytes | Encoded, bool]:
    """The request's body, and whether it asks for a stream. A heavy body is sent in pieces."""
    body = lesson.body()
    try:
        return Encoded(body) if heavy else msgspec.json.encode(body), "stream" in body
    except UnicodeEncodeError:
        raise ModelError("the request has half a surrogate pair in it, which is no text", "refused") from None
