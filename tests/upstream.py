"""A real HTTP server on loopback that writes down every request and answers, or misbehaves, as a test tells it.

    async with Server(chat("Hello."), status(429, "slow down"), NOTHING) as server:
        ... call server.url + "/v1/chat/completions" ...
        assert server.exchanges[0].json["model"] == "a"

The answers are given in this order, the last one again and again. Each is a `Reply`, or a function from the `Exchange`
to one, so that an answer may depend on what was asked.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

Piece = bytes | asyncio.Event


@dataclass(frozen=True)
class Reply:
    """What the server does with a request.

    `body` is bytes, sent with their length, or pieces, sent as a stream: each is a network write of its own, which a
    client on the same loop has read before the next one is written; an `asyncio.Event` among them is waited for.
    Without a `status` not even a head is sent. What comes after the body is its proper `end`, or the connection is
    closed or reset without one, or nothing happens until the client leaves.
    """

    body: bytes | tuple[Piece, ...] = b""
    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    end: Literal["whole", "close", "reset", "silence"] = "whole"


NOTHING = Reply(status=None, end="close")
RESET = Reply(status=None, end="reset")
SILENCE = Reply(status=None, end="silence")
HTML = Reply(b"<!DOCTYPE html><html><head><title>Welcome</title></head></html>", content_type="text/html")


@dataclass
class Exchange:
    """A request as it came. `connection` counts the connections from 0; `left` is set when the client gave up."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answering = Reply | Callable[[Exchange], Reply]


class Server:
    """The server. `url` has no slash at its end; `exchanges` grows with each request, in order of arrival."""

    def __init__(self, *answers: Answering) -> None:
        self.answers = answers
        self.exchanges: list[Exchange] = []
        self.url = ""
        self._connections: list[asyncio.BaseTransport] = []

    @property
    def connections(self) -> int:
        """How many connections brought requests."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if transport not in self._connections:
            self._connections.append(transport)
        exchange = Exchange(
            request.method, request.path_qs, request.headers, await request.read(), self._connections.index(transport)
        )
        self.exchanges.append(exchange)
        answer = self.answers[min(len(self.exchanges), len(self.answers)) - 1]
        reply = answer if isinstance(answer, Reply) else answer(exchange)
        response = web.StreamResponse(
            status=reply.status or 200, headers={"Content-Type": reply.content_type, **reply.headers}
        )
        try:
            await self._answer(request, transport, reply, response)
        except ConnectionResetError:
            exchange.left.set()  # no error of the server's, which would be logged with all that was at hand
        except asyncio.CancelledError:
            exchange.left.set()
            raise
        return response

    async def _answer(
        self, request: web.Request, transport: asyncio.Transport, reply: Reply, response: web.StreamResponse
    ) -> None:
        pieces = (reply.body,) if isinstance(reply.body, bytes) else reply.body
        if isinstance(reply.body, bytes) and reply.end == "whole":
            response.content_length = len(reply.body)
        if reply.status is not None:
            await response.prepare(request)
            for piece in pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    await response.write(piece)
                for _ in range(5):
                    await asyncio.sleep(0)
        match reply.end:
            case "silence":
                await asyncio.Event().wait()
            case "close":
                transport.close()
            case "reset":
                connection = transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            case "whole":
                await response.write_eof()


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A whole JSON document."""
    return Reply(json.dumps(value).encode(), status, headers or {})


def status(code: int, message: str = "no", headers: Mapping[str, str] | None = None, /, **error: Any) -> Reply:
    """An error in the form that OpenAI gives it; `error` are more of its fields, such as `code` and `type`."""
    return as_json({"error": {"message": message, **error}}, code, headers)


def event(value: Any, name: str = "") -> bytes:
    """One server-sent event: a value as JSON, or a string as it is."""
    data = value if isinstance(value, str) else json.dumps(value)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def stream(*pieces: Piece, end: Literal["whole", "close", "reset", "silence"] = "whole") -> Reply:
    """A stream of server-sent events, or of anything else, in these pieces."""
    return Reply(pieces, content_type="text/event-stream", end=end)


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a streamed chat completion, as `event` takes it."""
    return {"id": "c", "model": "said", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def counts(asked: int = 11, said: int = 7, **more: Any) -> dict[str, Any]:
    """A usage, as OpenAI counts it."""
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said, **more}


def chat(text: str = "Hello, world.", finish: str = "stop") -> Callable[[Exchange], Reply]:
    """A chat completion that says `text`: a stream of a word a piece if one was asked for, else one document."""

    def answer(exchange: Exchange) -> Reply:
        if not exchange.json.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return as_json({"id": "c", "model": "said", "choices": [choice], "usage": counts()})
        words = [event(chunk(content=word)) for word in text.replace(" ", " \0").split("\0")]
        last = {"id": "c", "model": "said", "choices": [], "usage": counts()}
        opening = event(chunk(role="assistant", content=""))
        return stream(opening, *words, event(chunk(finish)), event(last) + event("[DONE]"))

    return answer
