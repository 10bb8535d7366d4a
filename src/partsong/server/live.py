"""Sends the events of a run to a second listener, during the run or later.

The events come from the store. So every process that shares the store can send the events of any run, and a run
without a second listener has no extra cost.
"""

import asyncio
import re
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from partsong.events import RunFailed, RunFinished, to_json
from partsong.keys import Key
from partsong.server.following import pause_after, send_piece
from partsong.server.incoming import headers_of
from partsong.server.problems import ProblemError
from partsong.server.response import EVENTS, Scope, SendBytes
from partsong.server.service import Service, caller_of
from partsong.store import StoredRun
from partsong.wire.reply import Problem

MANY = 200  # events that are written until others have a turn
DEAD = 300.0  # seconds without an event after which the stream ends, since the process of the run may have died
ALIVE = 10.0  # seconds between two comments that keep the connection open


async def find(service: Service, name: str, key: Key | None) -> StoredRun:
    """The summary of the run with the id `name`.

    Raises `ProblemError` if the caller has no such run, or if the run was stored without its events.
    """
    run = await own(service, name, key)
    if run.mode != "full":
        message = f'the events of run {name} were not stored (the mode of the store was "{run.mode}")'
        raise ProblemError(Problem(404, "not_found", message, "run"))
    return run


async def own(service: Service, name: str, key: Key | None) -> StoredRun:
    """The summary of the run with the id `name`. Raises `ProblemError` if the caller has no such run."""
    run = await service.store.run(service.check_id(name, "run"))
    if run is None or run.caller != caller_of(key):
        raise ProblemError(Problem(404, "not_found", f'you have no run "{name}"', "run"))
    return run


class Wanted(Struct, frozen=True):
    """The options of a request for the events of a run.

    start: index of the first event to send (default 0)
    times: whether to send the times of events too (default: no)
    """

    start: int = 0
    times: bool = False


def wanted(scope: Scope) -> Wanted:
    """The options in the query `?from=N&times=1` of a request.

    The header `Last-Event-ID` of a client that reconnects overrides `from`: the event after that index is the first.
    Raises `ProblemError` if an index is not a number.
    """
    said = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    heard = headers_of(scope).get("last-event-id", "")  # first, because a client that reconnects repeats `from`
    for field, text, more in (("Last-Event-ID", heard, 1), ("from", said.get("from", ""), 0)):
        if text:
            if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
                message = f'{field} is "{text}", but must be the index of an event'
                raise ProblemError(Problem(400, "invalid_request", message, field))
            return Wanted(int(text) + more, said.get("times") == "1")
    return Wanted(0, said.get("times") == "1")


async def tell(service: Service, run: StoredRun, send: SendBytes, how: Wanted) -> None:
    """Send the events of a run as server-sent events until the run has ended.

    With `times`, an event `time` with the seconds since the run's start comes before the events of each moment. Raises
    `TimeoutError` if the client stops reading.
    """
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    told, quiet, then = how.start, 0.0, -1.0
    clock = asyncio.get_running_loop().time
    while quiet < DEAD and not service.stopping:
        began = clock()
        events = await service.store.events(run.id)
        pause = pause_after(clock() - began)
        pieces: list[bytes] = []
        for seconds, event in events[told:]:
            if how.times and seconds != then:
                pieces.append(b'event: time\ndata: {"seconds": %b}\n\n' % msgspec.json.encode(seconds))
                then = seconds
            name = type(event).__struct_config__.tag
            pieces.append(b"event: %b\nid: %d\ndata: %b\n\n" % (str(name).encode(), told, to_json(event)))
            told += 1
            if len(pieces) > MANY:
                await send_piece(send, b"".join(pieces), service.slowest)
                pieces, quiet = [], 0.0
                await asyncio.sleep(0)
        if pieces:
            quiet = 0.0
            await send_piece(send, b"".join(pieces), service.slowest)
        if events and isinstance(events[-1][1], RunFinished | RunFailed):
            break
        if not pieces and quiet and quiet % ALIVE < pause:
            await send_piece(send, b": waiting\n\n", service.slowest)
        await asyncio.sleep(pause)
        quiet += pause
    await send({"type": "http.response.body", "body": b""})
