"""Who may go in: so many runs at once in this process, and a queue that has an end; each key within its own limits.

It counts in its own process, whose memory and time it guards: with several workers, each lets in as many. Only the
limits of keys hold across them. Keys take turns, so that one which asks a thousand times at once does not make the
others wait for all of that. What does not fit is told when to come again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from partsong.keys import Key
from partsong.server.limits import Limits
from partsong.server.problems import ProblemError
from partsong.wire.reply import Problem


class ConcurrencyLimiter:
    """Lets in `at_once` runs; `waiting` more wait, each for at most `patience` seconds, each key's in their order."""

    def __init__(self, at_once: int, waiting: int, patience: float, limits: Limits | None = None) -> None:
        self.at_once, self.waiting, self.patience = at_once, waiting, patience
        self.limits = limits or Limits()
        self.inside = 0
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # by key; the one whose turn it is comes first

    @property
    def queued(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def enter(self, key: Key | None) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the block is left. Raises `ProblemError`."""
        if key is None or (key.at_once is None and key.requests_per_minute is None):
            await self._wait("" if key is None else key.name)
            try:
                yield
            finally:
                self._leave()
            return
        async with self.limits.within(key):
            await self._wait(key.name)
            try:
                yield
            finally:
                self._leave()

    async def _wait(self, name: str) -> None:
        if self.inside < self.at_once:  # then nobody waits: a place that becomes free goes to who does
            self.inside += 1
            return
        full = ProblemError(Problem(503, "overloaded", "the server is busy", retry_after=max(1.0, self.patience / 2)))
        if self.queued >= self.waiting:
            raise full
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(name, deque()).append(turn)
        try:
            async with asyncio.timeout(self.patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()  # its turn came at the moment at which it gave up
            else:
                self._forget(name, turn)
            if isinstance(error, TimeoutError):
                raise full from None
            raise

    def _forget(self, name: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(name)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[name]

    def _leave(self) -> None:
        """Give the place to the next key's next, or give it back."""
        while self._queues:
            name = next(iter(self._queues))
            queue = self._queues.pop(name)
            turn = queue.popleft()
            if queue:
                self._queues[name] = queue  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
