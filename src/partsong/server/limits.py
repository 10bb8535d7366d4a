"""What a key may do: so many requests at once, so many a minute, whichever process of the server they reach.

One process counts in its memory. Several count in the store that they share, in one small transaction a request, and
only for keys that have such a limit. Where the store is off or fails, each process counts for itself and gives a key
its part of the limit, one at least: so nobody is locked out, and nobody gets the limit as often as there are processes.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from partsong.errors import StoreError
from partsong.keys import Key
from partsong.server.problems import ProblemError
from partsong.store import Refusal, owed
from partsong.wire.reply import Problem

LOG = logging.getLogger("partsong.server")
HOLD = 6.0  # seconds that a place is held without a word: the places of a process that died are free by then
RENEWED = HOLD / 3
LOOK = 0.1  # seconds until a second look at places that are all taken: one may have been left, and that not be written


class Register(Protocol):
    """What processes share. See `Store`."""

    async def take(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> Refusal | None: ...

    async def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> None: ...

    def leave(self, place: int) -> None: ...


class Limits:
    """The limits of keys. With a `register` they hold in all processes that share it; `parts` is how many those are."""

    def __init__(self, register: Register | None = None, parts: int = 1) -> None:
        self.register, self.parts = register, parts
        self.at_work: dict[str, int] = {}  # requests of each key in this process
        self.held: dict[int, str] = {}  # places in the register, and whose
        self._due: dict[str, float] = {}  # when a key's earlier requests are paid off, by the loop's clock
        self._renewing: asyncio.Task[None] | None = None
        self._failing = False

    @asynccontextmanager
    async def within(self, key: Key) -> AsyncIterator[None]:
        """A request of the key goes on until the block is left. Raises `ProblemError` where that passes a limit."""
        place = None
        if self.register is None:
            self._check(key)
        else:
            place = secrets.randbits(62)
        self.at_work[key.name] = self.at_work.get(key.name, 0) + 1
        try:
            if place is not None and self.register is not None:
                await self._enter(self.register, key, place)
            yield
        finally:
            self.at_work[key.name] -= 1
            if not self.at_work[key.name]:
                del self.at_work[key.name]
            if place is not None and self.register is not None:
                self._leave(self.register, place)

    async def _enter(self, register: Register, key: Key, place: int) -> None:
        """Take a place in the register, or count here where that fails."""
        try:
            refusal = await self._take(register, key, place)
            if refusal is not None and refusal.limit == "at_once":
                await asyncio.sleep(LOOK)
                refusal = await self._take(register, key, place)
        except asyncio.CancelledError:
            register.leave(place)  # it may be taken, and nobody would ever know of it
            raise
        except StoreError as problem:
            if not self._failing:
                LOG.warning("the limits of keys are counted in each process, as its part of them: %s", problem)
            self._failing = True
            self._check(key, at_work=self.at_work[key.name] - 1)
            return
        self._failing = False
        if refusal is not None:
            raise _refused(key, refusal)
        if key.at_once is None:
            return
        self.held[place] = key.name
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(register))

    async def _take(self, register: Register, key: Key, place: int) -> Refusal | None:
        return await register.take(place, key.name, at_once=key.at_once, per_minute=key.requests_per_minute, hold=HOLD)

    def _leave(self, register: Register, place: int) -> None:
        if self.held.pop(place, None) is None:
            return
        register.leave(place)
        if not self.held and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _renew(self, register: Register) -> None:
        """Say again and again which places are held here."""
        while True:
            await asyncio.sleep(RENEWED)
            try:
                await register.keep_places(tuple(self.held.items()), HOLD)
            except StoreError:
                continue  # whoever comes next says so

    def _check(self, key: Key, at_work: int | None = None) -> None:
        """Count here, a part of each limit."""
        at_work = self.at_work.get(key.name, 0) if at_work is None else at_work
        if key.at_once is not None and at_work >= self._part(key.at_once):
            raise _refused(key, Refusal("at_once", 1.0))
        if key.requests_per_minute is not None:
            now = asyncio.get_running_loop().time()
            due, wait = owed(self._due.get(key.name, now), now, self._part(key.requests_per_minute))
            if wait:
                raise _refused(key, Refusal("requests_per_minute", wait))
            self._due[key.name] = due

    def _part(self, limit: int) -> int:
        return max(1, limit // self.parts)


def _refused(key: Key, refusal: Refusal) -> ProblemError:
    what = (
        f"{key.at_once} requests at once"
        if refusal.limit == "at_once"
        else f"{key.requests_per_minute} requests a minute"
    )
    message = f'the key "{key.name}" may make {what}'
    return ProblemError(Problem(429, "rate_limit", message, retry_after=refusal.wait))
