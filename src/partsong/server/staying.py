"""Runs that continue after their client has disconnected, as the web page's do when the page is reloaded.

A process can stop only its own runs. So with several workers no run continues: a run that nobody can stop would be
worse than a run that ends with its connection.
"""

import asyncio
from dataclasses import dataclass, field

from partsong.server.response import EventStream


@dataclass(slots=True, eq=False)
class Staying:
    """The continuing runs of this process: the owner and the task of each, by id."""

    runs: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)

    def add(self, run: str, caller: str, task: asyncio.Task[None]) -> None:
        self.runs[run] = (caller, task)
        task.add_done_callback(lambda _: self.runs.pop(run, None))

    def stop(self, run: str, caller: str) -> bool:
        """Cancel the run and its calls. Returns whether the caller has such a run."""
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
    """Send nothing more to a client that has disconnected."""
    stream.stop()
    stream.started = stream.closed = True
