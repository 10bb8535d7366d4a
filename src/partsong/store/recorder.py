"""A listener that stores a run while it goes on: each step soon, deltas a few times a second.

A recorder never makes a run wait and never breaks one. If the store fails, the recorder reports the failure and
stores nothing more of this run, because a run with a gap is not what happened.
"""

import asyncio
import datetime
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from partsong.errors import StoreError
from partsong.events import (
    AggregationDelta,
    AnyEvent,
    CallFinished,
    ProposalDelta,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
)
from partsong.model import NOTHING_USED
from partsong.store.backend import Backend
from partsong.store.runs import Source, StoredRun, Timed
from partsong.store.shares import Shares, is_counted, sum_of_dollars

DELTAS = 0.25  # seconds until deltas are stored
STEPS = 0.02  # seconds until other events are stored: the seats of a layer begin together
QUESTION = 200  # characters of the question in a run's summary
LOOKED_AT = 1000  # characters at the beginning of a question, in which its first line is looked for
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, without letters that look like others
_EPOCH = 1_577_836_800  # 2020-01-01 in Unix time: eight letters of milliseconds last until 2054


class Recorder:
    """Records one run: give `hear` the events of the run, and `close` the recorder.

    id: under which the run is stored
    backend: where the run is stored; `None` to store nothing
    note: hears the failure of the store
    wait: waits for a write, but not for long if the store fails
    words: whether events, question and labels are stored, or the summary alone
    caller: owner of the run: `Key.owner` of the key that asked for it; "" (default) for the user of the command line
    labels: what the caller calls the run
    source: whether a batch or a bench makes the run; "" (default) for neither
    """

    def __init__(
        self,
        backend: Backend | None,
        run: str,
        note: Callable[[StoreError], None],
        wait: "Callable[[asyncio.Future[None]], Awaitable[None]]",
        *,
        words: bool,
        caller: str = "",
        labels: Mapping[str, str] = MappingProxyType({}),
        source: Source = "",
    ) -> None:
        self.id, self._source = run, source
        self._caller, self._labels = caller, dict(labels) if words else {}
        self._backend, self._note, self._wait, self._words = backend, note, wait, words
        self._failed = False
        self._run: StoredRun | None = None
        self._shares = Shares()
        self._began = 0.0
        self._events: list[Timed] = []
        self._index = 0  # of the next piece
        self._timer: asyncio.TimerHandle | None = None
        self._written: asyncio.Future[None] | None = None

    async def hear(self, event: AnyEvent) -> None:
        """Take in one event. Returns at once; `close` waits for the disk."""
        if self._backend is None:
            return
        now = asyncio.get_running_loop().time()
        kind = type(event)
        if kind is ProposalDelta or kind is AggregationDelta:
            if self._run is not None and self._words:
                self._events.append((round(now - self._began, 6), event))
                if self._timer is None:  # a timer that runs ends no later
                    self._save_within(DELTAS)
            return
        if isinstance(event, RunStarted):
            self._began, self._index = now, 0
            self._run = self._summary(event)
        if self._run is None:
            return
        seconds = round(now - self._began, 6)
        self._shares.hear(event)
        self._run = _after(replace(self._run, seconds=seconds), event)
        if self._words:
            self._events.append((seconds, event))
        if isinstance(event, RunFinished | RunFailed):
            self._save()
            if self._backend is not None:
                self._watch(self._backend.join_events(self.id))
        else:
            self._save_within(STEPS)

    async def close(self) -> None:
        """Wait until all events that were heard are stored, or the store fails. Raises nothing; see `kept`."""
        if self._timer is not None:
            self._save()
        if self._written is not None:
            await self._wait(self._written)

    @property
    def kept(self) -> bool:
        """Whether all events that were written are in the store. After `close`: whether the run is kept.

        A store that is off keeps what it should, which is nothing.
        """
        if self._failed or self._written is None:
            return not self._failed
        return self._written.done() and self._written.exception() is None

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
        if self._run is not None and self._backend is not None:
            events, self._events = self._events, []
            # The first piece names the models of the recipe, so that a search finds the run while it goes on.
            changed = self._index == 0 or self._run.status != "open"
            shares = self._shares.all() if changed else ()
            self._watch(self._backend.save_run(self._run, self._index, events, shares))
            self._index += 1

    def _watch(self, written: "asyncio.Future[None]") -> None:
        self._written = written  # writes are made in order, so `close` waits for the last one alone
        written.add_done_callback(self._look_at)

    def _look_at(self, written: "asyncio.Future[None]") -> None:
        problem = None if written.cancelled() else written.exception()
        if isinstance(problem, StoreError):
            self._backend, self._failed = None, True
            self._note(problem)
        elif problem is not None:
            raise problem  # a fault in this program: the event loop reports it

    def _summary(self, event: RunStarted) -> StoredRun:
        """The summary of a run that has just begun."""
        asked = next((message.text for message in reversed(event.conversation.messages) if message.role == "user"), "")
        line = next(iter(asked.lstrip()[:LOOKED_AT].splitlines()), "").strip()
        return StoredRun(
            id=self.id,
            mode="full" if self._words else "metadata",
            started=datetime.datetime.now(datetime.UTC),
            seconds=0.0,
            recipe=event.recipe.name,
            model=event.recipe.aggregator.model,
            question=line[:QUESTION] if self._words else "",
            status="open",
            cause="",
            calls=0,
            stored=0,
            tokens=0,
            dollars=NOTHING_USED.dollars,
            losses=0,
            caller=self._caller,
            labels=self._labels,
            layers=len(event.recipe.layers) + 1,
            source=self._source,
        )


def _after(run: StoredRun, event: AnyEvent) -> StoredRun:
    """The summary of a run after one more event."""
    match event:
        case CallFinished():
            usage = event.usage or NOTHING_USED
            return replace(
                run,
                calls=run.calls + is_counted(event),
                stored=run.stored + event.stored,
                tokens=run.tokens + usage.input_tokens + usage.output_tokens,
                dollars=sum_of_dollars(run.dollars, usage.dollars),
            )
        case ToolUsed(dollars=dollars) if dollars:
            return replace(run, dollars=sum_of_dollars(run.dollars, dollars))
        case RunFinished(model=model, losses=losses):
            return replace(run, status="finished", model=model or run.model, losses=len(losses))
        case RunFailed(error=error, losses=losses):
            return replace(run, status="failed", cause=error.cause, losses=len(losses))
        case _:
            return run


def new_id() -> str:
    """A new id of a run: 12 letters and digits, of which 8 are the time, so that ids sort by time, and 4 are random."""
    number = int((time.time() - _EPOCH) * 1000) << 20 | secrets.randbits(20)
    return "".join(_LETTERS[number >> shift & 31] for shift in range(55, -1, -5))
