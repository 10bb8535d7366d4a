"""SQLite's back end: each method of `Backend` as a job for the thread that reads or the thread that writes."""

import asyncio
import datetime
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

from partsong.call import Call
from partsong.model import Answer
from partsong.store.backend import LEASE
from partsong.store.limits import Refusal
from partsong.store.runs import Deleted, Pruned, Search, StoredRun, Timed
from partsong.store.shares import Share
from partsong.store.sqlite import calls, limits, runs, spending, totals, votes
from partsong.store.sqlite.database import LOCK_TIMEOUT, Database, Job
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

STEP = 500  # rows that one transaction prunes: other processes may write in between


class SQLite:
    """Implements `Backend`, which explains the methods, with an SQLite file.

    lock: seconds to wait while another process keeps the file locked
    """

    def __init__(self, path: Path, lock: float = LOCK_TIMEOUT) -> None:
        self.database = Database(path, lock)

    @property
    def address(self) -> str:
        return str(self.database.path)

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    async def probe(self) -> None:
        await self.database.write(runs.fill)
        await self.database.write(runs.empty)  # in a transaction of its own, since pages that are freed are not written

    # Calls

    def keep_call(self, call: Call, *, words: bool) -> "asyncio.Future[None]":
        return self.database.write(partial(calls.keep, call=call, words=words))

    async def find_answer(self, key: bytes) -> Answer | None:
        return await self.database.read(partial(calls.find_answer, key=key))

    async def throughputs(self, models: Sequence[str]) -> dict[str, Throughput]:
        return await self.database.read(partial(calls.throughputs, models=models))

    # Runs

    def save_run(
        self, run: StoredRun, index: int, events: Sequence[Timed], shares: Sequence[Share]
    ) -> "asyncio.Future[None]":
        return self.database.write(partial(runs.save, run=run, index=index, events=events, shares=shares))

    def join_events(self, run: str) -> "asyncio.Future[None]":
        return self.database.write(partial(runs.join, run=run))

    async def find_run(self, run: str) -> StoredRun | None:
        return await self.database.read(partial(runs.find, run=run))

    async def run_ids(self, prefix: str, limit: int | None = None) -> list[str]:
        return await self.database.read(partial(runs.ids, prefix=prefix, limit=limit))

    async def latest_runs(self, limit: int) -> list[StoredRun]:
        return await self.database.read(partial(runs.latest, limit=limit))

    async def search_runs(self, search: Search) -> tuple[list[StoredRun], bool]:
        return await self.database.read(partial(runs.search, search=search))

    async def read_events(self, run: str) -> tuple[str, list[Timed]] | None:
        return await self.database.read(partial(runs.read_events, run=run))

    def delete_run(self, run: str) -> "asyncio.Future[Deleted]":
        return self.database.write(partial(runs.delete, run=run))

    async def delete_runs(self, caller: str, *, conversation: str = "", before: float | None = None) -> Deleted:
        job = partial(runs.delete_some, caller=caller, conversation=conversation, before=before, at_most=STEP)
        deleted = [await self.database.write(job)]
        while deleted[-1].runs:
            deleted.append(await self.database.write(job))
        return Deleted(sum(each.runs for each in deleted), sum(each.calls for each in deleted))

    def delete_votes(self, caller: str) -> "asyncio.Future[None]":
        return self.database.write(partial(votes.delete_of, caller=caller))

    async def forget_pages(self) -> None:
        await self.database.free_pages()
        await self.database.shrink()

    async def day_totals(self, caller: str, since: float) -> list[DayTotal]:
        return await self.database.read(partial(totals.by_day, caller=caller, since=since))

    async def model_totals(self, caller: str, since: float) -> list[ModelTotal]:
        return await self.database.read(partial(totals.by_model, caller=caller, since=since))

    # Votes

    def keep_vote(self, vote: Vote) -> "asyncio.Future[None]":
        return self.database.write(partial(votes.keep, vote=vote))

    async def vote_tallies(self, caller: str) -> list[VoteTally]:
        return await self.database.read(partial(votes.tallies, caller=caller))

    async def vote_tally(self, caller: str, a: str, b: str) -> VoteTally:
        return await self.database.read(partial(votes.tally, caller=caller, a=a, b=b))

    # Money of the day

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        now = time.time()
        return await self.database.read(partial(spending.left, day=day_of(now), caps=caps, now=now))

    def hold(
        self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[int | None]":
        now = time.time()
        job = partial(spending.hold, day=day_of(now), amounts=amounts, caps=caps)
        return self.database.write(partial(job, now=now, until=now + lease))

    def begin(
        self, hold: int, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[bool]":
        return self.database.write(partial(_begin, hold=hold, amounts=amounts, caps=caps, lease=lease))

    def renew(self, holds: Iterable[int], lease: float = LEASE) -> "asyncio.Future[None]":
        return self.database.write(partial(_renew, holds=tuple(holds), lease=lease))

    def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> "asyncio.Future[None]":
        return self.database.write(partial(spending.settle, hold_id=hold, amounts=amounts))

    # Requests of keys

    def take_place(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> "asyncio.Future[Refusal | None]":
        now = time.time()
        job = partial(limits.take, place=place, key=key, at_once=at_once, per_minute=per_minute)
        return self.database.write(partial(job, now=now, until=now + hold))

    def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> "asyncio.Future[None]":
        return self.database.write(partial(limits.keep, places=tuple(places), until=time.time() + hold))

    def leave_place(self, place: int) -> "asyncio.Future[None]":
        return self.database.write(partial(limits.leave, place=place))

    # Pruning

    async def prune(self, before: float) -> Pruned:
        database = self.database
        await database.shrink()
        size = database.size()
        pruned_runs = await self._in_steps(runs.prune, before)
        pruned_calls = await self._in_steps(calls.prune, before)
        await database.write(partial(votes.forget, before=before))
        await database.write(partial(spending.prune, before=day_of(max(0.0, before))))
        await database.free_pages()
        await database.shrink()
        return Pruned(pruned_runs, pruned_calls, max(0, size - database.size()))

    async def _in_steps(self, delete: Callable[..., int], before: float) -> int:
        """Delete rows from before a Unix time in steps of `STEP` rows, and return how many were deleted."""
        step: Job[int] = partial(delete, before=before, at_most=STEP)
        deleted = 0
        while some := await self.database.write(step):
            deleted += some
        return deleted


def _begin(
    connection: sqlite3.Connection, hold: int, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float
) -> bool:
    """Begin at the moment of the transaction: the job may have waited, and the hold may have lapsed meanwhile."""
    now = time.time()
    return spending.begin(connection, hold, amounts, caps, now, now + lease)


def _renew(connection: sqlite3.Connection, holds: Iterable[int], lease: float) -> None:
    now = time.time()
    spending.renew(connection, holds, now, now + lease)


def day_of(moment: float) -> str:
    """The day (UTC) of a Unix time."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).date().isoformat()
