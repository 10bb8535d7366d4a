"""Upstreams without end: a server on loopback that sends one form of an answer as fast as the client takes it.

    async with Endless(CHAT["words"]) as upstream:
        ... call upstream.url + "/v1/chat/completions" ...
        assert upstream.sent < bound  # bytes

`sent` counts the bytes of the body that the client took before it closed the connection, before any compression.
"""

import asyncio
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

BLOCK = 1 << 16  # bytes of one write, at least
MOST = 4 << 30  # bytes after which the server gives up, so that a test that fails does end


@dataclass(frozen=True)
class Form:
    """One form of an endless answer.

    start: what the body begins with
    again: what is repeated; with a `@@` in it, each repetition has a number in this place
    streamed: whether it is a stream of events
    head: further lines of the head, each with its line end
    squeezed: whether the body is compressed
    chunk: bytes of each chunk of the transfer encoding; 0 for a body until the connection is closed
    """

    start: bytes = b""
    again: bytes = b""
    streamed: bool = True
    head: bytes = b""
    squeezed: bool = False
    chunk: int = 0

    def pieces(self) -> Iterator[bytes]:
        """The body, in pieces of at least `BLOCK` bytes."""
        yield self.start
        if b"@@" not in self.again:
            block = self.again * (BLOCK // len(self.again) + 1)
            while True:
                yield block
        many = range(BLOCK // len(self.again) + 1)
        for number in count():
            yield b"".join(self.again.replace(b"@@", b"%d" % (number * len(many) + each)) for each in many)


def _chunk(**delta: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _call(index: Any, identity: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": identity, "function": {"name": "f", "arguments": arguments}}


_LIKELY = b'{"token":"ab","logprob":-1.0,"top_logprobs":[{"token":"cd","logprob":-2.0},{"token":"ef","logprob":-3.0}]}'
CHAT = {
    "words": Form(again=_chunk(content="word ")),
    "letters": Form(again=_chunk(content="é")),
    "white space": Form(again=_chunk(content=" \n")),
    "reasoning": Form(again=_chunk(reasoning_content="hm ")),
    "thoughts in tags": Form(_chunk(content="<think>"), _chunk(content="hm ")),
    "lone tags": Form(_chunk(content="Well, "), _chunk(content="a </think> b ")),
    "refusal": Form(again=_chunk(refusal="no ")),
    "arguments": Form(
        _chunk(tool_calls=[_call(0, "c", '{"a": "')]),
        _chunk(tool_calls=[{"index": 0, "function": {"arguments": "more "}}]),
    ),
    "arguments again": Form(
        _chunk(tool_calls=[_call(0, "c", json.dumps({"a": "b" * 4000}))]),
        _chunk(tool_calls=[{"index": 0, "function": {"arguments": "1"}}]),
    ),
    "tool calls": Form(again=_chunk(tool_calls=[_call("@@", "c@@", "[]")]).replace(b'"@@"', b"@@")),
    "signatures": Form(
        again=_chunk(tool_calls=[_call(0, "c", "") | {"extra_content": {"google": {"thought_signature": "x" * 99}}}])
    ),
    "details": Form(again=_chunk(reasoning_details=[{"type": "reasoning.text", "index": 0, "text": "hm "}])),
    "encrypted details": Form(again=_chunk(reasoning_details=[{"type": "reasoning.encrypted", "data": "x" * 50}])),
    "fields of details": Form(again=_chunk(reasoning_details=[{"type": "t", "f@@": 1}])),
    "parts": Form(again=_chunk(content=[{"type": "text", "text": "word "}, {"type": "image@@", "text": ""}])),
    "logprobs": Form(again=b'data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[%b]}}]}\n\n' % _LIKELY),
    "lenient": Form(again=b'data: {"choices":[{"delta":{"content":"a"},"logprobs":NaN}]}\n\n'),
    "roles": Form(again=_chunk(role="assistant", content="")),
    "chunks": Form(again=b"data: {}\n\n"),
    "usages": Form(again=b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}\n\n'),
    "comments": Form(again=b": alive\n\n"),
    "pings": Form(again=b"event: ping\ndata: ping\n\n"),
    "blank lines": Form(again=b"\n"),
    "returns": Form(again=b"\r\n\r"),
    "one line": Form(b"data: ", b"x" * 1000),
    "one string": Form(b'data: {"choices":[{"delta":{"content":"', b"x" * 1000),
    "one event": Form(again=b"data: x\n"),
    "one comment": Form(again=b": alive\n"),
    "names": Form(again=b"event: @@\n"),
    "small chunks": Form(again=_chunk(content="word "), chunk=3),
    "squeezed": Form(again=_chunk(content="word "), squeezed=True),
    "squeezed blanks": Form(again=b"\n" * 1000, squeezed=True),
    "spaces": Form(again=b" ", streamed=False),
    "document": Form(b'{"choices":[{"message":{"content":"', b"word ", streamed=False),
    "squeezed document": Form(b'{"choices":[{"message":{"content":"', b"word ", streamed=False, squeezed=True),
    "values": Form(b'{"choices":[', b'{"index":[]},', streamed=False),
}
_TEXT = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_THINKING = _event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""})
_TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}


def _delta(kind: str, index: Any = 0, **fields: Any) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": kind, **fields})


_START = _event("message_start", message={"id": "m", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}})
MESSAGES = {
    "words": Form(_START + _TEXT, _delta("text_delta", text="word ")),
    "white space": Form(_START + _TEXT, _delta("text_delta", text="\n")),
    "thinking": Form(_START + _THINKING, _delta("thinking_delta", thinking="hm ")),
    "signatures": Form(_START + _THINKING, _delta("signature_delta", signature="x" * 200)),
    "signatures alone": Form(_START, _delta("signature_delta", "@@", signature="x").replace(b'"@@"', b"@@")),
    "arguments": Form(
        _START + _event("content_block_start", index=0, content_block=_TOOL),
        _delta("input_json_delta", partial_json="[1], "),
    ),
    "tool calls": Form(_START, _event("content_block_start", index=0, content_block=_TOOL)),
    "blocks": Form(_START, _TEXT + _event("content_block_stop", index=0)),
    "thoughts": Form(_START, _THINKING),
    "redacted": Form(
        _START, _event("content_block_start", index=0, content_block={"type": "redacted_thinking", "data": "x" * 99})
    ),
    "indexes": Form(_START, _delta("text_delta", "@@", text="a").replace(b'"@@"', b"@@")),
    "kinds": Form(_START, _event("content_block_start", index=0, content_block={"type": "image@@"})),
    "pings": Form(_START, _event("ping")),
    "starts": Form(again=_START),
    "usages": Form(_START, _event("message_delta", delta={}, usage={"output_tokens": 5})),
    "document": Form(b'{"content":[{"type":"text","text":"', b"word ", streamed=False),
}


class Endless:
    """The server. Every request is answered in the same form. `sent` counts the bytes of all answers."""

    def __init__(self, form: Form) -> None:
        self.form, self.sent, self.asked, self.url = form, 0, 0, ""
        self._block = b""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.asked += 1
            await self._speak(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        form = self.form
        kind = b"text/event-stream" if form.streamed else b"application/json"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\n%b" % (kind, form.head))
        if form.squeezed:
            writer.write(b"Content-Encoding: gzip\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if form.chunk else b"\r\n")
        squeeze = zlib.compressobj(wbits=31) if form.squeezed else None
        for piece in form.pieces():
            data = piece if squeeze is None else squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            if size := form.chunk:
                cut = (data[start : start + size] for start in range(0, len(data), size))
                data = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in cut)
            writer.write(data)
            await writer.drain()
            self.sent += len(piece)
            if self.sent > MOST:
                return
            await asyncio.sleep(0)
