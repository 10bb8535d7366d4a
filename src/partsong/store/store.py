"""The store: what each mode keeps, and what happens if the database behind it fails.

Mode "full" keeps everything. Mode "metadata" keeps names, numbers, times and causes, but no words. Mode "off" keeps
nothing and touches no file.

A store that fails must never break a run: the run goes on without the store, and the first failure stays in `problem`
for someone to report. Money is the exception, because a cap per day that cannot be kept is an error.
"""

import asyncio
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from partsong.call import Call
from partsong.errors import InputError, RequestError, StoreError
from partsong.model import Answer
from partsong.store.backend import Backend, UnstorableError
from partsong.store.finding import find_run
from partsong.store.limits import Refusal
from partsong.store.recorder import Recorder, new_id
from partsong.store.runs import Pruned, Search, StoredRun, Timed
from partsong.store.sqlite.backend import SQLite
from partsong.store.sqlite.database import LOCK_TIMEOUT
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

Mode = Literal["off", "metadata", "full"]
T = TypeVar("T")
REST = 30.0  # seconds for which a store that has failed is not asked again


@asynccontextmanager
async def open_store(path: Path, mode: Mode = "full", *, patience: float = LOCK_TIMEOUT) -> AsyncIterator["Store"]:
    """Open the store in the file `path`. A new file is made for this user alone; leaving the block writes everything.

    `patience` is how many seconds another process may keep the file locked. Raises `StoreError`, which names the file.
    """
    if mode == "off":
        yield Store(None, mode)
        return
    backend = SQLite(path, patience)
    try:
        await backend.open()
        yield Store(backend, mode)
    finally:
        await backend.close()


class Store:
    """Stores and finds calls, runs, votes, the money of each day and the requests of keys. See `backend.Backend`.

    mode: what is kept
    problem: the first failure to read or write calls or runs; `None` if there was none
    """

    def __init__(self, backend: Backend | None, mode: Mode) -> None:
        self.mode: Mode = mode
        self.problem: StoreError | None = None
        self._backend = backend
        self._resting: tuple[float, StoreError] | None = None

    async def find_call(self, key: bytes) -> Answer | None:
        """The latest answer to the call with this key; `None` if there is none, or where no words are kept."""
        if self._backend is None or self.mode != "full":
            return None
        return await self._noting(partial(self._backend.find_answer, key))

    async def keep_call(self, call: Call) -> None:
        """Store a finished call. Returns once the call is committed, so that it survives a crash of this process.

        Raises `StoreError` if the database fails.
        """
        if self._backend is not None:
            await self._noting(partial(self._backend.keep_call, call, words=self.mode == "full"))

    def record(
        self, run: str | None = None, *, caller: str = "", labels: Mapping[str, str] = MappingProxyType({})
    ) -> Recorder:
        """A listener that records a run under a new id, or anew under the id `run`.

        `caller` is the name of the key that asked for the run, and `labels` is what the caller calls the run.
        """
        words = self.mode == "full"
        return Recorder(self._backend, run or new_id(), self._note, words=words, caller=caller, labels=labels)

    async def runs(self, limit: int = 20) -> list[StoredRun]:
        """The newest runs, newest first."""
        return [] if self._backend is None else await self._backend.latest_runs(limit)

    async def search(self, wanted: Search) -> tuple[list[StoredRun], bool]:
        """The runs that the search wants, newest first, and whether there are more.

        Raises `RequestError` if `before` is not a run of the caller.
        """
        if self._backend is None:
            return [], False
        if wanted.before:
            run = await self._backend.find_run(wanted.before)
            if run is None or run.caller != wanted.caller:
                raise RequestError(f'before: there is no run "{wanted.before}" of yours', "before")
        return await self._backend.search_runs(wanted)

    async def totals(self, caller: str, since: float) -> tuple[list[DayTotal], list[ModelTotal]]:
        """The totals of a caller's runs since a Unix time, by day and by model."""
        if self._backend is None:
            return [], []
        days = await self._backend.day_totals(caller, since)
        return days, await self._backend.model_totals(caller, since)

    async def vote(self, vote: Vote) -> None:
        """Store a vote, without its question where no words are kept."""
        await self._needed("a vote").keep_vote(vote if self.mode == "full" else replace(vote, question=""))

    async def tally(self, caller: str) -> list[VoteTally]:
        """A caller's votes for each pair of recipes."""
        return [] if self._backend is None else await self._backend.vote_tallies(caller)

    async def tally_of(self, caller: str, a: str, b: str) -> VoteTally:
        """A caller's votes on two recipes."""
        return VoteTally(a, b, 0, 0, 0) if self._backend is None else await self._backend.vote_tally(caller, a, b)

    async def find_run(self, prefix: str) -> StoredRun:
        """The run whose id begins with `prefix`, or the newest run for "last".

        Raises `InputError`, which suggests similar ids, if there is no such run or more than one.
        """
        return await find_run(self._needed(), prefix)

    async def events(self, run: str) -> list[Timed]:
        """The events of the run with this id, each with the seconds since the run's start.

        Raises `InputError` if there is no such run or if it was stored without events, and `StoreError` if this
        version cannot read the events.
        """
        backend = self._needed()
        try:
            found = await backend.read_events(run)
        except msgspec.DecodeError as problem:
            message = f"{backend.address}: the events of run {run} cannot be read by this version: {problem}"
            raise StoreError(message) from None
        if found is None:
            raise InputError(f'there is no run "{run}"')
        mode, events = found
        if mode != "full":
            raise InputError(f'run {run} was stored without its words (store = "{mode}"), so its events are not there')
        return events

    async def delete_run(self, run: str) -> None:
        """Delete the run with this id and its events. Answers to its calls stay in the store until they are pruned."""
        await self._needed().delete_run(run)

    async def prune(self, older_than: datetime.timedelta) -> Pruned:
        """Delete older runs, calls and days, and the questions of older votes. The disk gets the room back."""
        before = datetime.datetime.now(datetime.UTC).timestamp() - older_than.total_seconds()
        return await self._needed().prune(before)

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Dollars that may still be spent today (UTC) in each scope that has a cap."""
        return await self._needed("a cap per day").left(caps) if caps else {}

    async def hold(self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]) -> int | None:
        """Hold the worst case of what is about to be spent, by scope; `None` if a cap forbids it."""
        if not caps and self._backend is None:
            return 0
        backend = self._needed("a cap per day")
        held = backend.hold(amounts, caps)
        try:
            return await asyncio.shield(held)
        except asyncio.CancelledError:
            # A hold that nobody knows of would count until the day is over.
            held.add_done_callback(partial(_release, backend))
            raise

    async def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> None:
        """Replace a hold by what was spent. Only the first settling of a hold counts."""
        if self._backend is not None:
            await self._backend.settle(hold, amounts)

    async def take(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> Refusal | None:
        """Take a place among the requests of a key for `hold` seconds and count one request of its minute.

        If a limit forbids it, nothing is taken or counted, and the refusal names the limit.
        """
        take = self._needed("a limit of a key").take_place
        return await self._noting(partial(take, place, key, at_once=at_once, per_minute=per_minute, hold=hold))

    async def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> None:
        """Keep these places of these keys for `hold` more seconds."""
        await self._noting(partial(self._needed().keep_places, tuple(places), hold))

    def leave(self, place: int) -> None:
        """Give a place back soon. If this fails, the place comes free when its time is over."""
        if self._backend is not None:
            self._backend.leave_place(place).add_done_callback(asyncio.Future.exception)

    async def throughputs(self, models: Iterable[str]) -> dict[str, Throughput]:
        """The throughput of each model in its latest calls. A model that was never asked is absent."""
        if self._backend is None:
            return {}
        return await self._noting(partial(self._backend.throughputs, tuple(models)))

    def _needed(self, what: str = "this") -> Backend:
        if self._backend is None:
            raise StoreError(f'the store is off, but {what} needs it; set store = "metadata" or "full"')
        return self._backend

    async def _noting(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, and keep the first failure in `problem`.

        For 30 seconds after a failure, the work is not done and the same failure is raised. Otherwise each of many
        calls would wait for a broken disk.
        """
        if self._resting is not None and asyncio.get_running_loop().time() < self._resting[0]:
            raise self._resting[1]
        try:
            return await work()
        except StoreError as problem:
            self._note(problem)
            raise

    def _note(self, problem: StoreError) -> None:
        self.problem = self.problem or problem
        if not isinstance(problem, UnstorableError):
            self._resting = asyncio.get_running_loop().time() + REST, problem


def _release(backend: Backend, held: "asyncio.Future[int | None]") -> None:
    """Settle a hold with nothing spent, because the task that waited for it was cancelled."""
    if held.exception() is None and (hold := held.result()) is not None:
        # Nobody waits for the settling. If it fails, the hold stays.
        backend.settle(hold, {}).add_done_callback(asyncio.Future.exception)
