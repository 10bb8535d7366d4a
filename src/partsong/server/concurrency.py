"""The concurrency limiter: how many runs are under way at once in this process, with a bounded queue.

The limiter protects the memory and the CPU of one process, so each worker has a limiter of its own. Only the limits of
keys hold across workers. Queued keys take turns, so that a key with a thousand requests does not delay the others. A
request that does not fit the queue is refused with the time to retry.
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
    """Limits the runs of one process.

    at_once: runs under way at once
    waiting: length of the queue, in requests
    patience: seconds that a request may wait in the queue
    limits: the limits of keys
    """

    def __init__(self, at_once: int, waiting: int, patience: float, limits: Limits | None = None) -> None:
        self.at_once, self.waiting, self.patience = at_once, waiting, patience
        self.limits = limits or Limits()
        self.inside = 0
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # by key; the key whose turn is next comes first

    @property
    def queued(self) -> int:
        """Number of requests in the queue."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def admit(self, key: Key | None) -> AsyncIterator[None]:
        """Count a request of the key until the block is left, from before its body is read.

        Raises `ProblemError` if the key has reached a limit.
        """
        if key is None or (key.at_once is None and key.requests_per_minute is None):
            yield
            return
        async with self.limits.within(key):
            yield

    @asynccontextmanager
    async def enter(self, key: Key | None) -> AsyncIterator[None]:
        """Count a request of the key and wait for a slot, until the block is left. See `admit` and `turn`."""
        async with self.admit(key), self.turn(key):
            yield

    @asynccontextmanager
    async def turn(self, key: Key | None) -> AsyncIterator[None]:
        """Wait for a slot, and hold the slot until the block is left.

        Raises `ProblemError` if the queue is full, or if the wait takes too long.
        """
        await self._wait("" if key is None else key.owner)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, name: str) -> None:
        if self.inside < self.at_once:  # then the queue is empty, since a free slot goes to the queue first
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
                self._leave()  # the slot was assigned at the moment at which the wait ended
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
        """Pass the slot on to the next request of the next key, or release it."""
        while self._queues:
            name = next(iter(self._queues))
            queue = self._queues.pop(name)
            turn = queue.popleft()
            if queue:
                self._queues[name] = queue  # the key queues again, behind the other keys
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
