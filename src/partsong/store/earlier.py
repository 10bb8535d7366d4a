"""Adds `CallFinished` events to runs that earlier versions stored without them.

All readers add up a run's calls from `CallFinished` alone. For these runs, the events are derived from the events of
the seats when the run is read. The usage of an aggregator that failed cannot be derived, and stays unknown.
"""

from collections.abc import Iterator, Sequence

from partsong.events import (
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnyEvent,
    CallFinished,
    Failure,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import Answer, Usage
from partsong.store.runs import Timed

STOPPED = Failure("cancelled", "")  # the call of a seat that still worked when its run failed


def with_calls(events: list[Timed]) -> list[Timed]:
    """The events of a run, with a `CallFinished` before each event that ends a call.

    A run that has `CallFinished` events already is returned unchanged.
    """
    if any(type(event) is CallFinished for _, event in events):
        return events
    return list(_Calls().added(events))


class _Calls:
    """Follows the open calls of a run: the model and the start (in seconds) of each, by layer and seat."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[str, float]] = {}
        self._aggregator = (0, 0)

    def added(self, events: Sequence[Timed]) -> Iterator[Timed]:
        """Each event, and before it the calls that it ends."""
        for seconds, event in events:
            for call in self._ended_by(event, seconds):
                yield seconds, call
            yield seconds, event

    def _ended_by(self, event: AnyEvent, now: float) -> Iterator[CallFinished]:
        match event:
            case RunStarted(recipe=recipe):
                self._aggregator = (len(recipe.layers), 0)
            case ProposalStarted(layer=layer, seat=seat, model=model):
                self._open[layer, seat] = model, now
            case AggregationStarted(model=model):
                self._open[self._aggregator] = model, now
            case ProposalFinished(layer=layer, seat=seat, answer=answer):
                yield from self._answered((layer, seat), answer, now)
            case ProposalFailed(layer=layer, seat=seat, error=error, usage=usage):
                yield from self._failed((layer, seat), error, usage, now)
            case ProposalReplaced(layer=layer, seat=seat, model=model, error=error, usage=usage):
                yield from self._failed((layer, seat), error, usage, now)
                self._open[layer, seat] = model, now
            case AggregationReplaced(model=model, error=error, usage=usage):
                yield from self._failed(self._aggregator, error, usage, now)
                self._open[self._aggregator] = model, now
            case AggregationStep(answer=answer):
                model, _ = self._open[self._aggregator]
                yield from self._answered(self._aggregator, answer, now)
                self._open[self._aggregator] = model, now
            case RunFinished(last_resort=True, losses=losses):
                causes = [Failure(loss.cause, loss.message) for loss in losses if loss.kind == "failed"]
                yield from self._failed(self._aggregator, causes[-1] if causes else Failure("server", ""), None, now)
            case RunFinished(answer=answer):
                yield from self._answered(self._aggregator, answer, now)
            case RunFailed(error=error):
                for address in list(self._open):
                    yield from self._failed(address, error if address == self._aggregator else STOPPED, None, now)

    def _answered(self, address: tuple[int, int], answer: Answer, now: float) -> Iterator[CallFinished]:
        yield from self._end(address, now, answer.usage, None, stored=answer.stored is not None)

    def _failed(
        self, address: tuple[int, int], error: Failure, usage: Usage | None, now: float
    ) -> Iterator[CallFinished]:
        yield from self._end(address, now, usage, error, stored=False)

    def _end(
        self, address: tuple[int, int], now: float, usage: Usage | None, error: Failure | None, *, stored: bool
    ) -> Iterator[CallFinished]:
        if address in self._open:
            model, began = self._open.pop(address)
            seconds = round(now - began, 6)
            yield CallFinished(*address, model, began, seconds, usage, error, stored)
