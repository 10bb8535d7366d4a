"""Stops a run that goes on without its client, whichever server performs it.

A server stops its own runs itself. Servers that share a database ask each other through it: the server that performs
a run looks twice a second whether somebody wants the run to be stopped.
"""

import asyncio

from partsong.server.service import Service
from partsong.server.staying import LOOK


async def stop(service: Service, run: str, caller: str) -> bool:
    """Stop the run with this id, if it goes on. Return whether the caller has such a run."""
    if service.staying.stop(run, caller):
        return True
    if not await _is_elsewhere(service, run, caller):
        return False
    await service.store.ask_to_stop(run)
    return True


async def end(service: Service, run: str, caller: str, seconds: float) -> bool:
    """Stop the run with this id, and wait for its end. Return whether the caller has such a run.

    seconds: most seconds to wait; the server that performs the run may have died
    """
    if await service.staying.end(run, caller, seconds):
        return True
    if not await _is_elsewhere(service, run, caller):
        return False
    await service.store.ask_to_stop(run)
    waited = 0.0
    while waited < seconds and await _is_elsewhere(service, run, caller):
        await asyncio.sleep(pause := LOOK / 2)
        waited += pause
    return True


async def _is_elsewhere(service: Service, run: str, caller: str) -> bool:
    """Whether the caller has such a run, which goes on at another server."""
    if not service.store.shared:
        return False
    found = await service.store.run(run)
    return found is not None and found.caller == caller and found.status == "open"
