"""SQLite's back end: each method of `Backend` as a job for the thread that reads or the thread that writes."""

import asyncio
import datetime
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from partsong.call import Call
from partsong.events import AnyEvent, ProposalFinished, RunFinished, RunStarted
from partsong.heavy import LIGHT_BYTES, is_heavy
from partsong.model import Answer, Message, Reasoning, Text
from partsong.store.backend import LEASE
from partsong.store.conversations import Change, ConversationSearch, StoredConversation, words_of
from partsong.store.encoding import pack_events, pack_messages
from partsong.store.limits import Refusal
from partsong.store.runs import CONVERSATION, Deleted, Pruned, Search, StoredRun, Timed
from partsong.store.shares import Share
from partsong.store.sqlite import calls, conversations, limits, runs, spending, totals, votes
from partsong.store.sqlite.database import LOCK_TIMEOUT, Database, Job
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

LATEST = 64  # prompts of long calls that were deflated last
STEP = 500  # rows that one transaction prunes: other processes may write in between


class SQLite:
    """Implements `Backend`, which explains the methods, with an SQLite file.

    lock: seconds to wait while another process keeps the file locked
    """

    def __init__(self, path: Path, lock: float = LOCK_TIMEOUT) -> None:
        self.database = Database(path, lock)
        self._prompts = _Prompts()
        self._packed: dict[str, asyncio.Future[None]] = {}  # the last write of each run that is packed in a thread

    @property
    def address(self) -> str:
        return str(self.database.path)

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    def is_packing(self, written: "asyncio.Future[Any]") -> bool:
        return self.database.is_packing(written)

    async def probe(self) -> None:
        await self.database.write(runs.fill)
        await self.database.write(runs.empty)  # in a transaction of its own, since pages that are freed are not written

    # Calls

    def keep_call(self, call: Call, *, words: bool) -> "asyncio.Future[None]":
        if not words or not is_heavy(call.request):
            return self.database.write(partial(calls.keep, call=call, words=words))
        pack = partial(self._prompts.pack, call.request.messages)
        return self.database.write_packed(pack, partial(_keep, call=call))

    async def find_answer(self, key: bytes) -> Answer | None:
        return await self.database.read(partial(calls.find_answer, key=key))

    async def throughputs(self, models: Sequence[str]) -> dict[str, Throughput]:
        return await self.database.read(partial(calls.throughputs, models=models))

    # Runs

    def save_run(
        self, run: StoredRun, index: int, events: Sequence[Timed], shares: Sequence[Share]
    ) -> "asyncio.Future[None]":
        words = words_of(events) if run.labels.get(CONVERSATION) else ""
        save = partial(runs.save, run=run, index=index, shares=shares, words=words)
        if run.id not in self._packed and not any(_is_heavy(event) for _, event in events):
            return self.database.write(partial(save, events=events))
        # The later pieces of such a run take the same way, so that they stay in order.
        pack = partial(pack_events, events) if events else bytes
        saved = self.database.write_packed(pack, lambda connection, packed: save(connection, events=packed))
        self._packed[run.id] = saved
        saved.add_done_callback(partial(self._forget, run.id))
        return saved

    def _forget(self, run: str, saved: "asyncio.Future[None]") -> None:
        if self._packed.get(run) is saved:
            del self._packed[run]

    def join_events(self, run: str) -> "asyncio.Future[None]":
        if run in self._packed:
            return self.database.write_packed(bytes, lambda connection, _: runs.join(connection, run))
        return self.database.write(partial(runs.join, run=run))

    async def find_run(self, run: str) -> StoredRun | None:
        return await self.database.read(partial(runs.find, run=run))

    async def run_ids(self, prefix: str, limit: int | None = None) -> list[str]:
        return await self.database.read(partial(runs.ids, prefix=prefix, limit=limit))

    async def latest_runs(self, limit: int, *, apart: bool = True) -> list[StoredRun]:
        return await self.database.read(partial(runs.latest, limit=limit, apart=apart))

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

    # Conversations

    async def conversations(self, search: ConversationSearch) -> tuple[list[StoredConversation], bool]:
        return await self.database.read(partial(conversations.listed, search=search))

    async def find_conversation(self, caller: str, conversation: str) -> StoredConversation | None:
        return await self.database.read(partial(conversations.find, caller=caller, conversation=conversation))

    async def runs_in(self, caller: str, conversation: str, limit: int) -> list[StoredRun]:
        job = partial(runs.of_conversation, caller=caller, conversation=conversation, limit=limit)
        return await self.database.read(job)

    def change_conversation(self, caller: str, conversation: str, change: Change) -> "asyncio.Future[bool]":
        job = partial(conversations.change, caller=caller, conversation=conversation, changed=change)
        return self.database.write(job)

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


class _Prompts:
    """Packs the messages of long calls. Seats send the same ones, which are deflated once. For one thread."""

    def __init__(self) -> None:
        self._latest: deque[bytes] = deque(maxlen=LATEST)  # digests

    def pack(self, messages: tuple[Message, ...]) -> calls.Packed:
        text, digest, _ = calls.pack(messages)
        if digest in self._latest:
            return text, digest, None
        self._latest.append(digest)
        return text, digest, pack_messages(text)


def _keep(connection: sqlite3.Connection, packed: calls.Packed, call: Call) -> None:
    calls.keep(connection, call, words=True, prompt=packed)


def _is_heavy(event: AnyEvent) -> bool:
    """Whether an event is long: it has the conversation, or an answer of many megabytes."""
    match event:
        case RunStarted(conversation=conversation):
            return is_heavy(conversation)
        case ProposalFinished(answer=answer) | RunFinished(answer=answer):
            return sum(len(part.text) for part in answer.parts if isinstance(part, Text | Reasoning)) > LIGHT_BYTES
        case _:
            return False


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
