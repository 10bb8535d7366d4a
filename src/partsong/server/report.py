"""What a run has cost and lost, told to whoever asked: the field `partsong` of a response, out of the run's events."""

from typing import Any

import msgspec

from partsong.events import (
    AggregationReplaced,
    AggregationStep,
    AnyEvent,
    Failure,
    Loss,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import NOTHING_USED, Answer, Usage


class Report:
    """Hears a run's events. In the end `answer` is there, or `error`."""

    def __init__(self, run: str, recipe: str) -> None:
        self.run, self.recipe = run, recipe
        self.started = False
        self.answer: Answer | None = None
        self.error: Failure | None = None
        self.usage: Usage = NOTHING_USED
        self.losses = 0
        self._models: dict[tuple[int, int], str] = {}
        self._layers = 0
        self.used: list[tuple[str, Usage]] = []  # of each call whose usage is known: its model, and that
        self._calls: list[dict[str, Any]] = []
        self._end: RunFinished | RunFailed | None = None

    def hear(self, event: AnyEvent) -> None:
        """Take in one event; deltas need not be shown to it."""
        match event:
            case RunStarted(recipe=recipe):
                self.started = True
                self._layers = len(recipe.layers)
                self._models[self._layers, 0] = recipe.aggregator.model
                for number, layer in enumerate(recipe.layers):
                    self._models.update({(number, seat): agent.model for seat, agent in enumerate(layer.seats)})
            case ProposalFinished(layer=layer, seat=seat, answer=answer, model=model):
                self._count(layer, seat, model, answer.usage, answer.stored is not None)
            case ProposalFailed(layer=layer, seat=seat, usage=usage):
                self._count(layer, seat, self._models.get((layer, seat), ""), usage)
            case ProposalReplaced(layer=layer, seat=seat, usage=usage, model=model):
                self._count(layer, seat, self._models.get((layer, seat), ""), usage)
                self._models[layer, seat] = model
            case AggregationStep(answer=answer):
                self._count(self._layers, 0, self._models[self._layers, 0], answer.usage, answer.stored is not None)
            case AggregationReplaced(model=model, usage=usage):
                self._count(self._layers, 0, self._models[self._layers, 0], usage)
                self._models[self._layers, 0] = model
            case RunFinished(answer=answer, usage=usage, losses=losses, model=model):
                self._count(self._layers, 0, model, answer.usage, answer.stored is not None)
                self.answer, self.usage, self.losses, self._end = answer, usage, len(losses), event
            case RunFailed(error=error, usage=usage, losses=losses):
                self.error, self.usage, self.losses, self._end = error, usage, len(losses), event

    @property
    def lost(self) -> tuple[Loss, ...]:
        """The losses, once it has ended."""
        return () if self._end is None else self._end.losses

    def plain(self) -> dict[str, Any]:
        """The report, for JSON: the calls with their tokens and dollars, the losses, and what all of it has cost."""
        plain: dict[str, Any] = {"run": self.run, "recipe": self.recipe}
        if (end := self._end) is not None:
            plain |= {
                "dollars": None if self.usage.dollars is None else str(self.usage.dollars),
                "planned": end.planned,
                "answered": end.answered,
                "losses": msgspec.to_builtins(end.losses),
            }
            if isinstance(end, RunFinished):
                plain |= {"model": end.model, "last_resort": end.last_resort, "seat": end.seat}
        return plain | {"calls": self._calls}

    def _count(self, layer: int, seat: int, model: str, usage: Usage | None, stored: bool = False) -> None:
        if usage is None:
            return
        self.used.append((model, usage))
        call: dict[str, Any] = {
            "layer": layer,
            "seat": seat,
            "model": model,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "dollars": None if usage.dollars is None else str(usage.dollars),
        }
        self._calls.append(call | {"stored": True} if stored else call)
