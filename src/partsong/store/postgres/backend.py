"""PostgreSQL's back end: each method of `Backend` as a job for the thread that reads or the thread that writes."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from partsong.call import Call
from partsong.model import Answer
from partsong.store.backend import LEASE, SavedAs
from partsong.store.conversations import Change, ConversationSearch, StoredConversation
from partsong.store.limits import Refusal
from partsong.store.postgres import calls, conversations, limits, locks, recipes, runs, sharing, spending, totals, votes
from partsong.store.postgres.database import LOCK_TIMEOUT, Database, Job
from partsong.store.postgres.transaction import Transaction
from partsong.store.runs import Deleted, Pruned, Search, StoredRun, Timed
from partsong.store.shares import Share
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

STEP = 500  # rows that one transaction prunes: other replicas may write in between
WORDY = ("calls", "prompts", "runs", "pieces", "shares", "votes", "words")  # tables from which rows are deleted


class Postgres:
    """Implements `Backend` and `Shared`, which explain the methods, with a PostgreSQL database.

    address: postgresql://…
    lock: seconds to wait for a lock that another transaction holds
    """

    def __init__(self, address: str, lock: float = LOCK_TIMEOUT) -> None:
        self.database = Database(address, lock)

    @property
    def address(self) -> str:
        return self.database.shown

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()

    async def probe(self) -> None:
        await self.database.write(runs.fill)
        await self.database.write(runs.empty)

    def is_packing(self, written: "asyncio.Future[Any]") -> bool:
        return False  # a write is made into bytes in its transaction

    # Calls

    def keep_call(self, call: Call, *, words: bool) -> "asyncio.Future[None]":
        return self.database.write(partial(calls.keep, call=call, words=words), locks.USING_PROMPTS)

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

    async def latest_runs(self, limit: int, *, apart: bool = True) -> list[StoredRun]:
        return await self.database.read(partial(runs.latest, limit=limit, apart=apart))

    async def search_runs(self, search: Search) -> tuple[list[StoredRun], bool]:
        return await self.database.read(partial(runs.search, search=search))

    async def read_events(self, run: str) -> tuple[str, list[Timed]] | None:
        return await self.database.read(partial(runs.read_events, run=run))

    def delete_run(self, run: str) -> "asyncio.Future[Deleted]":
        return self.database.write(partial(runs.delete, run=run), locks.DELETING_PROMPTS)

    async def delete_runs(self, caller: str, *, conversation: str = "", before: float | None = None) -> Deleted:
        job = partial(runs.delete_some, caller=caller, conversation=conversation, before=before, at_most=STEP)
        deleted = [await self.database.write(job, locks.DELETING_PROMPTS)]
        while deleted[-1].runs:
            deleted.append(await self.database.write(job, locks.DELETING_PROMPTS))
        return Deleted(sum(each.runs for each in deleted), sum(each.calls for each in deleted))

    def delete_votes(self, caller: str) -> "asyncio.Future[None]":
        return self.database.write(partial(votes.delete_of, caller=caller))

    async def forget_pages(self) -> None:
        """Leave the room to the database's own vacuum: one of ours would read whole indexes for each deleted run."""

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
        return await self.database.read(partial(spending.left, caps=dict(caps)))

    def hold(
        self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[int | None]":
        job = partial(spending.hold, amounts=dict(amounts), caps=dict(caps), lease=lease)
        return self.database.write(job, locks.MONEY)

    def begin(
        self, hold: int, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[bool]":
        job = partial(spending.begin, hold_id=hold, amounts=dict(amounts), caps=dict(caps), lease=lease)
        return self.database.write(job, locks.MONEY)

    def renew(self, holds: Iterable[int], lease: float = LEASE) -> "asyncio.Future[None]":
        return self.database.write(partial(spending.renew, holds=tuple(holds), lease=lease), locks.MONEY)

    def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> "asyncio.Future[None]":
        return self.database.write(partial(spending.settle, hold_id=hold, amounts=dict(amounts)), locks.MONEY)

    # Requests of keys

    def take_place(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> "asyncio.Future[Refusal | None]":
        job = partial(limits.take, place=place, key=key, at_once=at_once, per_minute=per_minute, hold=hold)
        return self.database.write(job, locks.of_key(key))

    def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> "asyncio.Future[None]":
        kept = tuple(places)
        wanted = {locks.of_key(key) for _, key in kept}
        return self.database.write(partial(limits.keep, places=kept, hold=hold), *wanted)

    def leave_place(self, place: int) -> "asyncio.Future[None]":
        return self.database.write(partial(limits.leave, place=place))

    # What servers share beside the store

    async def read_keys(self) -> list[bytes]:
        return await self.database.read(sharing.read_keys)

    def add_key(self, name: str, written: bytes) -> "asyncio.Future[bool]":
        return self.database.write(partial(sharing.add_key, name=name, written=written))

    def remove_key(self, name: str) -> "asyncio.Future[bool]":
        return self.database.write(partial(sharing.remove_key, name=name))

    async def recipe_digests(self) -> dict[str, bytes]:
        return await self.database.read(recipes.digests)

    async def read_recipes(self, names: Sequence[str]) -> dict[str, str]:
        return await self.database.read(partial(recipes.read, names=names))

    def keep_recipe(self, name: str, text: str, replace: bool) -> "asyncio.Future[SavedAs]":
        return self.database.write(partial(recipes.keep, name=name, text=text, replace=replace), locks.RECIPES)

    def remove_recipe(self, name: str) -> "asyncio.Future[bool]":
        return self.database.write(partial(recipes.remove, name=name))

    def ask_to_stop(self, run: str) -> "asyncio.Future[None]":
        return self.database.write(partial(sharing.ask_to_stop, run=run))

    async def asked_to_stop(self, runs: Sequence[str]) -> list[str]:
        return await self.database.read(partial(sharing.asked_to_stop, runs=runs))

    def claim(self, key: bytes, claimant: int, lease: float) -> "asyncio.Future[bool]":
        return self.database.write(partial(sharing.claim, key=key, claimant=claimant, lease=lease), locks.CLAIMS)

    def renew_claims(self, keys: Sequence[bytes], claimant: int, lease: float) -> "asyncio.Future[None]":
        job = partial(sharing.renew_claims, keys=tuple(keys), claimant=claimant, lease=lease)
        return self.database.write(job, locks.CLAIMS)

    def release(self, key: bytes, claimant: int) -> "asyncio.Future[None]":
        return self.database.write(partial(sharing.release, key=key, claimant=claimant), locks.CLAIMS)

    # Pruning

    async def prune(self, before: float) -> Pruned:
        database = self.database
        size = await database.read(_size)
        pruned_runs = await self._in_steps(runs.prune, before)
        pruned_calls = await self._in_steps(calls.prune, before)
        await database.write(partial(votes.forget, before=before))
        await database.write(partial(spending.prune, before=max(0.0, before)), locks.MONEY)
        await database.write(limits.prune)
        await database.write(sharing.prune, locks.CLAIMS)
        await database.vacuum(WORDY)
        return Pruned(pruned_runs, pruned_calls, max(0, size - await database.read(_size)))

    async def _in_steps(self, delete: Callable[..., int], before: float) -> int:
        """Delete rows from before a Unix time in steps of `STEP` rows, and return how many were deleted."""
        step: Job[int] = partial(delete, before=before, at_most=STEP)
        deleted = 0
        while some := await self.database.write(step, locks.DELETING_PROMPTS):
            deleted += some
        return deleted


def _size(transaction: Transaction) -> int:
    """Bytes of the tables from which rows are deleted, with their indexes."""
    row = transaction.row(
        "SELECT sum(pg_total_relation_size(table_name::regclass))::bigint FROM unnest(%s::text[]) AS table_name",
        (list(WORDY),),
    )
    return 0 if row is None else int(row[0])
