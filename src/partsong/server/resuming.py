"""The stream of a stored response, told again from any of its events on, and to its end if its run goes on.

The events come from the store, as those of `live` do. The same events make the same stream, so that the numbers which a
client heard before it lost its connection still hold.
"""

import asyncio
import re

from msgspec import Struct
from msgspec.structs import replace

from partsong.events import AggregationDelta, AnyEvent, RunFailed, RunFinished, to_json
from partsong.keys import Key
from partsong.server.problems import ProblemError, failed
from partsong.server.response import ALIVE, EVENTS, SendBytes
from partsong.server.service import Service
from partsong.server.stored import DEAD, Stored, find
from partsong.wire import responses
from partsong.wire.reply import Problem

PAUSE = 0.25  # seconds between two looks into the store: events are written down as often
SHARE = 20  # times as long as a look takes is waited before the next one


def parse_after(text: str) -> int:
    """The number of the last event that the client has heard, -1 for none. Raises `ProblemError`."""
    if not text:
        return -1
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        message = "starting_after must be the sequence_number of an event"
        raise ProblemError(Problem(400, "invalid_request", message, "starting_after"))
    return int(text)


class Writer:
    """Writes a stored run's events as the response's stream, without the events up to the number `after`."""

    def __init__(self, stored: Stored, after: int) -> None:
        self._options, self._skip = stored.request.options, after + 1
        # Keep-alives must not take numbers, as they come at other moments than the first time.
        self._stream = responses.Stream(replace(stored.request, background=True), stored.head)

    def begin(self) -> bytes:
        return self._behind(self._stream.begin())

    def wait(self) -> bytes:
        return self._stream.wait()

    def write(self, event: AnyEvent, stored: Stored) -> bytes:
        """The events of the stream that an event of the run makes; `stored` is the response as it stands with it."""
        if isinstance(event, AggregationDelta):
            return self._behind(self._stream.say(event.delta))
        told = self._stream.tell(to_json(event)) if self._options.events else b""
        return self._behind(told + (self._end(event, stored) if isinstance(event, RunFinished | RunFailed) else b""))

    def _end(self, event: RunFinished | RunFailed, stored: Stored) -> bytes:
        plain = stored.report().plain()
        if isinstance(event, RunFailed):
            return self._stream.fail(failed(event.error, plain))
        used = event.answer.usage if self._options.usage == "answer" else event.usage
        return self._stream.finish((event.answer,), used, plain, stored.head.completed)

    def _behind(self, data: bytes) -> bytes:
        """The events that the client has not heard. None has a blank line in it."""
        if not self._skip:
            return data
        blocks = data.split(b"\n\n")[:-1]
        heard = min(self._skip, len(blocks))
        self._skip -= heard
        return b"".join(block + b"\n\n" for block in blocks[heard:])


class Resumed(Struct, frozen=True):
    """A stream to be told again: of which response, for whom, and behind which event."""

    name: str
    key: Key | None
    after: int


async def tell(service: Service, resumed: Resumed, send: SendBytes) -> None:
    """Send the stream until its response has ended.

    Raises `ProblemError` before anything is sent, and `TimeoutError` if the client reads no further.
    """
    stored = await find(service, resumed.name, resumed.key)
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    writer = Writer(stored, resumed.after)
    clock = asyncio.get_running_loop().time
    pieces, told, quiet = [writer.begin()], 0, 0.0
    while True:
        for event in stored.events[told:]:
            pieces.append(writer.write(event, stored))
            quiet = 0.0
        told = len(stored.events)
        if data := b"".join(pieces):
            await _put(send, data, service.slowest)
        if stored.end is not None or quiet >= DEAD or service.stopping:
            break
        began = clock()
        stored = await find(service, resumed.name, resumed.key)
        pause = max(PAUSE, SHARE * (clock() - began))
        await asyncio.sleep(pause)
        quiet += pause
        pieces = [writer.wait()] if quiet and quiet % ALIVE < pause else []
    await send({"type": "http.response.body", "body": b""})


async def _put(send: SendBytes, data: bytes, slowest: float) -> None:
    async with asyncio.timeout(slowest):
        await send({"type": "http.response.body", "body": data, "more_body": True})
