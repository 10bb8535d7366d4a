"""Events on their way to the listener: one at a time, and each finished call exactly once.

Seats speak at once, but a listener hears one event at a time. A finished call is first kept in `finished` and then
said before the next event that ends a seat, a step or the run. The seat's own task may be cancelled while it waits
for its turn; its call is kept all the same, and the next task that ends something says it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from partsong.events import AnyEvent, CallFinished

Emit = Callable[[AnyEvent], Awaitable[None]]


class Emitter:
    """Passes the events of one run on to `emit`.

    emit: the listener
    finished: calls that have ended and that the listener has not heard of yet, oldest first
    """

    __slots__ = ("_busy", "_emit", "_turn", "finished")

    def __init__(self, emit: Emit) -> None:
        self.finished: deque[CallFinished] = deque()
        self._emit = emit
        self._busy = False
        self._turn: asyncio.Future[None] | None = None

    async def say(self, event: AnyEvent) -> None:
        """Pass on one event, as soon as the listener has taken in the one before it.

        This runs for every delta, and listeners seldom make it wait. So the usual way through is a plain awaited call,
        and only seats that really meet pay for waiting.
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
        """Pass on the calls that have ended, and then the event that ends their seat, their step or the run."""
        while self.finished:
            while self._busy:
                await self._free()
            # Taken only now: from here to the listener nothing waits, so a task that is cancelled takes no call along.
            if self.finished:
                await self.say(self.finished.popleft())
        await self.say(event)

    async def _free(self) -> None:
        """Wait until the listener has taken in the event that it is hearing."""
        self._turn = self._turn or asyncio.get_running_loop().create_future()
        await asyncio.shield(self._turn)
