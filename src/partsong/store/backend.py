"""What a store needs from the database behind it. SQLite's back end is in `sqlite/`; all back ends pass one test suite.

A back end stores and finds, and decides nothing: what the modes keep, when a store that failed is asked again, and
what a user is told about a missing run is decided above, in `Store`.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

from partsong.call import Call
from partsong.errors import StoreError
from partsong.model import Answer
from partsong.store.conversations import Change, ConversationSearch, StoredConversation
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


SavedAs = Literal["saved", "taken", "full"]  # what became of a recipe that a server wanted to save


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

    def is_packing(self, written: "asyncio.Future[Any]") -> bool:
        """Whether a write still waits for its bytes to be made, so that the database has not been asked yet."""

    # Calls

    def keep_call(self, call: Call, *, words: bool) -> "asyncio.Future[None]":
        """Store a finished call.

        words: whether to store the key (a digest of words), the request and the answer too
        """

    async def find_answer(self, key: bytes) -> Answer | None:
        """The latest answer to the call with this key; `None` if there is none that this version can read."""

    async def throughputs(self, models: Sequence[str]) -> dict[str, Throughput]:
        """The throughput of each model in its latest calls. A model without calls is absent."""

    # Runs

    def save_run(
        self, run: StoredRun, index: int, events: Sequence[Timed], shares: Sequence[Share]
    ) -> "asyncio.Future[None]":
        """Store the progress of a run: replace its summary `run` and the shares of some models, and add new events.

        index: index of this piece among the pieces of the run's events. Index 0 begins the run anew: its earlier pieces
            and shares are deleted. A later piece of a run that was deleted meanwhile is dropped.
        events: the events since the piece before
        shares: the new share of each model that has one
        """

    def join_events(self, run: str) -> "asyncio.Future[None]":
        """Replace all pieces of events of the run with the id `run` by one piece, which needs less space."""

    async def find_run(self, run: str) -> StoredRun | None:
        """The summary of the run with the id `run`; `None` if there is no such run."""

    async def run_ids(self, prefix: str, limit: int | None = None) -> list[str]:
        """The ids that begin with `prefix`, the newest run first; at most `limit` of them.

        For the command line alone: with a short prefix, the number of ids grows with the table.
        """

    async def latest_runs(self, limit: int, *, apart: bool = True) -> list[StoredRun]:
        """The newest runs of all callers, newest first. `apart`: also those of batches and benches."""

    async def search_runs(self, search: Search) -> tuple[list[StoredRun], bool]:
        """The summaries of the runs that match, newest first, and whether there are more than `search.limit`.

        `search.before` must be empty or the id of a stored run. A search with conditions other than `caller`, `before`,
        `after` and `apart` looks at the newest 20,000 runs within these, so that no search takes longer as the table
        grows.
        """

    async def read_events(self, run: str) -> tuple[str, list[Timed]] | None:
        """The mode of the run with this id and its events; `None` if there is no such run.

        Raises `msgspec.DecodeError` if this version cannot read the events.
        """

    def delete_run(self, run: str) -> "asyncio.Future[Deleted]":
        """Delete the run with this id, its events, shares and calls, and the questions of votes on the run.

        Later pieces of the run are dropped. A conversation goes with its last run.
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
        """The totals of the days on which runs of the caller began, in order of time.

        Only days that begin at the Unix time `since` or later are listed.
        """

    async def model_totals(self, caller: str, since: float) -> list[ModelTotal]:
        """The totals of each model in the caller's runs on the days of `day_totals`, the most expensive model first."""

    # Conversations

    async def conversations(self, search: ConversationSearch) -> tuple[list[StoredConversation], bool]:
        """The conversations that match, and whether there are more than `search.limit`.

        `search.before` must be empty or the id of a listed conversation. A search for words looks at the first 2,000
        conversations that follow.
        """

    async def find_conversation(self, caller: str, conversation: str) -> StoredConversation | None:
        """The listed conversation with this id; `None` if the caller has none."""

    async def runs_in(self, caller: str, conversation: str, limit: int) -> list[StoredRun]:
        """The newest `limit` runs of a conversation of the caller, the oldest of them first."""

    def change_conversation(self, caller: str, conversation: str, change: Change) -> "asyncio.Future[bool]":
        """Change a conversation. Returns `False`, and changes nothing, if the caller has no run in it.

        A conversation that was not listed is listed from then on.
        """

    # Votes

    def keep_vote(self, vote: Vote) -> "asyncio.Future[None]":
        """Store a vote. It replaces an earlier vote of the caller on the same two runs: people change their mind."""

    async def vote_tallies(self, caller: str) -> list[VoteTally]:
        """A tally of the caller's votes for each pair of recipes, the pair with the most votes first.

        In a pair, the recipe whose name sorts first is `a`; see `votes.in_order`.
        """

    async def vote_tally(self, caller: str, a: str, b: str) -> VoteTally:
        """The tally of the caller's votes on the recipes `a` and `b`, in this order."""

    # Money of the day in dollars. The caller names the scopes: all money, a provider's, a key's

    async def left(self, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Dollars that may still be spent today, by scope; negative if a cap was lowered.

        caps: most dollars of the day, by scope
        """

    def hold(
        self, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal], lease: float = LEASE
    ) -> "asyncio.Future[int | None]":
        """Hold money for a run today, and return the id of the hold; `None`, and nothing is held, if a cap forbids it.

        amounts: most dollars that the run can spend, by scope
        caps: most dollars of the day, by scope
        lease: seconds after which the hold lapses unless it is renewed

        Holds that are made at the same time, in any number of processes, never exceed a cap together. Of a hold that
        has lapsed only what has begun counts, until its day is over.
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
        """Replace a hold by the dollars that were spent, by scope, on the day of the hold.

        Only the first settlement of a hold counts.
        """

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
        """Delete runs, calls and daily sums from before the Unix time `before`, and the questions of votes from then.

        The freed disk space is given back to the operating system.
        """


class Shared(Protocol):
    """What servers on several hosts share in their database beside the store. A local file has none of it.

    Methods behave as those of `Backend`.
    """

    # The keys of the server. They are opaque here, since the store knows no keys

    async def read_keys(self) -> list[bytes]:
        """The keys as they were written, in the order in which they were added."""

    def add_key(self, name: str, written: bytes) -> "asyncio.Future[bool]":
        """Add a key. Returns `False`, and changes nothing, if there is a key with this name."""

    def remove_key(self, name: str) -> "asyncio.Future[bool]":
        """Remove the key with this name. Returns whether there was one."""

    # Recipes that were saved on the web page of a server, as TOML texts. They are opaque here, too

    async def recipe_digests(self) -> dict[str, bytes]:
        """The SHA-256 digest of each saved recipe, by name."""

    async def read_recipes(self, names: Sequence[str]) -> dict[str, str]:
        """The texts of those of these recipes that are saved, by name."""

    def keep_recipe(self, name: str, text: str, replace: bool) -> "asyncio.Future[SavedAs]":
        """Save a recipe. Changes nothing if the name is "taken" and `replace` is false, or if the table is "full"."""

    def remove_recipe(self, name: str) -> "asyncio.Future[bool]":
        """Delete the recipe with this name. Returns whether there was one."""

    # Runs that go on without their client

    def ask_to_stop(self, run: str) -> "asyncio.Future[None]":
        """Ask the server that performs the run with this id, whichever it is, to stop the run."""

    async def asked_to_stop(self, runs: Sequence[str]) -> list[str]:
        """Those of these runs that somebody has asked to stop."""

    # Calls under way, so that equal calls at the same time are made once

    def claim(self, key: bytes, claimant: int, lease: float) -> "asyncio.Future[bool]":
        """Claim the call with this key for `lease` seconds. Returns `False` if another claimant has it.

        claimant: number of a process
        """

    def renew_claims(self, keys: Sequence[bytes], claimant: int, lease: float) -> "asyncio.Future[None]":
        """Keep these claims for `lease` more seconds."""

    def release(self, key: bytes, claimant: int) -> "asyncio.Future[None]":
        """Give a claim back."""
