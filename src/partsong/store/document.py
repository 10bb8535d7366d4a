"""Folds the events of a stored run into one JSON object, for programs that do not want to read events.

Every seat is one object, and so are the analyst and the aggregator. Times are seconds since the run's start. Whatever
has not happened is null.
"""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from msgspec import convert, to_builtins

from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AggregationStep,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    LayerStarted,
    PromptFitted,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalSpared,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolUsed,
    VotesCounted,
)
from partsong.model import Answer, TextDelta, Usage
from partsong.recipe import ANALYST_SEAT
from partsong.store.runs import StoredRun, Timed

Plain = dict[str, Any]


def plain(run: StoredRun) -> Plain:
    """The summary of a run as plain values for JSON."""
    values: Plain = to_builtins(run)
    return values | {"started": run.started.astimezone(UTC).isoformat(timespec="milliseconds")}


def as_json(run: Plain, events: Sequence[Timed]) -> Plain:
    """A run as plain values for JSON: its recipe, conversation, layers with seats, analysis, aggregator, answer and
    losses.

    run: the summary of the run, as `plain` returns it
    events: the events of the run, each with the seconds since the run's start
    """
    shown: Plain = {
        "run": run,
        "recipe": None,
        "conversation": None,
        "layers": [],
        "analyst": None,
        "analysis": None,
        "aggregator": None,
        "answer": None,
        "error": None,
        "usage": None,
        "losses": [],
        "planned": 0,
        "answered": 0,
        "last_resort": False,
        "seat": None,
        "layer": None,
        "spared": 0,
        "votes": [],
    }
    for seconds, event in events:
        match event:
            case RunStarted(recipe=recipe, conversation=conversation):
                shown["recipe"], shown["conversation"] = to_builtins(recipe), to_builtins(conversation)
            case LayerStarted(layer=layer, models=models):
                seats = [blank(layer, seat, model) for seat, model in enumerate(models)]
                shown["layers"].append({"layer": layer, "seats": seats})
            case AnalysisStarted(model=model):
                shown["analyst"] = blank(len(shown["layers"]), ANALYST_SEAT, model) | {"started": seconds}
            case AggregationStarted(model=model):
                shown["aggregator"] = blank(len(shown["layers"]), 0, model) | {"started": seconds}
            case VotesCounted():
                shown["votes"].append({name: to_builtins(getattr(event, name)) for name in event.__struct_fields__})
            case RunFinished() | RunFailed():
                end(shown, event, seconds)
            case _ if (seat := place(shown, event)) is not None:
                tell(seat, event, seconds)
                if isinstance(event, AnalysisFinished):
                    shown["analysis"] = to_builtins(event.analysis)
    return shown


def blank(layer: int, seat: int, model: str) -> Plain:
    """A seat whose model has not been asked yet.

    planned: id of the model in the recipe
    model: id of the model that is asked now, or that answered
    text: what that model has written so far
    usage: what all calls of the seat have used
    stored: what an answer from the store had used when it was made
    started, first, ended: when the seat was asked, wrote its first word, and ended
    error: why the seat is lost
    saw: the layer and the seat of each proposal and comment that the seat read; `None` if it read all that were there
    spared: whether the seat was not needed
    replaced: models that failed in this seat before `model` was asked, and why
    fitted: tokens of the prompt before and after it was shortened to fit the window
    calls: every call of the seat that has ended
    """
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
        "saw": None,
        "spared": False,
        "replaced": [],
        "fitted": None,
        "calls": [],
    }


def place(shown: Plain, event: AnyEvent) -> Plain | None:
    """The seat that an event is about; `None` for an event of the run or of a layer."""
    layers: list[Plain] = shown["layers"]
    analyst: Plain | None = shown["analyst"]
    aggregator: Plain | None = shown["aggregator"]
    match event:
        case AggregationReplaced() | AggregationStep() | AggregationDelta():
            return aggregator
        case AnalysisReplaced() | AnalysisFinished() | AnalysisFailed():
            return analyst
        case (
            PromptFitted(layer=layer, seat=seat)
            | CallFinished(layer=layer, seat=seat)
            | ToolUsed(layer=layer, seat=seat)
        ) if layer == len(layers):
            return analyst if seat == ANALYST_SEAT else aggregator
        case (
            ProposalStarted(layer=layer, seat=seat)
            | ProposalDelta(layer=layer, seat=seat)
            | ProposalReplaced(layer=layer, seat=seat)
            | PromptFitted(layer=layer, seat=seat)
            | CallFinished(layer=layer, seat=seat)
            | ToolUsed(layer=layer, seat=seat)
            | ProposalFinished(layer=layer, seat=seat)
            | ProposalFailed(layer=layer, seat=seat)
            | ProposalSpared(layer=layer, seat=seat)
        ):
            found: Plain = layers[layer]["seats"][seat]
            return found
        case _:
            return None


def tell(seat: Plain, event: AnyEvent, seconds: float) -> None:
    """Update a seat with one of its events. `seconds` is the time of the event since the run's start."""
    match event:
        case ProposalStarted(saw=saw):
            seat |= {"started": seconds, "saw": to_builtins(saw)}
        case ProposalDelta(delta=delta) | AggregationDelta(delta=delta):
            if seat["first"] is None:
                seat["first"] = seconds
            if isinstance(delta, TextDelta):
                seat["text"] += delta.text
        case (
            ProposalReplaced(model=model, error=error)
            | AnalysisReplaced(model=model, error=error)
            | AggregationReplaced(model=model, error=error)
        ):
            seat["replaced"].append({"model": seat["model"], "error": to_builtins(error)})
            seat |= {"model": model, "text": "", "first": None}
        case PromptFitted(before=before, after=after):
            seat["fitted"] = {"before": before, "after": after}
        case CallFinished():
            add_call(seat, event)
        case ToolUsed():
            seat.setdefault("tools", []).append(_plain_use(event))
            seat["text"] = ""  # what comes before a tool call is no part of the proposal
        case ProposalFinished(answer=answer, model=model):
            seat |= said(answer) | {"model": model or seat["model"], "ended": seconds}
        case AnalysisFinished(model=model):
            seat |= {"model": model, "ended": seconds}
        case ProposalFailed(error=error) | AnalysisFailed(error=error):
            seat |= {"error": to_builtins(error), "ended": seconds}
        case ProposalSpared():
            seat |= {"spared": True, "ended": seconds}


def _plain_use(use: ToolUsed) -> Plain:
    plain: Plain = to_builtins(use)
    return {name: value for name, value in plain.items() if name not in ("event", "layer", "seat")}


def add_call(seat: Plain, call: CallFinished) -> None:
    """Add a call to the calls of its seat, and the usage of the call to the usage of the seat."""
    seat["calls"].append(
        {
            "model": call.model,
            "started": call.started,
            "seconds": call.seconds,
            "usage": to_builtins(call.usage),
            "error": to_builtins(call.error),
            "stored": call.stored,
        }
    )
    if call.usage is not None:
        earlier = seat["usage"]
        usage = call.usage if earlier is None else convert(earlier, Usage) + call.usage
        seat["usage"] = to_builtins(usage)


def end(shown: Plain, event: RunFinished | RunFailed, seconds: float) -> None:
    """Update the run and the aggregator's seat with the run's last event."""
    shown |= {
        "usage": to_builtins(event.usage),
        "losses": to_builtins(event.losses),
        "planned": event.planned,
        "answered": event.answered,
        "spared": event.spared,
    }
    aggregator: Plain | None = shown["aggregator"]
    if isinstance(event, RunFailed):
        shown["error"] = to_builtins(event.error)
        if aggregator is not None:
            aggregator |= {"error": shown["error"], "ended": seconds}
        return
    shown["last_resort"], shown["seat"] = event.last_resort, event.seat
    last = None if event.seat is None else len(shown["layers"]) - 1  # earlier versions stored no layer
    shown["layer"] = last if event.layer is None else event.layer
    shown["answer"] = to_builtins(event.answer) | {"text": event.answer.text, "model": event.model}
    if aggregator is not None and not event.last_resort:
        aggregator |= said(event.answer) | {"model": event.model or aggregator["model"], "ended": seconds}


def said(answer: Answer) -> Plain:
    """The fields of a seat that its answer sets."""
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "stored": to_builtins(answer.stored),
    }
