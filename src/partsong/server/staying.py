"""Runs that continue after their client has disconnected, such as runs of the web page when it is reloaded.

A process can stop only its own runs. So runs continue only on a server with one worker, or on servers that share a
database, through which they ask each other: a run that nobody can stop would be worse than a run that ends with its
connection.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from partsong.errors import StoreError
from partsong.server.response import EventStream
from partsong.store import Store

LOOK = 0.5  # seconds between two looks for runs that other servers want to be stopped


@dataclass(slots=True, eq=False)
class Staying:
    """The runs of this process that continue without their client.

    runs: the owner (see `caller_of`) and the task of each run, by the run's id
    """

    runs: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)

    def add(self, run: str, caller: str, task: asyncio.Task[None]) -> None:
        """Add a run of `caller`. The run is removed when its task is done."""
        self.runs[run] = (caller, task)
        task.add_done_callback(lambda _: self.runs.pop(run, None))

    def stop(self, run: str, caller: str) -> bool:
        """Cancel the run with this id, and with it its calls. Return whether the caller has such a run."""
        owner, task = self.runs.get(run, (None, None))
        if task is None or owner != caller:
            return False
        task.cancel()
        return True

    def cancel(self, run: str) -> None:
        """Cancel the run with this id, if it goes on here, for a caller whom another server knows."""
        if run in self.runs:
            self.runs[run][1].cancel()

    async def end(self, run: str, caller: str, seconds: float) -> bool:
        """Stop the run with this id, and wait for its end. Return whether the caller has such a run.

        seconds: most seconds to wait
        """
        _, task = self.runs.get(run, (None, None))
        if task is None or not self.stop(run, caller):
            return False
        await asyncio.wait((task,), timeout=seconds)
        return True


def mute(stream: EventStream) -> None:
    """Make the stream drop everything that is written to it from now on, since its client has disconnected."""
    stream.stop()
    stream.started = stream.closed = True


async def stop_asked(store: Store, staying: Staying) -> None:
    """Stop the runs of this server that others ask to stop, until cancelled."""
    while True:
        await asyncio.sleep(LOOK)
        if staying.runs:
            with suppress(StoreError):  # the store tells its failures itself
                for run in await store.asked_to_stop(tuple(staying.runs)):
                    staying.cancel(run)
