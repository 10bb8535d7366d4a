"""A run's events for a second listener, while it goes on or long after: read from the store, where they stand soon.

So any process that shares the store can tell of any run, and a run that nobody watches pays nothing.
"""

import asyncio
import re
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from partsong.errors import InputError
from partsong.events import RunFailed, RunFinished, to_json
from partsong.keys import Key
from partsong.server.incoming import headers_of
from partsong.server.problems import ProblemError
from partsong.server.response import EVENTS, Scope, SendBytes
from partsong.server.service import Service, caller_of
from partsong.store import StoredRun
from partsong.wire.reply import Problem

PAUSE = 0.25  # seconds between two looks: events are written down as often
SHARE = 20  # times as long as a look takes is waited before the next one
DEAD = 300.0  # seconds without an event after which an open run is left: its process may have died
ALIVE = 10.0


async def find(service: Service, name: str, key: Key | None) -> StoredRun:
    """The run of that id with its events, if it is this caller's. Raises `ProblemError`."""
    run = await own(service, name, key)
    if run.mode != "full":
        message = f"the events of run {name} were not kept (the store keeps {run.mode} alone)"
        raise ProblemError(Problem(404, "not_found", message, "run"))
    return run


async def own(service: Service, name: str, key: Key | None) -> StoredRun:
    """The run of that id, if it is this caller's. Raises `ProblemError`."""
    missing = ProblemError(Problem(404, "not_found", f'there is no run "{name}" of yours', "run"))
    try:
        run = await service.store.find_run(name)
    except InputError:
        raise missing from None
    if run.id != name or run.caller != caller_of(key):
        raise missing
    return run


class Wanted(Struct, frozen=True):
    """How the events are to be told: from which one on, and whether with their times."""

    start: int = 0
    times: bool = False


def wanted(scope: Scope) -> Wanted:
    """What the request says: `?from=N`, or the last event that was heard (`Last-Event-ID`), and `?times=1`."""
    said = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    heard = headers_of(scope).get("last-event-id", "")  # the later word: it comes when a stream is taken up again
    for field, text, more in (("Last-Event-ID", heard, 1), ("from", said.get("from", ""), 0)):
        if text:
            if not re.fullmatch(r"\d{1,12}", text, re.ASCII):
                message = f'{field} is "{text}", but must be the number of an event'
                raise ProblemError(Problem(400, "invalid_request", message, field))
            return Wanted(int(text) + more, said.get("times") == "1")
    return Wanted(0, said.get("times") == "1")


async def tell(service: Service, run: StoredRun, send: SendBytes, how: Wanted) -> None:
    """Send the events of the run until it has ended; with times, each moment before what happened at it."""
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    told, quiet, then = how.start, 0.0, -1.0
    clock = asyncio.get_running_loop().time
    while quiet < DEAD and not service.stopping:
        began = clock()
        events = await service.store.events(run.id)
        pause = max(PAUSE, SHARE * (clock() - began))  # all are read each time: the longer the run, the less often
        pieces: list[bytes] = []
        for seconds, event in events[told:]:
            if how.times and seconds != then:
                pieces.append(b'event: time\ndata: {"seconds": %b}\n\n' % msgspec.json.encode(seconds))
                then = seconds
            name = type(event).__struct_config__.tag
            pieces.append(b"event: %b\nid: %d\ndata: %b\n\n" % (str(name).encode(), told, to_json(event)))
            told += 1
        if pieces:
            quiet = 0.0
            await _put(send, b"".join(pieces), service.slowest)
        if events and isinstance(events[-1][1], RunFinished | RunFailed):
            break
        if not pieces and quiet and quiet % ALIVE < pause:
            await _put(send, b": waiting\n\n", service.slowest)
        await asyncio.sleep(pause)
        quiet += pause
    await send({"type": "http.response.body", "body": b""})


async def _put(send: SendBytes, data: bytes, slowest: float) -> None:
    async with asyncio.timeout(slowest):
        await send({"type": "http.response.body", "body": data, "more_body": True})
