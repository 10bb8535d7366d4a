"""The store: what each mode keeps, and what happens if the database behind it fails.

Mode "full" keeps everything. Mode "metadata" keeps names, numbers, times and causes, but no words. Mode "off" keeps
nothing and touches no file.

A store that fails must never break a run: the run goes on without the store, and `health` says what failed. Money is
the exception, because a cap per day that cannot be kept is an error.

A caller waits for the database for `patience` seconds at most. Then the store counts as failing, and all callers go on
at once. While writes fail nothing is waited for, and a probe finds out when they work again. The writes of runs are
queued all the same, so that a short lock loses no run.
"""

import asyncio
import datetime
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from partsong.addresses import fault_of, is_address, shown
from partsong.call import Call
from partsong.errors import ConfigurationError, InputError, RequestError, StoreError
from partsong.events import AnyEvent
from partsong.model import Answer
from partsong.store.backend import LEASE, Backend, SavedAs, Shared, StoreOffError
from partsong.store.conversations import Change, ConversationSearch, StoredConversation
from partsong.store.finding import find_run
from partsong.store.health import Health
from partsong.store.leases import Leases
from partsong.store.limits import Refusal
from partsong.store.patience import OF_THIS_REQUEST, Patience
from partsong.store.recorder import Recorder, new_id
from partsong.store.runs import CONVERSATION, Deleted, Pruned, Search, Source, StoredRun, Timed
from partsong.store.sqlite.backend import SQLite
from partsong.store.sqlite.database import LOCK_TIMEOUT
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

Mode = Literal["off", "metadata", "full"]
T = TypeVar("T")
TURNS = 5  # of the event loop, until a write that the thread has finished is known to be done
NEEDED = 0.05  # seconds that a request waits at least for a write without which it fails
CLAIM = 10.0  # seconds for which a call is claimed without being renewed
PROBE = 2.0  # seconds between two tries of a database that fails


@asynccontextmanager
async def open_store(
    place: Path | str,
    mode: Mode = "full",
    *,
    lock: float = LOCK_TIMEOUT,
    patience: float | None = None,
    lease: float = LEASE,
    must_open: bool = True,
) -> AsyncIterator["Store"]:
    """Open the store. Leaving the block writes everything.

    place: a file, which is made for this user alone if it is missing; or the address of a PostgreSQL database
        (postgresql://…), which needs the extra `postgres`
    lock: seconds for which another process may keep the store locked before a read or write fails
    patience: seconds for which a caller waits for a write; `None` to wait until the write is made or has failed
    lease: seconds after which a hold comes free whose process has died
    must_open: whether a store that cannot be opened is an error. Otherwise it fails until it can be opened

    Raises `StoreError`, which names the place without a password.
    """
    if mode == "off":
        yield Store(None, mode)
        return
    backend, shared = _backend(place, lock)
    store = Store(backend, mode, patience, lease, shared)
    try:
        try:
            await backend.open()
        except StoreError as problem:
            if must_open:
                raise
            store.health.failed(problem, writing=True)
            store.opened = False
        yield store
    finally:
        await store.close()
        await backend.close()


def _backend(place: Path | str, lock: float) -> tuple[Backend, Shared | None]:
    if isinstance(place, Path) or not is_address(place):
        return SQLite(Path(place), lock), None
    if (wrong := fault_of(place)) is not None:
        raise ConfigurationError(f"store: {wrong}")
    try:
        from partsong.store.postgres.backend import Postgres
    except ImportError as problem:
        if (problem.name or "").partition(".")[0] not in ("psycopg", "psycopg_binary"):
            raise
        message = f"{shown(place)}: needs the extra `postgres`: pip install 'partsong[postgres]'"
        raise ConfigurationError(message) from None
    backend = Postgres(place, lock)
    return backend, backend


class Store:
    """Stores and finds calls, runs, votes, the money of each day and the requests of keys. See `backend.Backend`.

    mode: what is kept
    health: whether the database works
    opened: whether the database could be opened
    shared: whether servers on several hosts share the database
    """

    def __init__(
        self,
        backend: Backend | None,
        mode: Mode,
        patience: float | None = None,
        lease: float = LEASE,
        shared: Shared | None = None,
    ) -> None:
        self.mode: Mode = mode
        self.health = Health(self._probe_soon)
        self.opened = True
        self.shared = shared is not None
        self._backend, self._patience, self._shared = backend, patience, shared
        self._unsettled: dict[int, Mapping[str, Decimal]] = {}  # holds whose settling has failed, by id
        self._leases = Leases(None if backend is None else self._renew_holds, lease)
        self._claims = Leases(None if shared is None else self._renew_claims, CLAIM)
        self._claimant = secrets.randbits(62)
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def problem(self) -> StoreError | None:
        """The first failure; `None` if there was none."""
        return self.health.problem

    async def close(self) -> None:
        """Stop probing and renewing. The back end is closed by whoever opened it."""
        self._closed = True
        await self._leases.close()
        await self._claims.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def probe(self) -> None:
        """Write as much as a run does, and delete it again. Raises `StoreError` if the store cannot be written."""
        if self._backend is not None:
            await self._backend.probe()

    async def find_call(self, key: bytes) -> Answer | None:
        """The latest answer to the call with this key; `None` if there is none, or where no words are kept."""
        if self._backend is None or self.mode != "full":
            return None
        return await self._read(partial(self._backend.find_answer, key))

    async def keep_call(self, call: Call) -> None:
        """Store a finished call. Returns once the call is committed, so that it survives a crash of this process.

        Raises `StoreError` if the database fails.
        """
        if self._backend is not None:
            await self._write(partial(self._backend.keep_call, call, words=self.mode == "full"))

    def record(
        self,
        run: str | None = None,
        *,
        caller: str = "",
        labels: Mapping[str, str] = MappingProxyType({}),
        begins: bool = False,
        source: Source = "",
    ) -> Recorder:
        """A listener that records a run under a new id, or anew under the id `run`.

        caller: owner of the run: `Key.owner` of the key that asked for it; "" (default) for the command line
        labels: names and values by which the caller labels the run (default: none)
        begins: whether the run begins a conversation, unless its labels name one (default: no)
        source: whether a batch or a bench makes the run; "" (default) for neither
        """
        words, name = self.mode == "full", run or new_id()
        note, wait = partial(self.health.failed, writing=True), self._wait
        told = {CONVERSATION: name, **labels} if begins else labels
        return Recorder(self._backend, name, note, wait, words=words, caller=caller, labels=told, source=source)

    async def runs(self, limit: int = 20, *, apart: bool = True) -> list[StoredRun]:
        """The newest runs, newest first. `apart`: also those of batches and benches (default: yes)."""
        if self._backend is None:
            return []
        return await self._read(partial(self._backend.latest_runs, limit, apart=apart))

    async def search(self, wanted: Search) -> tuple[list[StoredRun], bool]:
        """The runs that the search wants, newest first, and whether there are more.

        Raises `RequestError` if `before` is not a run of the caller.
        """
        if self._backend is None:
            return [], False
        if wanted.before:
            run = await self._read(partial(self._backend.find_run, wanted.before))
            if run is None or run.caller != wanted.caller:
                raise RequestError(f'before: there is no run "{wanted.before}" of yours', "before")
        return await self._read(partial(self._backend.search_runs, wanted))

    async def runs_of(self, recipe: str, limit: int) -> list[list[AnyEvent]]:
        """The events of the newest finished runs of the recipe with this name that were stored with their events."""
        if self._backend is None:
            return []
        found, _ = await self.search(Search(recipe=recipe, limit=limit, apart=True))
        wanted = [run for run in found if run.status == "finished" and run.mode == "full"]
        return [[event for _, event in await self.events(run.id)] for run in wanted]

    async def totals(self, caller: str, since: float) -> tuple[list[DayTotal], list[ModelTotal]]:
        """The totals of a caller's runs since a Unix time, by day and by model."""
        if self._backend is None:
            return [], []
        days = await self._read(partial(self._backend.day_totals, caller, since))
        return days, await self._read(partial(self._backend.model_totals, caller, since))

    async def conversations(self, wanted: ConversationSearch) -> tuple[list[StoredConversation], bool]:
        """The conversations that the search wants, and whether there are more.

        Raises `RequestError` if `before` is not a listed conversation of the caller.
        """
        if self._backend is None:
            return [], False
        if wanted.before and await self.conversation(wanted.caller, wanted.before) is None:
            raise RequestError(f'before: there is no conversation "{wanted.before}" of yours', "before")
        return await self._read(partial(self._backend.conversations, wanted))

    async def conversation(self, caller: str, conversation: str) -> StoredConversation | None:
        """The listed conversation of the caller with this id; `None` if there is none."""
        return await self._read(partial(self._needed().find_conversation, caller, conversation))

    async def runs_in(self, caller: str, conversation: str, limit: int) -> list[StoredRun]:
        """The newest `limit` runs of a conversation of the caller, the oldest of them first."""
        return await self._read(partial(self._needed().runs_in, caller, conversation, limit))

    async def change_conversation(self, caller: str, conversation: str, change: Change) -> bool:
        """Change a conversation. Returns `False`, and changes nothing, if the caller has no run in it."""
        if self.mode != "full" and change.title:
            raise RequestError("title: this store keeps no words", "title")
        return await self._write(partial(self._needed().change_conversation, caller, conversation, change))

    async def vote(self, vote: Vote) -> None:
        """Store a vote, without its question where no words are kept."""
        kept = vote if self.mode == "full" else replace(vote, question="")
        await self._write(partial(self._needed("a vote").keep_vote, kept))

    async def tally(self, caller: str) -> list[VoteTally]:
        """A caller's votes for each pair of recipes."""
        return [] if self._backend is None else await self._read(partial(self._backend.vote_tallies, caller))

    async def tally_of(self, caller: str, a: str, b: str) -> VoteTally:
        """A caller's votes on two recipes."""
        if self._backend is None:
            return VoteTally(a, b, 0, 0, 0)
        return await self._read(partial(self._backend.vote_tally, caller, a, b))

    async def run(self, run: str) -> StoredRun | None:
        """The run with exactly this id; `None` if there is none."""
        return await self._read(partial(self._needed().find_run, run))

    async def find_run(self, prefix: str) -> StoredRun:
        """The run whose id begins with `prefix`, or the newest run for "last", as people type it.

        For the command line alone: the search grows with the number of runs, and does not ask whose runs they are.
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
            found = await self._read(partial(backend.read_events, run))
        except msgspec.DecodeError as problem:
            message = f"{backend.address}: the events of run {run} cannot be read by this version: {problem}"
            raise StoreError(message) from None
        if found is None:
            raise InputError(f'there is no run "{run}"')
        mode, events = found
        if mode != "full":
            raise InputError(f'run {run} was stored without its words (store = "{mode}"), so its events are not there')
        return events

    async def delete_run(self, run: str) -> Deleted:
        """Delete the run with this id, its events and its calls. Whoever calls this checks whose run it is."""
        backend = self._needed()
        deleted = await self._write(partial(backend.delete_run, run))
        await backend.forget_pages()
        return deleted

    async def delete_conversation(self, caller: str, conversation: str) -> Deleted:
        """Delete the runs of one conversation of a caller.

        `conversation` is the id of its first run, or the value of the label `conversation`.
        """
        self._check_writes()
        backend = self._needed()
        deleted = await backend.delete_runs(caller, conversation=conversation) if conversation else Deleted(0, 0)
        await backend.forget_pages()
        return deleted

    async def delete_everything(self, caller: str) -> Deleted:
        """Delete all runs, calls and votes of a caller. What the caller has spent today still counts."""
        self._check_writes()
        backend = self._needed()
        deleted = await backend.delete_runs(caller)
        await backend.delete_votes(caller)
        await backend.forget_pages()
        return deleted

    async def delete_older(self, caller: str, older_than: datetime.timedelta) -> Deleted:
        """Delete a caller's runs that are older, and their calls."""
        self._check_writes()
        backend = self._needed()
        before = datetime.datetime.now(datetime.UTC).timestamp() - older_than.total_seconds()
        deleted = await backend.delete_runs(caller, before=before)
        if deleted.runs:
            await backend.forget_pages()
        return deleted

    async def prune(self, older_than: datetime.timedelta) -> Pruned:
        """Delete older runs, calls and days, and the questions of older votes. The disk gets the room back."""
        before = datetime.datetime.now(datetime.UTC).timestamp() - older_than.total_seconds()
        return await self._needed().prune(before)

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Dollars that may still be spent today (UTC) in each scope that has a cap."""
        if not caps:
            return {}
        self._check_writes()  # whoever asks is about to hold
        return await self._read(partial(self._needed("a cap per day").left, caps))

    async def hold(self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]) -> int | None:
        """Hold the worst case of what is about to be spent, by scope; `None` if a cap forbids it."""
        if not caps and self._backend is None:
            return 0
        backend = self._needed("a cap per day")
        self._check_writes()
        held = backend.hold(amounts, caps, self._leases.lease)
        try:
            hold = await self._waited(held, NEEDED)
        except (asyncio.CancelledError, StoreError):
            # A hold that nobody knows of would count until the day is over.
            held.add_done_callback(partial(_release, backend))
            raise
        if hold is not None:
            self._leases.add(hold)
        return hold

    async def begin(self, hold: int, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]) -> bool:
        """Let these amounts of a hold count even if this process dies, in place of earlier amounts.

        Returns `False` if the hold has lapsed and others have taken the money. Raises `StoreError`.
        """
        if self._backend is None:
            return True
        return await self._write(partial(self._backend.begin, hold, amounts, caps, self._leases.lease), NEEDED)

    def lower(self, hold: int, amounts: Mapping[str, Decimal]) -> None:
        """Let less of a hold count if this process dies, soon. If this fails, more counts for some time."""
        if self._backend is not None and self.health.writes is None:
            self._backend.begin(hold, amounts, {}, self._leases.lease).add_done_callback(self._look_at)

    async def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> None:
        """Replace a hold by what was spent. Only the first settling of a hold counts.

        If the database fails, what has begun counts in full until the settling can be made up for. The run has its
        answer all the same.
        """
        if self._backend is None:
            return
        self._leases.remove(hold)
        self._unsettled[hold] = amounts
        await self._wait(self._settled(self._backend, hold, amounts))

    def _settled(self, backend: Backend, hold: int, amounts: Mapping[str, Decimal]) -> "asyncio.Future[None]":
        settled = backend.settle(hold, amounts)
        settled.add_done_callback(partial(self._look_at_settled, hold))
        return settled

    def _look_at_settled(self, hold: int, settled: "asyncio.Future[None]") -> None:
        problem = None if settled.cancelled() else settled.exception()
        if isinstance(problem, StoreError):
            self.health.failed(problem, writing=True)
        else:
            self._unsettled.pop(hold, None)

    async def take(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> Refusal | None:
        """Take a place among the requests of a key for `hold` seconds and count one request of its minute.

        If a limit forbids it, nothing is taken or counted, and the refusal names the limit.
        """
        take = self._needed("a limit of a key").take_place
        taking = partial(take, place, key, at_once=at_once, per_minute=per_minute, hold=hold)
        return await self._write(taking, NEEDED)

    async def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> None:
        """Keep these places of these keys for `hold` more seconds."""
        await self._write(partial(self._needed().keep_places, tuple(places), hold))

    def leave(self, place: int) -> None:
        """Give a place back soon. If this fails, the place comes free when its time is over."""
        if self._backend is not None:
            self._backend.leave_place(place).add_done_callback(asyncio.Future.exception)

    async def throughputs(self, models: Iterable[str]) -> dict[str, Throughput]:
        """The throughput of each model in its latest calls. A model that was never asked is absent."""
        if self._backend is None:
            return {}
        return await self._read(partial(self._backend.throughputs, tuple(models)))

    async def claim(self, key: bytes) -> bool:
        """Claim to make the call with this key, until `release`. Returns `False` if another process makes the call.

        The claim of a process that has died ends after 10 seconds.
        """
        if not await self._write(partial(self._sharing().claim, key, self._claimant, CLAIM)):
            return False
        self._claims.add(key)
        return True

    def release(self, key: bytes) -> None:
        """Give a claim back soon, if this process has it."""
        if key in self._claims and self._shared is not None:
            self._claims.remove(key)
            self._shared.release(key, self._claimant).add_done_callback(asyncio.Future.exception)

    def _renew_holds(self, holds: tuple[int, ...], lease: float) -> "asyncio.Future[None]":
        return self._needed().renew(holds, lease)

    def _renew_claims(self, keys: tuple[bytes, ...], lease: float) -> "asyncio.Future[None]":
        return self._sharing().renew_claims(keys, self._claimant, lease)

    async def read_keys(self) -> list[bytes]:
        """The keys of the servers that share the database, as they were written."""
        return await self._read(self._sharing().read_keys)

    async def add_key(self, name: str, written: bytes) -> bool:
        """Add a key of the servers. Returns `False`, and changes nothing, if there is a key with this name."""
        return await self._write(partial(self._sharing().add_key, name, written))

    async def remove_key(self, name: str) -> bool:
        """Remove a key of the servers. Returns whether there was one."""
        return await self._write(partial(self._sharing().remove_key, name))

    async def recipe_digests(self) -> dict[str, bytes]:
        """The SHA-256 digest of each recipe that was saved on a server's page, by name."""
        return await self._read(self._sharing().recipe_digests)

    async def read_recipes(self, names: Sequence[str]) -> dict[str, str]:
        """The TOML texts of those of these recipes that are saved, by name."""
        return await self._read(partial(self._sharing().read_recipes, names))

    async def keep_recipe(self, name: str, text: str, replace: bool) -> SavedAs:
        """Save a recipe. Changes nothing if the name is "taken" and `replace` is false, or if there is no room."""
        return await self._write(partial(self._sharing().keep_recipe, name, text, replace))

    async def remove_recipe(self, name: str) -> bool:
        """Delete a saved recipe. Returns whether there was one."""
        return await self._write(partial(self._sharing().remove_recipe, name))

    async def ask_to_stop(self, run: str) -> None:
        """Ask the server that performs the run to stop it. Whoever calls this checks whose run it is."""
        await self._write(partial(self._sharing().ask_to_stop, run))

    async def asked_to_stop(self, runs: Sequence[str]) -> list[str]:
        """Those of these runs that somebody has asked to stop."""
        return await self._read(partial(self._sharing().asked_to_stop, runs))

    def _sharing(self) -> Shared:
        if self._shared is None:
            raise StoreOffError("the store is not shared by several hosts, but this needs a postgresql:// address")
        return self._shared

    async def _read(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do a read, and return its result.

        For 30 seconds after a failed read, no read is done and the same failure is raised. Otherwise each of many calls
        would wait for a broken disk.
        """
        if not self.opened:
            self._check_writes()
        if (problem := self.health.reads) is not None:
            raise problem.with_traceback(None)
        try:
            found = await work()
        except StoreError as failure:
            self.health.failed(failure, writing=False)
            raise
        self.health.read()
        return found

    async def _write(self, work: "Callable[[], asyncio.Future[T]]", least: float = 0.0) -> T:
        """Do a write, and return its result. While writes fail, no write is started and the failure is raised.

        See `_wait` for `least`.
        """
        self._check_writes()
        return await self._waited(work(), least)

    def _check_writes(self) -> None:
        """Raise the current failure of writes, if there is one.

        The error is raised without its traceback, which would grow with each caller and keep all their frames alive.
        """
        if (problem := self.health.writes) is not None:
            raise problem.with_traceback(None)

    async def _waited(self, written: "asyncio.Future[T]", least: float = 0.0) -> T:
        """Wait for a write, and return its result. See `_wait` for `least`.

        Raises `StoreError` if the write fails or takes longer than `patience`. A write that takes longer stays queued,
        and is made as soon as the database allows.
        """
        written.add_done_callback(self._look_at)
        await self._wait(written, least)
        if not written.done():
            self._check_writes()
            raise self._late()
        return written.result()

    async def _wait(self, written: "asyncio.Future[Any]", least: float = 0.0) -> None:
        """Wait until a write is done, but not beyond `patience` and not while writes fail.

        least: seconds to wait even if this request has waited before for as long as it may (default: none)
        """
        if written.done() or self.health.writes is not None:
            return
        ends = (written, self.health.next_failure())
        if (patience := OF_THIS_REQUEST.get()) is None:
            patience, seconds = Patience(0), self._patience
        else:
            left = max(least, patience.left())
            seconds = left if self._patience is None else min(left, self._patience)
        with patience.waiting():
            done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(TURNS):
            if done or written.done():
                return
            await asyncio.sleep(0)
        if self._backend is not None and self._backend.is_packing(written):
            return  # the database is not asked yet
        if seconds == self._patience:  # else this request has waited before, and this write may be in time
            self.health.failed(self._late(), writing=True)

    def _late(self) -> StoreError:
        address = "" if self._backend is None else self._backend.address
        seconds = self._patience or 0
        return StoreError(f"{address}: the store has not answered for {seconds:g} s: it is locked, or its disk is slow")

    def _look_at(self, written: "asyncio.Future[Any]") -> None:
        problem = None if written.cancelled() else written.exception()
        if isinstance(problem, StoreError):
            self.health.failed(problem, writing=True)

    def _probe_soon(self) -> None:
        if self._backend is not None and self._probing is None and not self._closed:
            self._probing = asyncio.create_task(self._probe(self._backend))

    async def _probe(self, backend: Backend) -> None:
        """Try to write every 2 seconds until the database works, and then repeat the settlements that have failed."""
        while self.health.writes is not None:
            await asyncio.sleep(PROBE)
            with suppress(StoreError):
                if not self.opened:
                    await backend.open()
                    self.opened = True
                await backend.probe()
                for hold, amounts in list(self._unsettled.items()):
                    await backend.settle(hold, amounts)
                    self._unsettled.pop(hold, None)
                self.health.wrote()
                if self.health.reads is not None:  # the whole database was gone, and may be back
                    await backend.find_run("")
                    self.health.read()
        self._probing = None

    def _needed(self, what: str = "this") -> Backend:
        if self._backend is None:
            raise StoreOffError(f'the store is off, but {what} needs it; set store = "metadata" or "full"')
        return self._backend


def _release(backend: Backend, held: "asyncio.Future[int | None]") -> None:
    """Settle a hold with nothing spent, because the task that waited for it was cancelled."""
    if held.exception() is None and (hold := held.result()) is not None:
        # Nobody waits for the settling. If it fails, the hold stays.
        backend.settle(hold, {}).add_done_callback(asyncio.Future.exception)
