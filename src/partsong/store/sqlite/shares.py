"""What each model has done in a run: its calls, tokens, dollars and losses, heard from the run's own events.

A model that was to be asked is there as well, with nothing, so that a run is found by any model of its recipe.
"""

import sqlite3
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from partsong.errors import NEVER_ASKED
from partsong.events import (
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnyEvent,
    Failure,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import Answer, Usage


class Share(Struct, frozen=True):
    """What one model has done in a run; `dollars` is `None` where some of it has no price."""

    model: str
    calls: int = 0
    tokens: int = 0
    dollars: Decimal | None = Decimal(0)
    losses: int = 0


class Shares:
    """Hears a run's events; deltas need not be shown to it."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self._models: dict[tuple[int, int], str] = {}  # who is asked in each seat
        self._last = (0, 0)  # the aggregator's
        self._aggregating = False

    def all(self) -> tuple[Share, ...]:
        """Of every model that was, or was to be, asked."""
        return tuple(self._shares.values())

    def hear(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self._begin(event)
            case ProposalFinished(layer=layer, seat=seat, answer=answer, model=model):
                self._answered(model or self._models[layer, seat], answer)
            case ProposalFailed(layer=layer, seat=seat, error=error, usage=usage):
                self._failed((layer, seat), error, usage)
            case ProposalReplaced(layer=layer, seat=seat, error=error, usage=usage, model=model):
                self._failed((layer, seat), error, usage, model)
            case AggregationStarted():
                self._aggregating = True
            case AggregationStep(answer=answer):
                self._answered(self._models[self._last], answer)
            case AggregationReplaced(error=error, usage=usage, model=model):
                self._failed(self._last, error, usage, model)
            case RunFinished() | RunFailed():
                self._end(event)

    def _begin(self, event: RunStarted) -> None:
        self._last, self._aggregating = (len(event.recipe.layers), 0), False
        self._models = {
            (number, seat): agent.model
            for number, layer in enumerate(event.recipe.layers)
            for seat, agent in enumerate(layer.seats)
        } | {self._last: event.recipe.aggregator.model}
        self._shares = {model: Share(model) for model in self._models.values()}

    def _end(self, event: RunFinished | RunFailed) -> None:
        if isinstance(event, RunFailed):
            if self._aggregating:
                self._failed(self._last, event.error, None)
        elif event.last_resort:
            self._add(self._models[self._last], 1, None)
        else:
            self._answered(event.model or self._models[self._last], event.answer)
        for loss in event.losses:
            share = self._shares.get(loss.model, Share(loss.model))
            self._shares[loss.model] = replace(share, losses=share.losses + 1)

    def _answered(self, model: str, answer: Answer) -> None:
        self._add(model, answer.stored is None, answer.usage)

    def _failed(self, place: tuple[int, int], error: Failure, usage: Usage | None, instead: str = "") -> None:
        self._add(self._models[place], error.cause not in NEVER_ASKED, usage)
        if instead:
            self._models[place] = instead
            self._shares.setdefault(instead, Share(instead))

    def _add(self, model: str, calls: int, usage: Usage | None) -> None:
        share = self._shares.get(model, Share(model))
        tokens, dollars = share.tokens, share.dollars
        if usage is not None:
            tokens += usage.input_tokens + usage.output_tokens
            dollars = None if dollars is None or usage.dollars is None else dollars + usage.dollars
        self._shares[model] = replace(share, calls=share.calls + calls, tokens=tokens, dollars=dollars)


def keep(connection: sqlite3.Connection, run: str, shares: Sequence[Share]) -> None:
    """Write down the shares of a run, in place of what stands there of the same models."""
    connection.executemany(
        "INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?, ?, ?)",
        (
            (run, each.model, each.calls, each.tokens, None if each.dollars is None else str(each.dollars), each.losses)
            for each in shares
        ),
    )
