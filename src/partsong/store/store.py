"""The one door to the store. What the modes mean is decided here, and what happens when the store fails.

`full` keeps everything, `metadata` names, numbers, times and causes but no words, `off` nothing: no file is touched.
A store that fails must never break a run: whoever records goes on without it, and the first failure stays in `problem`
for someone to print. Money is the exception: a cap that cannot be kept is an error.
"""

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from types import MappingProxyType
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from partsong.call import Call
from partsong.errors import StoreError
from partsong.model import Answer
from partsong.store.recorder import Recorder, new_id
from partsong.store.sqlite import calls, limits, runs, search, spending, totals, votes
from partsong.store.sqlite.calls import Throughput
from partsong.store.sqlite.database import LOCK_TIMEOUT, Database, UnstorableError
from partsong.store.sqlite.runs import StoredRun, Timed

Mode = Literal["off", "metadata", "full"]
T = TypeVar("T")
REST = 30.0  # seconds that a store that has failed is left alone
STEP = 500  # rows that are pruned at once: others may write in between
PAGES = 4000  # of 4 KiB, that are given back at once


class Pruned(Struct, frozen=True):
    """What was deleted, and how many bytes smaller the file is for it."""

    runs: int
    calls: int
    bytes: int


@asynccontextmanager
async def open_store(path: Path, mode: Mode = "full", *, patience: float = LOCK_TIMEOUT) -> AsyncIterator["Store"]:
    """The store in the file `path`, made for this user alone where there is none; written out when the block is left.

    `patience` is how many seconds another process may keep it locked. Raises `StoreError`, which names the file.
    """
    if mode == "off":
        yield Store(None, mode)
        return
    database = Database(path, patience)
    try:
        await database.open()
        yield Store(database, mode)
    finally:
        await database.close()


class Store:
    """Calls, runs and the money of each day. `problem` is the first failure to read or write calls or runs."""

    def __init__(self, database: Database | None, mode: Mode) -> None:
        self.mode: Mode = mode
        self.problem: StoreError | None = None
        self._database = database
        self._resting: tuple[float, StoreError] | None = None

    async def find_call(self, key: bytes) -> Answer | None:
        """What was last answered to the call of that key, as it was then; `None` where no words are kept."""
        if self._database is None or self.mode != "full":
            return None
        return await self._noting(self._database.read, partial(calls.find_answer, key=key))

    async def find_whole_call(self, key: bytes) -> Call | None:
        """The last call of that key with all that is known of it."""
        if self._database is None or self.mode != "full":
            return None
        return await self._noting(self._database.read, partial(calls.find_call, key=key))

    async def keep_call(self, call: Call) -> None:
        """Write down a finished call; returns once it would survive this process. Raises `StoreError`."""
        if self._database is not None:
            await self._noting(self._database.write, partial(calls.keep, call=call, words=self.mode == "full"))

    def record(
        self, run: str | None = None, *, caller: str = "", labels: Mapping[str, str] = MappingProxyType({})
    ) -> Recorder:
        """A listener that records a run, under an id of its own or the given one, which is then recorded anew.

        `caller` is whose run it is, `labels` what they call it.
        """
        words = self.mode == "full"
        return Recorder(self._database, run or new_id(), self._note, words=words, caller=caller, labels=labels)

    async def runs(self, limit: int = 20) -> list[StoredRun]:
        """The newest runs, newest first."""
        return [] if self._database is None else await self._database.read(partial(runs.latest, limit=limit))

    async def search(self, wanted: search.Search) -> tuple[list[StoredRun], bool]:
        """The runs that are looked for, newest first, and whether there are more. Raises `RequestError`."""
        return (
            ([], False)
            if self._database is None
            else await self._database.read(partial(search.find_some, search=wanted))
        )

    async def totals(self, caller: str, since: float) -> tuple[list[totals.DayTotal], list[totals.ModelTotal]]:
        """What a caller's runs since a moment come to, by day and by model."""
        if self._database is None:
            return [], []
        days = await self._database.read(partial(totals.by_day, caller=caller, since=since))
        return days, await self._database.read(partial(totals.by_model, caller=caller, since=since))

    async def vote(self, vote: votes.Vote) -> None:
        """Keep a vote; its question only where words are kept."""
        if self.mode != "full":
            vote = replace(vote, question="")
        await self._needed("a vote").write(partial(votes.keep, vote=vote))

    async def tally(self, caller: str) -> list[votes.Tally]:
        """A caller's votes by pair of recipes."""
        return [] if self._database is None else await self._database.read(partial(votes.tally, caller=caller))

    async def tally_of(self, caller: str, a: str, b: str) -> votes.Tally:
        """A caller's votes on two recipes."""
        if self._database is None:
            return votes.Tally(a, b, 0, 0, 0)
        return await self._database.read(partial(votes.tally_of, caller=caller, a=a, b=b))

    async def find_run(self, prefix: str) -> StoredRun:
        """The run whose id begins like that, or the newest for `last`. Raises `InputError`, naming runs near it."""
        return await self._needed().read(partial(runs.find, prefix=prefix))

    async def events(self, run: str) -> list[Timed]:
        """The events of the run of that id, with the seconds since its start. Raises `InputError` if none were kept."""
        database = self._needed()
        return await database.read(partial(runs.read_events, run=run, path=database.path))

    async def delete_run(self, run: str) -> None:
        """Delete the run of that id with its events. Answers that the cache holds of its calls stay until pruned."""
        await self._needed().write(partial(runs.delete, run=run))

    async def prune(self, older_than: datetime.timedelta) -> Pruned:
        """Delete runs, calls and days that are older, and the words of votes, and give the room back to the disk."""
        database = self._needed()
        before = datetime.datetime.now(datetime.UTC).timestamp() - older_than.total_seconds()
        await database.shrink()
        size = database.size()
        counts = []
        for delete in (runs.prune, calls.prune):
            deleted = 0
            while some := await database.write(partial(delete, before=before, at_most=STEP)):
                deleted += some
            counts.append(deleted)
        await database.write(partial(votes.forget, before=before))
        await database.write(partial(spending.prune, before=day_of(max(0.0, before))))
        while await database.write(_give_back):
            pass
        await database.shrink()
        return Pruned(counts[0], counts[1], max(0, size - database.size()))

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Dollars that may still be spent today (UTC) in each scope that has a cap."""
        if not caps:
            return {}
        return await self._needed("a cap per day").read(partial(spending.left, day=today(), caps=caps))

    async def hold(self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]) -> int | None:
        """Hold the worst case of what is about to be spent, by scope; `None` if that would pass a cap."""
        if not caps and self._database is None:
            return 0
        database = self._needed("a cap per day")
        held = database.write(partial(spending.hold, day=today(), amounts=amounts, caps=caps))

        def release(held: asyncio.Future[int | None]) -> None:
            if held.exception() is None and (number := held.result()) is not None:
                settled = database.write(partial(spending.settle, number=number, amounts={}))
                settled.add_done_callback(asyncio.Future.exception)  # nobody waits: if it fails, the hold stays

        try:
            return await asyncio.shield(held)
        except asyncio.CancelledError:
            held.add_done_callback(release)  # a hold that nobody knows of would stay until tomorrow
            raise

    async def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> None:
        """Replace a hold by what was really spent. Only the first settling of a hold counts."""
        if self._database is not None:
            await self._database.write(partial(spending.settle, number=hold, amounts=amounts))

    async def take(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> limits.Refusal | None:
        """Take a place among a key's requests, for `hold` seconds, and owe for one; or nothing, and say why not."""
        now = time.time()
        job = partial(limits.take, place=place, key=key, at_once=at_once, per_minute=per_minute, now=now)
        return await self._noting(self._needed("a limit of a key").write, partial(job, until=now + hold))

    async def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> None:
        """Hold these places, of these keys, for `hold` more seconds."""
        until = time.time() + hold
        await self._noting(self._needed().write, partial(limits.keep, places=tuple(places), until=until))

    def leave(self, place: int) -> None:
        """Give a place back, soon. Where that fails it comes free when its time is over."""
        if self._database is not None:
            self._database.write(partial(limits.leave, place=place)).add_done_callback(asyncio.Future.exception)

    async def throughputs(self, models: Iterable[str]) -> dict[str, Throughput]:
        """How fast each model was in its last calls; one that was never asked is absent."""
        if self._database is None:
            return {}
        return await self._noting(self._database.read, partial(calls.throughputs, models=tuple(models)))

    def _needed(self, what: str = "this") -> Database:
        if self._database is None:
            raise StoreError(f'the store is off, but {what} needs it; set store = "metadata" or "full"')
        return self._database

    async def _noting(self, perform: Callable[[Callable[[Connection], T]], Awaitable[T]], job: partial[T]) -> T:
        """Have the job done, unless the store has failed just now: many calls should not all wait for a broken disk."""
        if self._resting is not None and asyncio.get_running_loop().time() < self._resting[0]:
            raise self._resting[1]
        try:
            return await perform(job)
        except StoreError as problem:
            self._note(problem)
            raise

    def _note(self, problem: StoreError) -> None:
        self.problem = self.problem or problem
        if not isinstance(problem, UnstorableError):
            self._resting = asyncio.get_running_loop().time() + REST, problem


def today() -> str:
    """This day, in UTC."""
    return day_of(time.time())


def day_of(moment: float) -> str:
    """The day (UTC) of a Unix time."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).date().isoformat()


def _give_back(connection: Connection) -> int:
    """Give some free pages back to the disk; how many there still are."""
    connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return left
