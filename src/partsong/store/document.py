"""A stored run as one JSON object: what was planned, who answered what and when, what it cost, what was lost.

For programs that want the run and not its events: every seat is one object, the aggregator's among them. Times are
seconds since the run's start; what has not happened is null.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from msgspec import to_builtins

from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnyEvent,
    LayerStarted,
    PromptFitted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import Answer, TextDelta
from partsong.store.sqlite.runs import StoredRun

Plain = dict[str, Any]


def plain(run: StoredRun) -> Plain:
    """A run as plain values for JSON."""
    values: Plain = to_builtins(run)
    return values | {"started": run.started.astimezone(UTC).isoformat(timespec="milliseconds")}


def as_json(run: Plain, events: Sequence[tuple[float, AnyEvent]]) -> Plain:
    """The run, and what its events come to, as plain values."""
    shown: Plain = {
        "run": run,
        "recipe": None,
        "conversation": None,
        "layers": [],
        "aggregator": None,
        "answer": None,
        "error": None,
        "usage": None,
        "losses": [],
        "planned": 0,
        "answered": 0,
        "last_resort": False,
        "seat": None,
    }
    for seconds, event in events:
        match event:
            case RunStarted(recipe=recipe, conversation=conversation):
                shown["recipe"], shown["conversation"] = to_builtins(recipe), to_builtins(conversation)
            case LayerStarted(layer=layer, models=models):
                seats = [blank(layer, number, model) for number, model in enumerate(models)]
                shown["layers"].append({"layer": layer, "seats": seats})
            case AggregationStarted(model=model):
                shown["aggregator"] = blank(len(shown["layers"]), 0, model) | {"started": seconds}
            case RunFinished() | RunFailed():
                end(shown, event, seconds)
            case _ if (seat := place(shown, event)) is not None:
                tell(seat, event, seconds)
    return shown


def blank(layer: int, seat: int, model: str) -> Plain:
    """A seat that nobody has been asked for yet."""
    return {
        "layer": layer,
        "seat": seat,
        "planned": model,
        "model": model,
        "text": "",
        "finish_reason": None,
        "usage": None,
        "stored": None,
        "started": None,
        "first": None,
        "ended": None,
        "error": None,
        "replaced": [],
        "fitted": None,
    }


def place(shown: Plain, event: AnyEvent) -> Plain | None:
    """The seat that an event tells of, if it does of one."""
    layers: list[Plain] = shown["layers"]
    aggregator: Plain | None = shown["aggregator"]
    match event:
        case AggregationReplaced() | AggregationStep() | AggregationDelta():
            return aggregator
        case PromptFitted(layer=layer) if layer == len(layers):
            return aggregator
        case (
            ProposalStarted(layer=layer, seat=seat)
            | ProposalDelta(layer=layer, seat=seat)
            | ProposalReplaced(layer=layer, seat=seat)
            | PromptFitted(layer=layer, seat=seat)
            | ProposalFinished(layer=layer, seat=seat)
            | ProposalFailed(layer=layer, seat=seat)
        ):
            found: Plain = layers[layer]["seats"][seat]
            return found
        case _:
            return None


def tell(seat: Plain, event: AnyEvent, seconds: float) -> None:
    """What one event says of its seat."""
    match event:
        case ProposalStarted():
            seat["started"] = seconds
        case ProposalDelta(delta=delta) | AggregationDelta(delta=delta):
            if seat["first"] is None:
                seat["first"] = seconds
            if isinstance(delta, TextDelta):
                seat["text"] += delta.text
        case ProposalReplaced(model=model, error=error) | AggregationReplaced(model=model, error=error):
            seat["replaced"].append({"model": seat["model"], "error": to_builtins(error)})
            seat |= {"model": model, "text": "", "first": None}
        case PromptFitted(before=before, after=after):
            seat["fitted"] = {"before": before, "after": after}
        case ProposalFinished(answer=answer, model=model):
            seat |= said(answer) | {"model": model or seat["model"], "ended": seconds}
        case ProposalFailed(error=error, usage=usage):
            seat |= {"error": to_builtins(error), "usage": to_builtins(usage), "ended": seconds}


def end(shown: Plain, event: RunFinished | RunFailed, seconds: float) -> None:
    """How the run ended; the aggregator's seat with it."""
    shown |= {
        "usage": to_builtins(event.usage),
        "losses": to_builtins(event.losses),
        "planned": event.planned,
        "answered": event.answered,
    }
    aggregator: Plain | None = shown["aggregator"]
    if isinstance(event, RunFailed):
        shown["error"] = to_builtins(event.error)
        if aggregator is not None:
            aggregator |= {"error": shown["error"], "ended": seconds}
        return
    shown["last_resort"], shown["seat"] = event.last_resort, event.seat
    shown["answer"] = to_builtins(event.answer) | {"text": event.answer.text, "model": event.model}
    if aggregator is not None and not event.last_resort:
        aggregator |= said(event.answer) | {"model": event.model or aggregator["model"], "ended": seconds}


def said(answer: Answer) -> Plain:
    """What stands in a seat that has answered; `stored` is what a stored answer used when it was made."""
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": to_builtins(answer.usage),
        "stored": to_builtins(answer.stored),
    }
