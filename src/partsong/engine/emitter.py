"""Passes events to the listener, one at a time, and the event of each finished call exactly once.

Seats work at the same time, but a listener hears one event at a time. The event of a finished call is first put into
`finished`, and is emitted before the next event that ends a seat, a step or the run. If the seat's own task is
cancelled while it waits for its turn, the next task that ends something emits the event.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from partsong.events import AnyEvent, CallFinished, ToolUsed

Emit = Callable[[AnyEvent], Awaitable[None]]


class Emitter:
    """Passes the events of one run to a listener.

    emit: the listener, which is awaited with each event
    finished: events of ended calls and tool calls that the listener has not heard yet, oldest first
    """

    __slots__ = ("_busy", "_emit", "_turn", "finished")

    def __init__(self, emit: Emit) -> None:
        self.finished: deque[CallFinished | ToolUsed] = deque()
        self._emit = emit
        self._busy = False
        self._turn: asyncio.Future[None] | None = None

    async def say(self, event: AnyEvent) -> None:
        """Pass one event to the listener, as soon as the listener has handled the event before.

        This runs for every delta and seldom has to wait. So a future is made only if two seats meet; the usual path is
        a plain awaited call.
        """
        while self._busy:
            await self._free()
        self._busy = True
        try:
            await self._emit(event)
        finally:
            self._busy = False
            if self._turn is not None:
                self._turn.set_result(None)
                self._turn = None

    async def say_end(self, event: AnyEvent) -> None:
        """Pass on the events in `finished`, and then `event`, which ends a seat, a step or the run."""
        await self.say_finished()
        await self.say(event)

    async def say_finished(self) -> None:
        """Pass on the events in `finished`."""
        while self.finished:
            while self._busy:
                await self._free()
            # Taken out only now: nothing waits between here and the listener, so a cancelled task loses no event.
            if self.finished:
                await self.say(self.finished.popleft())

    async def _free(self) -> None:
        """Wait until the listener has handled the event that it is handling now."""
        self._turn = self._turn or asyncio.get_running_loop().create_future()
        await asyncio.shield(self._turn)
