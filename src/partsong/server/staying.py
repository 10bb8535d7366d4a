"""Runs that go on when their client leaves, as the page's do when it is loaded again, and how they are stopped then.

A process knows its own alone. So where several share a port nothing stays: a run that nobody can stop would be worse
than one that ends with its connection.
"""

import asyncio
from dataclasses import dataclass, field

from partsong.server.response import EventStream


@dataclass(slots=True, eq=False)
class Staying:
    """The runs of this process that stay, by id, each with whose it is."""

    runs: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)

    def add(self, run: str, caller: str, task: asyncio.Task[None]) -> None:
        self.runs[run] = (caller, task)
        task.add_done_callback(lambda _: self.runs.pop(run, None))

    def stop(self, run: str, caller: str) -> bool:
        """Stop the run, with every call of it; whether there was one that this caller may stop."""
        owner, task = self.runs.get(run, (None, None))
        if task is None or owner != caller:
            return False
        task.cancel()
        return True

    async def end(self, run: str, caller: str, seconds: float) -> bool:
        """Stop the run and wait until it has ended, so many seconds at most; whether there was one to stop."""
        _, task = self.runs.get(run, (None, None))
        if task is None or not self.stop(run, caller):
            return False
        await asyncio.wait((task,), timeout=seconds)
        return True


def mute(stream: EventStream) -> None:
    """Say nothing more to a client that has left."""
    stream.stop()
    stream.started = stream.closed = True
