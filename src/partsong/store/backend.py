"""What a store needs from the database behind it. SQLite's back end is in `sqlite/`; all back ends pass one test suite.

A back end stores and finds, and decides nothing: what the modes keep, when a store that failed is asked again, and
what a user is told about a missing run is decided above, in `Store`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from partsong.call import Call
from partsong.errors import StoreError
from partsong.model import Answer
from partsong.store.limits import Refusal
from partsong.store.runs import Deleted, Pruned, Search, StoredRun, Timed
from partsong.store.shares import Share
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Vote, VoteTally

LEASE = 20.0  # seconds for which a hold is kept without being renewed


class UnstorableError(StoreError):
    """One value cannot be stored, such as a text that is not valid Unicode. The store itself works."""


class StoreOffError(StoreError):
    """There is no store, because the configuration says so."""


class Backend(Protocol):
    """A database with calls, runs, votes, the money of each day, and the requests of keys.

    Methods that read are coroutines. Methods that write return a future: the write is queued when the method is called,
    writes are made in the order of the calls, and the future is done when the write is committed. A caller may leave
    before. Every method belongs to the event loop in which the back end was opened.

    Every method but `open` raises `StoreError` if the database fails, is not open or is closed, and a write raises
    `UnstorableError` if its value cannot be stored. The message names `address`.

    Days (UTC) and moments are those of the back end's clock, because several machines may share one database.
    """

    @property
    def address(self) -> str:
        """Where the database is, as error messages name it."""

    async def open(self) -> None:
        """Open the database and bring its schema up to date. Raises `StoreError` if this cannot be done.

        Opening that has failed may be tried again.
        """

    async def close(self) -> None:
        """Wait for the queued writes and close the database, also if `open` failed."""

    async def probe(self) -> None:
        """Write about as much as a run does, and delete it again: shows whether the database can be written."""

    # Calls

    def keep_call(self, call: Call, *, words: bool) -> "asyncio.Future[None]":
        """Store a finished call; without its key (a digest of words), request and answer unless `words`."""

    async def find_answer(self, key: bytes) -> Answer | None:
        """The latest answer to the call with this key; `None` if there is none that this version can read."""

    async def throughputs(self, models: Sequence[str]) -> dict[str, Throughput]:
        """The throughput of each model in its latest calls. A model without calls is absent."""

    # Runs

    def save_run(
        self, run: StoredRun, index: int, events: Sequence[Timed], shares: Sequence[Share]
    ) -> "asyncio.Future[None]":
        """Replace the summary of a run, add `events` as the piece `index`, and replace the shares of these models.

        Index 0 begins the run anew: its earlier pieces and shares are deleted. A later piece of a run that was deleted
        meanwhile is dropped.
        """

    def join_events(self, run: str) -> "asyncio.Future[None]":
        """Make one piece of all pieces of the run with this id, to save room."""

    async def find_run(self, run: str) -> StoredRun | None:
        """The run with this id."""

    async def run_ids(self, prefix: str, limit: int | None = None) -> list[str]:
        """The ids that begin with `prefix`, the newest run first; at most `limit` of them.

        For the command line alone: with a short prefix, the number of ids grows with the table.
        """

    async def latest_runs(self, limit: int) -> list[StoredRun]:
        """The newest runs of all callers, newest first."""

    async def search_runs(self, search: Search) -> tuple[list[StoredRun], bool]:
        """The runs that the search wants, newest first, and whether there are more. `before` is empty or exists.

        A search with conditions other than `caller`, `before` and `after` looks at the newest 20,000 runs within these,
        so that no search takes longer as the table grows.
        """

    async def read_events(self, run: str) -> tuple[str, list[Timed]] | None:
        """The mode of the run with this id and its events; `None` if there is no such run.

        Raises `msgspec.DecodeError` if this version cannot read the events.
        """

    def delete_run(self, run: str) -> "asyncio.Future[Deleted]":
        """Delete the run with this id, its events, shares and calls, and the questions of votes on the run.

        Later pieces of the run are dropped.
        """

    async def delete_runs(self, caller: str, *, conversation: str = "", before: float | None = None) -> Deleted:
        """Delete runs of the caller like `delete_run`, a few at a time.

        With `conversation`: the run with this id, and the runs whose label `conversation` has this value. With
        `before`: runs that began before this Unix time. Else all runs.
        """

    def delete_votes(self, caller: str) -> "asyncio.Future[None]":
        """Delete all votes of the caller."""

    async def forget_pages(self) -> None:
        """Give the room of what was deleted back to the disk, so that no copy of it stays in the files."""

    async def day_totals(self, caller: str, since: float) -> list[DayTotal]:
        """The days on which the caller's runs began, the first day first.

        Only days that begin at the Unix time `since` or later are listed.
        """

    async def model_totals(self, caller: str, since: float) -> list[ModelTotal]:
        """The models of the caller's runs on the same days as `day_totals`, the dearest model first."""

    # Votes

    def keep_vote(self, vote: Vote) -> "asyncio.Future[None]":
        """Store a vote. It replaces an earlier vote of the caller on the same two runs: people change their mind."""

    async def vote_tallies(self, caller: str) -> list[VoteTally]:
        """The caller's votes for each pair of recipes, the pair with most votes first. See `votes.in_order`."""

    async def vote_tally(self, caller: str, a: str, b: str) -> VoteTally:
        """The caller's votes on two recipes, in the given order."""

    # Money of the day, in scopes that the caller names: all money, that of a provider, that of a key

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Dollars that may still be spent today in each scope; negative if a cap was lowered."""

    def hold(
        self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[int | None]":
        """Hold the worst case of what is about to be spent today; `None`, and nothing is held, if a cap forbids it.

        The result names the hold. Holds that are made at the same time, in any number of processes, never exceed a cap
        together. The hold lapses after `lease` seconds unless it is renewed. Of a hold that has lapsed only what has
        begun counts, until its day is over.
        """

    def begin(
        self, hold: int, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[bool]":
        """Let these amounts of the hold count even if it lapses, in place of earlier amounts, and renew the hold.

        Returns `False`, and changes nothing, if the hold is settled, or if it has lapsed and a cap no longer allows
        amounts that are higher than the earlier ones. A hold that has lapsed lives again if the caps allow all of it.
        Without caps, the amounts are written down whatever they are, and a hold that has lapsed stays so.
        """

    def renew(self, holds: Iterable[int], lease: float = LEASE) -> "asyncio.Future[None]":
        """Keep these holds for `lease` more seconds. One that has lapsed stays so."""

    def settle(self, hold: int, amounts: Mapping[str, Decimal]) -> "asyncio.Future[None]":
        """Replace a hold by what was spent, on the day of the hold. Only the first settling of a hold counts."""

    # Requests of keys, counted over all processes

    def take_place(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> "asyncio.Future[Refusal | None]":
        """Take a place among the requests of a key for `hold` seconds and count one request of its minute.

        If a limit forbids it, nothing is taken or counted. A place that nobody keeps comes free by itself, so the
        places of a process that died do.
        """

    def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> "asyncio.Future[None]":
        """Keep these places of these keys for `hold` more seconds, also places that came free in between."""

    def leave_place(self, place: int) -> "asyncio.Future[None]":
        """Give a place back."""

    # Pruning

    async def prune(self, before: float) -> Pruned:
        """Delete runs, calls and days from before a Unix time and the questions of votes; give the room back."""
