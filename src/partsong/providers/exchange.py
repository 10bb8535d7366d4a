"""One request to a hosted model, whatever its API: posted until it is accepted, then read as a stream or as a whole.

What is particular to an API comes as its `Format`, a module of `partsong.wire`. An answer that was not said to its end,
has no word, or was stopped by a filter is a failure, whatever came before: such text must not pass for an answer.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Request, Send, ToolCall, Usage
from partsong.providers.http import Call, Endpoint
from partsong.providers.quirks import NO_STREAM, Body, Lesson, Quirks
from partsong.wire.sse import Decoder

# Seconds from the announced end of an answer for what may still come, such as the count of tokens, before a server that
# keeps the response open is left.
REST = 1.0


class Said(Protocol):
    """What a model has said so far, in one format: bytes go in, deltas come out, and in the end an answer.

    `heard` turns true with the first of it, `ended` when the end was announced, `done` when nothing more will come;
    `problem` is the JSON of an error that came in its place, and `refusal` says why it was stopped, if anything does.
    """

    heard: bool
    ended: bool
    done: bool
    problem: bytes | None

    @property
    def refusal(self) -> str: ...

    def hear(self, events: Sequence[tuple[str, bytes]]) -> list[Delta]: ...

    def hear_whole(self, document: bytes) -> list[Delta]: ...

    def used(self, request: Request) -> Usage: ...

    def answer(self) -> Answer: ...


class Format(Protocol):
    """How requests are written and answers read."""

    def body(self, request: Request, model: str, *, stream: bool) -> Body: ...

    def Said(self) -> Said: ...


async def ask(
    endpoint: Endpoint, wire: Format, model: str, quirks: Quirks, request: Request, send: Send | None
) -> Answer:
    """Ask the model for its answer; `quirks` learns what it does not accept. Raises `ModelError`."""
    lesson = Lesson(quirks)
    body = wire.body(request, model, stream=send is not None)
    while True:
        sent = lesson.change(body)
        async with endpoint.post(_encode(sent)) as call:
            endpoint.tell(model, call.headers)
            if call.status == 200:
                quirks.remember(*lesson.in_force)
                said = wire.Said()
                try:
                    data = await call.read()
                    while data.isspace():  # it is kept waiting
                        data = await call.read()
                    if data.lstrip()[:1] not in (b"{", b"[", b"<"):  # it streams, whoever listens
                        with call.backlog:
                            return await _hear_stream(call, data, said, request, send)
                    answer = await _hear_whole(call, data, said, request, send)
                except ModelError as fault:
                    if said.heard and fault.usage is None:
                        fault.usage = said.used(request)
                    raise
                if "stream" in sent:
                    quirks.remember(NO_STREAM)  # it does as if nobody had asked for one
                return answer
            rejection = await call.rejection()
        if not lesson.learn(rejection, body):
            raise rejection.error()


async def _hear_stream(call: Call, data: bytes, said: Said, request: Request, send: Send | None) -> Answer:
    if not data:
        raise ModelError("the provider answered nothing at all", "empty")
    decoder, until, spoke, backlog = Decoder(), None, False, call.backlog
    while data:
        for delta in said.hear(decoder.feed(data)):
            spoke = True
            if send is not None:
                await send(delta)
        if said.problem is not None:
            raise call.problem(said.problem).error()
        if said.done:
            await call.finish()
            break
        if said.ended and until is None:
            until = asyncio.get_running_loop().time() + REST
        if backlog.pause and spoke and until is None:
            await call.rest(backlog.pause)
        data = await call.read(until)
    else:
        with suppress(ModelError):  # half an event is no answer, but an end may come without its last line
            for delta in said.hear(decoder.end()):
                if send is not None:
                    await send(delta)
    return _answer(call, said, request)


async def _hear_whole(call: Call, data: bytes, said: Said, request: Request, send: Send | None) -> Answer:
    document = (await call.whole(data)).strip()
    if document.startswith(b"<"):
        raise ModelError("the answer is a web page; is base_url right?", "server")
    deltas = said.hear_whole(document)
    if said.problem is not None:
        raise call.problem(said.problem).error()
    answer = _answer(call, said, request)
    if send is not None:
        for delta in deltas:
            await send(delta)
    return answer


def _answer(call: Call, said: Said, request: Request) -> Answer:
    """The answer, if there is one. Raises `ModelError` for what is none."""
    if not said.ended and not said.heard:
        raise ModelError("the answer is neither JSON nor a stream of events", "server")
    if not said.ended:
        raise ModelError("the stream ended before the answer did", "truncated")
    answer = replace(said.answer(), usage=said.used(request))
    if answer.finish_reason == "content_filter":
        # Whatever came before was cut off where the filter struck, and nothing may be built on it.
        why = f": {call.quote(said.refusal)}" if said.refusal else ""
        raise ModelError(f"the provider's filter stopped the answer{why}", "content_filter", usage=answer.usage)
    if answer.text.strip() or any(type(part) is ToolCall for part in answer.parts):
        return answer
    why = "it answered without a word"
    if answer.finish_reason == "length":
        why += (
            ", as its tokens went into reasoning; max_tokens must be higher"
            if answer.parts
            else ": max_tokens is too low"
        )
    raise ModelError(why, "empty", usage=answer.usage)


def _encode(body: Body) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise ModelError("the request has half a surrogate pair in it, which is no text", "refused") from None
