"""Sends one HTTP response, whole or as a stream of server-sent events.

The status of a stream is sent with its first event, so that a failure before it can still have an error status. While a
stream is silent, comments keep the connection open. A client that does not read is disconnected. One timer for each
stream does both, since a timer for each event would take a quarter of the CPU time. Each `put` sends whole events, so
concurrent senders need no lock.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from partsong.wire.reply import Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
SendBytes = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

ALIVE = 10.0  # seconds of silence until a comment is sent
# Seconds that a client may take to read what was sent, or to send a body. The timer notices a slow reader up to ALIVE
# seconds later.
SLOWEST = 60.0
EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class SlowReaderError(Exception):
    """The client has not read the response for too long."""


async def send_json(send: SendBytes, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole response."""
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


class EventStream:
    """A stream of server-sent events to one client.

    send: the ASGI function that sends messages
    stream: makes the opening events and the comments in the format of the API
    headers: HTTP headers besides those of every stream
    started: whether the status was sent, so that no other status can be sent
    closed: whether the response has ended, so that nothing more is sent
    slowest: seconds that the client may take to read what was sent
    """

    def __init__(self, send: SendBytes, stream: Stream, headers: Headers, slowest: float = SLOWEST) -> None:
        self.started = False
        self.closed = False
        self.slowest = slowest
        self._slow = False
        self._send, self._stream, self._headers = send, stream, headers
        self._loop = asyncio.get_running_loop()
        self._often = min(ALIVE, slowest)
        self._spoke = self._loop.time()
        self._timer = self._loop.call_at(self._spoke + self._often, self._wake)
        self._waking: asyncio.Task[None] | None = None
        self._sending: dict[asyncio.Task[Any], float] = {}  # the tasks that wait for the client to read, and since when

    async def start(self) -> None:
        """Send the status, the headers and the opening events, unless they were sent before."""
        if not self.started:
            self.started = True
            await self._say({"type": "http.response.start", "status": 200, "headers": [*EVENTS, *self._headers]})
            if first := self._stream.begin():
                await self.put(first)

    async def put(self, data: bytes) -> None:
        """Send whole events, after the status if it was not sent before.

        Raises `SlowReaderError` if the client has not read for `slowest` seconds.
        """
        if not self.started:
            await self.start()
        if not data or self.closed:
            return
        self._spoke = self._loop.time()
        await self._say({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self, last: bytes = b"") -> None:
        """Send the last events, and end the response."""
        try:
            if not self.closed:
                await self.put(last)
                self.closed = True
                await self._say({"type": "http.response.body", "body": b""})
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop the timer: send no more comments, and stop watching the reader."""
        self._timer.cancel()
        if self._waking is not None:
            self._waking.cancel()

    async def _say(self, message: MutableMapping[str, Any]) -> None:
        """Send a message. This waits while the client does not read the earlier ones."""
        if not self._slow:
            task = asyncio.current_task(self._loop)
            assert task is not None
            self._sending[task] = self._loop.time()
            try:
                await self._send(message)
                return
            except asyncio.CancelledError:
                if not self._slow or task.uncancel():
                    raise
            finally:
                del self._sending[task]
        raise SlowReaderError(f"the client has not read for {self.slowest:g} seconds")

    def _wake(self) -> None:
        now = self._loop.time()
        if not self._slow and any(now >= since + self.slowest for since in self._sending.values()):
            self._slow = True
            for task in self._sending:
                task.cancel()
            return
        if now >= self._spoke + ALIVE and (self._waking is None or self._waking.done()):
            self._waking = self._loop.create_task(self._comment())
            self._spoke = now
        due = self._spoke + ALIVE
        self._timer = self._loop.call_at(due if now < due < now + self._often else now + self._often, self._wake)

    async def _comment(self) -> None:
        try:
            await self.start()
            await self.put(self._stream.wait())
        except SlowReaderError:
            return  # the next `put` raises it again
        except OSError:
            self.closed = True
