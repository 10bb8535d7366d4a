"""Sends the stream of a stored response again, from any event on, and to its end if the run still goes on.

The events come from the store. The same events make the same stream. The sequence numbers that a client received before
it lost its connection are therefore still valid.
"""

import asyncio
import re

from msgspec import Struct
from msgspec.structs import replace

from partsong.events import AggregationDelta, AnyEvent, RunFailed, RunFinished, to_json
from partsong.keys import Key
from partsong.server.following import pause_after, send_piece
from partsong.server.problems import ProblemError, failed
from partsong.server.response import ALIVE, EVENTS, SendBytes
from partsong.server.service import Service
from partsong.server.stored import DEAD, Stored, find
from partsong.wire import responses
from partsong.wire.reply import Problem


def parse_after(text: str) -> int:
    """The sequence number of the last event that the client has received, from `starting_after`; -1 if it is empty.

    Raises `ProblemError` if the text is not a number.
    """
    if not text:
        return -1
    if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
        message = "starting_after must be the sequence_number of an event"
        raise ProblemError(Problem(400, "invalid_request", message, "starting_after"))
    return int(text)


class Writer:
    """Serializes the events of a stored run as the stream of its response.

    after: sequence number of the last event that the client has received; events up to it are left out
    """

    def __init__(self, stored: Stored, after: int) -> None:
        self._options, self._skip = stored.request.options, after + 1
        # Keep-alives must not take sequence numbers, since they come at other moments than in the first stream.
        # They take none in the stream of a background response.
        self._stream = responses.Stream(replace(stored.request, background=True), stored.head)

    def begin(self) -> bytes:
        return self._behind(self._stream.begin())

    def wait(self) -> bytes:
        return self._stream.wait()

    def write(self, event: AnyEvent, stored: Stored) -> bytes:
        """The events of the stream for one event of the run, as bytes.

        stored: the response with the events so far, this event included
        """
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
        """The part of `data` with the events that the client has not received. A blank line ends each event."""
        if not self._skip:
            return data
        blocks = data.split(b"\n\n")[:-1]
        heard = min(self._skip, len(blocks))
        self._skip -= heard
        return b"".join(block + b"\n\n" for block in blocks[heard:])


class Resumed(Struct, frozen=True):
    """A request to continue a stream.

    name: id of the response
    key: key of the caller
    after: sequence number of the last event that the client has received; -1 for none
    """

    name: str
    key: Key | None
    after: int


async def tell(service: Service, resumed: Resumed, send: SendBytes) -> None:
    """Send the stream until the response has ended.

    Raises `ProblemError` before anything is sent if the caller has no such response, and `TimeoutError` if the client
    stops reading.
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
            await send_piece(send, data, service.slowest)
        if stored.end is not None or quiet >= DEAD or service.stopping:
            break
        began = clock()
        stored = await find(service, resumed.name, resumed.key)
        pause = pause_after(clock() - began)
        await asyncio.sleep(pause)
        quiet += pause
        pieces = [writer.wait()] if quiet and quiet % ALIVE < pause else []
    await send({"type": "http.response.body", "body": b""})
