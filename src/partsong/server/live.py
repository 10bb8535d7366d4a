"""A run's events for a second listener, while it goes on or long after: read from the store, where they stand soon.

So any process that shares the store can tell of any run, and a run that nobody watches pays nothing.
"""

import asyncio

from partsong.errors import InputError
from partsong.events import RunFailed, RunFinished, to_json
from partsong.keys import Key
from partsong.server.problems import ProblemError
from partsong.server.response import EVENTS, SLOWEST, SendBytes
from partsong.server.service import Service, caller_of
from partsong.store import StoredRun
from partsong.wire.reply import Problem

PAUSE = 0.25  # seconds between two looks: events are written down as often
DEAD = 300.0  # seconds without an event after which an open run is left: its process may have died
ALIVE = 10.0


async def find(service: Service, name: str, key: Key | None) -> StoredRun:
    """The run of that id, if it is this caller's. Raises `ProblemError`."""
    missing = ProblemError(Problem(404, "not_found", f'there is no run "{name}" of yours', "run"))
    try:
        run = await service.store.find_run(name)
    except InputError:
        raise missing from None
    if run.id != name or run.caller != caller_of(key):
        raise missing
    if run.mode != "full":
        message = f"the events of run {name} were not kept (the store keeps {run.mode} alone)"
        raise ProblemError(Problem(404, "not_found", message, "run"))
    return run


async def tell(service: Service, run: StoredRun, send: SendBytes) -> None:
    """Send all events of the run, from its first one on, until it has ended."""
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    told, quiet = 0, 0.0
    while quiet < DEAD and not service.stopping:
        events = await service.store.events(run.id)
        pieces: list[bytes] = []
        for seconds, event in events[told:]:
            name = type(event).__struct_config__.tag
            pieces.append(b"event: %b\nid: %d\ndata: %b\n\n" % (str(name).encode(), told, to_json(event)))
            told += 1
            del seconds
        if pieces:
            quiet = 0.0
            await _put(send, b"".join(pieces))
            if isinstance(events[-1][1], RunFinished | RunFailed):
                break
        elif quiet and quiet % ALIVE < PAUSE:
            await _put(send, b": waiting\n\n")
        await asyncio.sleep(PAUSE)
        quiet += PAUSE
    await send({"type": "http.response.body", "body": b""})


async def _put(send: SendBytes, data: bytes) -> None:
    async with asyncio.timeout(SLOWEST):
        await send({"type": "http.response.body", "body": data, "more_body": True})
