"""Folds a run's events into one value: the proposals of each layer, the answer, the calls, the usage and the losses.

A `Transcript` can be read at any moment, also in the middle of a run. Fields for what has not happened yet keep their
empty defaults.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from partsong.analysis import Analysis
from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    Failure,
    LayerStarted,
    Loss,
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
from partsong.model import NOTHING_USED, Answer, Conversation, Delta, TextDelta, Usage
from partsong.recipe import Recipe


@dataclass(slots=True)
class Seat:
    """One seat of a layer, as far as the run has come.

    model: id of the model that is asked now, or that was asked last
    replaced: ids of the models that failed in this seat before `model` was asked, each with its failure
    started: whether the seat has begun
    text: what `model` has written so far; at the end, the text of the answer
    answer: the proposal; `None` until it is whole
    error: why the seat is lost; `None` if it is not lost
    spared: whether the seat was not needed
    saw: the layer and the seat of each proposal and comment that the seat reads; `None` if it reads all that are there
    """

    model: str
    replaced: list[tuple[str, Failure]] = field(default_factory=list)
    started: bool = False
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None
    spared: bool = False
    saw: tuple[tuple[int, int], ...] | None = None


@dataclass(slots=True)
class Transcript:
    """A run as far as it has come.

    recipe: the recipe that is performed; `None` before the run begins
    conversation: the messages to answer; `None` before the run begins
    layers: `layers[i][j]` is the seat with the index j of the layer with the index i
    aggregator: id of the aggregator's model that is asked now; "" before the aggregation begins
    replaced: ids of the aggregator's models that failed before `aggregator` was asked, each with its failure
    fitted: an event for each prompt that was shortened
    calls: every call that has ended; empty for runs stored before CallFinished was introduced
    uses: every tool call that has ended, of all seats
    votes: the count of each layer whose statements were counted
    text: what the aggregator has written so far; at the end, the text of the answer
    answer: the answer; `None` until it is whole
    error: why the run failed; `None` if it has not failed
    usage: tokens and dollars of all calls, once the run has ended
    losses: where the run fell short of its recipe; until the end, only the dropped seats
    planned: number of proposers' seats, dropped seats included, once the run has ended
    answered: number of these seats that have a proposal, once the run has ended
    last_resort: whether the aggregator failed and the answer is the proposal that is most like the others
    seat: if the answer is a proposal (selected, elected, or the last resort), the index of its seat; else `None`
    layer: if the answer is a proposal, the index of its layer; else `None`
    spared: number of proposers' seats that were not needed, once the run has ended
    analyst: the analyst as far as it has come, a seat whose text stays empty; `None` if it has not been asked
    analysis: where the proposals of the last layer agree and differ; `None` without a usable analysis
    """

    recipe: Recipe | None = None
    conversation: Conversation | None = None
    layers: list[list[Seat]] = field(default_factory=list)
    aggregator: str = ""
    replaced: list[tuple[str, Failure]] = field(default_factory=list)
    fitted: list[PromptFitted] = field(default_factory=list)
    calls: list[CallFinished] = field(default_factory=list)
    votes: list[VotesCounted] = field(default_factory=list)
    uses: list[ToolUsed] = field(default_factory=list)
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None
    usage: Usage = NOTHING_USED
    losses: tuple[Loss, ...] = ()
    planned: int = 0
    answered: int = 0
    last_resort: bool = False
    seat: int | None = None
    layer: int | None = None
    spared: int = 0
    analyst: Seat | None = None
    analysis: Analysis | None = None

    def proposals(self, layer: int) -> tuple[Answer, ...]:
        """The proposals of the layer with the index `layer`, in seat order, without lost and unfinished seats."""
        return tuple(seat.answer for seat in self.layers[layer] if seat.answer is not None)

    def hear(self, event: AnyEvent) -> None:
        """Add one event. The events of a run must come in their order, and each of them once."""
        match event:
            case ProposalDelta(layer=layer, seat=seat, delta=delta):
                self.layers[layer][seat].text += _words(delta)
            case AggregationDelta(delta=delta):
                self.text += _words(delta)
            case RunStarted(recipe=recipe, conversation=conversation, dropped=dropped):
                self.recipe, self.conversation, self.losses = recipe, conversation, dropped
            case LayerStarted(models=models):
                self.layers.append([Seat(model) for model in models])
            case ProposalStarted(layer=layer, seat=seat, saw=saw):
                self.layers[layer][seat].started, self.layers[layer][seat].saw = True, saw
            case ProposalFinished(layer=layer, seat=seat, answer=answer):
                self.layers[layer][seat].answer = answer
                self.layers[layer][seat].text = answer.text
            case ProposalFailed(layer=layer, seat=seat, error=error):
                self.layers[layer][seat].error = error
            case ProposalSpared(layer=layer, seat=seat):
                self.layers[layer][seat].spared = True
            case ProposalReplaced(layer=layer, seat=seat, model=model, error=error):
                asked = self.layers[layer][seat]
                asked.replaced.append((asked.model, error))
                asked.model, asked.text = model, ""
            case PromptFitted():
                self.fitted.append(event)
            case CallFinished():
                self.calls.append(event)
            case ToolUsed():
                self._hear_use(event)
            case AnalysisStarted() | AnalysisReplaced() | AnalysisFinished() | AnalysisFailed():
                self._hear_analyst(event)
            case VotesCounted():
                self.votes.append(event)
            case AggregationStarted(model=model):
                self.aggregator = model
            case AggregationReplaced(model=model, error=error):
                self.replaced.append((self.aggregator, error))
                self.aggregator = model
            case RunFinished(answer=answer, last_resort=last_resort, seat=seat):
                self.answer, self.text, self.last_resort, self.seat = answer, answer.text, last_resort, seat
                # A run that an earlier version stored says no layer: there, only the last could give the answer.
                last = None if seat is None else len(self.layers) - 1
                self.layer = last if event.layer is None else event.layer
                self._end(event)
            case RunFailed(error=error):
                self.error = error
                self._end(event)

    def _hear_analyst(self, event: AnalysisStarted | AnalysisReplaced | AnalysisFinished | AnalysisFailed) -> None:
        match event:
            case AnalysisStarted(model=model):
                self.analyst = Seat(model, started=True)
            case AnalysisReplaced(model=model, error=error) if self.analyst is not None:
                self.analyst.replaced.append((self.analyst.model, error))
                self.analyst.model = model
            case AnalysisFinished(analysis=analysis):
                self.analysis = analysis
            case AnalysisFailed(error=error) if self.analyst is not None:
                self.analyst.error = error

    def _hear_use(self, event: ToolUsed) -> None:
        self.uses.append(event)
        if self.recipe is not None and event.layer < len(self.recipe.layers):
            self.layers[event.layer][event.seat].text = ""  # what comes before a tool call is no part of the proposal

    def _end(self, event: RunFinished | RunFailed) -> None:
        self.usage, self.losses = event.usage, event.losses
        self.planned, self.answered, self.spared = event.planned, event.answered, event.spared


def _words(delta: Delta) -> str:
    return delta.text if isinstance(delta, TextDelta) else ""


def usage_when_made(calls: Iterable[CallFinished]) -> Usage:
    """The sum of the usages of `calls`. An answer from the store counts with the usage of the call that made it.

    So a batch that is started again reports the usage of all its work, not only of the calls since the restart.
    """
    usage = NOTHING_USED
    for call in calls:
        usage += call.usage or NOTHING_USED
        usage += call.stored_usage or NOTHING_USED
    return usage
