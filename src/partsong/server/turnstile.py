"""Who may go in: so many runs at once, in all and for each key, so many requests a minute, and a queue that has an end.

It counts in its own process: with several workers, each lets in as many. Keys take turns, so that one which asks a
thousand times at once does not make the others wait for all of that. What does not fit is told when to come again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from partsong.keys import Key
from partsong.server.problems import ProblemError
from partsong.wire.reply import Problem

MINUTE = 60.0


class Turnstile:
    """Lets in `at_once` runs; `waiting` more wait, each for at most `patience` seconds, each key's in their order."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self.at_once, self.waiting, self.patience = at_once, waiting, patience
        self.inside = 0
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}  # by key; the one whose turn it is comes first
        self._of_key: dict[str, int] = {}
        self._due: dict[str, float] = {}  # when a key's earlier requests are paid off, by the loop's clock

    @property
    def queued(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def enter(self, key: Key | None) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the block is left. Raises `ProblemError`."""
        name = "" if key is None else key.name
        if key is not None:
            self._check(key)
        self._of_key[name] = self._of_key.get(name, 0) + 1
        try:
            await self._wait(name)
            try:
                yield
            finally:
                self._leave()
        finally:
            self._of_key[name] -= 1
            if not self._of_key[name]:
                del self._of_key[name]

    def _check(self, key: Key) -> None:
        if key.at_once is not None and self._of_key.get(key.name, 0) >= key.at_once:
            message = f'the key "{key.name}" may make {key.at_once} requests at once'
            raise ProblemError(Problem(429, "rate_limit", message, retry_after=1.0))
        if key.requests_per_minute is not None:
            # GCRA: each request is a debt of its share of a minute, and a minute's worth of debt is allowed.
            now = asyncio.get_running_loop().time()
            share = MINUTE / key.requests_per_minute
            due = max(now, self._due.get(key.name, now)) + share
            if due - now > MINUTE + 1e-6:
                message = f'the key "{key.name}" may make {key.requests_per_minute} requests a minute'
                raise ProblemError(Problem(429, "rate_limit", message, retry_after=due - now - MINUTE))
            self._due[key.name] = due

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
