"""A listener that writes a run down as it happens: each turn of it soon, what is said in between a few times a second.

It never makes a run wait, and never breaks one: where the store fails, the first failure is noted there and this run
is recorded no further.
"""

import asyncio
import datetime
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from partsong.errors import NEVER_ASKED, StoreError
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnyEvent,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import Answer
from partsong.store.sqlite.database import Database
from partsong.store.sqlite.runs import StoredRun, Timed, join, save
from partsong.store.sqlite.shares import Shares

PAUSE = 0.25  # seconds that deltas are gathered
TURN = 0.02  # seconds that turns are: the seats of a layer begin together
QUESTION = 200  # characters of a question in the list of runs
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's 32: none that is taken for another
_EPOCH = 1_577_836_800  # 2020, in Unix time: eight letters of milliseconds last until 2054


class Recorder:
    """Records one run under `id`: give its `hear` the run's events, and `close` it. Without a database it is deaf."""

    def __init__(
        self,
        database: Database | None,
        run: str,
        note: Callable[[StoreError], None],
        *,
        words: bool,
        caller: str = "",
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.id = run
        self._caller, self._labels = caller, dict(labels) if words else {}
        self._database, self._note, self._words = database, note, words
        self._run: StoredRun | None = None
        self._shares = Shares()
        self._began = 0.0
        self._aggregated = False
        self._events: list[Timed] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._written: asyncio.Future[None] | None = None

    async def hear(self, event: AnyEvent) -> None:
        """Take in one event. Returns at once; `close` waits for the disk."""
        if self._database is None:
            return
        now = asyncio.get_running_loop().time()
        kind = type(event)
        if kind is ProposalDelta or kind is AggregationDelta:
            if self._run is not None and self._words:
                self._events.append((round(now - self._began, 6), event))
                if self._timer is None:  # whatever it waits for comes no later
                    self._save_within(PAUSE)
            return
        if isinstance(event, RunStarted):
            self._began, self._aggregated, self._number = now, False, 0
            self._run = self._started(event)
        if self._run is None:
            return
        seconds = round(now - self._began, 6)
        self._shares.hear(event)
        self._run = self._counted(replace(self._run, seconds=seconds), event)
        if self._words:
            self._events.append((seconds, event))
        if isinstance(event, RunFinished | RunFailed):
            self._save()
            self._submit(partial(join, run=self.id))
        else:
            self._save_within(TURN)

    async def close(self) -> None:
        """Wait until everything that was heard is written down. Raises nothing: see `Store.problem`."""
        if self._timer is not None:
            self._save()
        if self._written is not None:
            await asyncio.wait([self._written])

    def _save_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() > loop.time() + seconds:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(seconds, self._save)

    def _save(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._run is not None:
            events, self._events = self._events, []
            told = self._number == 0 or self._run.status != "open"
            shares = self._shares.all() if told else ()
            self._submit(partial(save, run=self._run, number=self._number, events=events, shares=shares))
            self._number += 1

    def _submit(self, job: partial[None]) -> None:
        if self._database is not None:
            # What is written in order is done in order: only the last one has to be waited for.
            self._written = self._database.write(job)
            self._written.add_done_callback(self._look_at)

    def _look_at(self, written: "asyncio.Future[None]") -> None:
        problem = None if written.cancelled() else written.exception()
        if isinstance(problem, StoreError):
            self._database = None  # a run with a gap would not be what happened
            self._note(problem)
        elif problem is not None:
            raise problem  # a fault of ours: the loop says so

    def _started(self, event: RunStarted) -> StoredRun:
        asked = next((message.text for message in reversed(event.conversation.messages) if message.role == "user"), "")
        line = next((line for line in asked.splitlines() if line.strip()), "").strip()
        return StoredRun(
            self.id,
            "full" if self._words else "metadata",
            datetime.datetime.now(datetime.UTC),
            0.0,
            event.recipe.name,
            event.recipe.aggregator.model,
            line[:QUESTION] if self._words else "",
            "open",
            "",
            0,
            0,
            0,
            None,
            0,
            self._caller,
            self._labels,
            len(event.recipe.layers) + 1,
        )

    def _counted(self, run: StoredRun, event: AnyEvent) -> StoredRun:
        match event:
            case ProposalFinished(answer=answer) | AggregationStep(answer=answer):
                return _answered(run, answer)
            case ProposalFailed(error=error) | ProposalReplaced(error=error) | AggregationReplaced(error=error):
                return run if error.cause in NEVER_ASKED else replace(run, calls=run.calls + 1)
            case AggregationStarted():
                self._aggregated = True
            case RunFinished(answer=answer, usage=usage, losses=losses, model=model, last_resort=last_resort):
                run = replace(run, calls=run.calls + 1) if last_resort else _answered(run, answer)
                return replace(
                    run,
                    status="finished",
                    model=model or run.model,
                    tokens=usage.input_tokens + usage.output_tokens,
                    dollars=usage.dollars,
                    losses=len(losses),
                )
            case RunFailed(error=error, usage=usage, losses=losses):
                asked = self._aggregated and error.cause not in NEVER_ASKED
                return replace(
                    run,
                    status="failed",
                    cause=error.cause,
                    calls=run.calls + asked,
                    tokens=usage.input_tokens + usage.output_tokens,
                    dollars=usage.dollars,
                    losses=len(losses),
                )
        return run


def _answered(run: StoredRun, answer: Answer) -> StoredRun:
    """One more answer, and until the run says what it has used, what its answers have."""
    if answer.stored is not None:
        return replace(run, stored=run.stored + 1)
    tokens = answer.usage.input_tokens + answer.usage.output_tokens
    return replace(run, calls=run.calls + 1, tokens=run.tokens + tokens)


def new_id() -> str:
    """Twelve letters: eight for the moment, so that ids sort by time, and four by chance."""
    number = int((time.time() - _EPOCH) * 1000) << 20 | secrets.randbits(20)
    return "".join(_LETTERS[number >> shift & 31] for shift in range(55, -1, -5))
