"""A run's events folded into what a reader wants: who said what in which layer, the answer, the usage, the losses.

One fold for everybody. `Transcript` can be asked at any moment, also in the middle of a run; what has not happened yet
is absent, never invented.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from partsong.events import (
    AggregationDelta,
    AggregationReplaced,
    AggregationStarted,
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
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import NOTHING_USED, Answer, Conversation, Delta, TextDelta, Usage
from partsong.recipe import Recipe


@dataclass(slots=True)
class Seat:
    """What is known of one seat: `text` grows while the model speaks; at the end `answer` or `error` is there.

    `model` is the one that is asked now; `replaced` holds those that were asked before it, and why they failed.
    """

    model: str
    replaced: list[tuple[str, Failure]] = field(default_factory=list)
    started: bool = False
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None


@dataclass(slots=True)
class Transcript:
    """A run as far as it has come. `layers[i][j]` is the seat (i, j); `text` is the aggregator's so far.

    `aggregator` is the model that is asked to aggregate, and `replaced` those that failed at it; `fitted` says which
    prompts were cut. `calls` holds every call that has ended; a run stored before calls were events has none. At the
    end, of `planned` seats of proposers `answered` have a proposal, and `losses` says what became of the others. Where
    the answer is a proposal (with `last_resort`, or since it was selected), `seat` is its seat in the last layer.
    """

    recipe: Recipe | None = None
    conversation: Conversation | None = None
    layers: list[list[Seat]] = field(default_factory=list)
    aggregator: str = ""
    replaced: list[tuple[str, Failure]] = field(default_factory=list)
    fitted: list[PromptFitted] = field(default_factory=list)
    calls: list[CallFinished] = field(default_factory=list)
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None
    usage: Usage = NOTHING_USED
    losses: tuple[Loss, ...] = ()
    planned: int = 0
    answered: int = 0
    last_resort: bool = False
    seat: int | None = None

    def proposals(self, layer: int) -> tuple[Answer, ...]:
        """The proposals of a layer (counted from 0), in seat order, without the lost seats."""
        return tuple(seat.answer for seat in self.layers[layer] if seat.answer is not None)

    def hear(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case ProposalDelta(layer=layer, seat=seat, delta=delta):
                self.layers[layer][seat].text += _words(delta)
            case AggregationDelta(delta=delta):
                self.text += _words(delta)
            case RunStarted(recipe=recipe, conversation=conversation, dropped=dropped):
                self.recipe, self.conversation, self.losses = recipe, conversation, dropped
            case LayerStarted(models=models):
                self.layers.append([Seat(model) for model in models])
            case ProposalStarted(layer=layer, seat=seat):
                self.layers[layer][seat].started = True
            case ProposalFinished(layer=layer, seat=seat, answer=answer):
                self.layers[layer][seat].answer = answer
                self.layers[layer][seat].text = answer.text
            case ProposalFailed(layer=layer, seat=seat, error=error):
                self.layers[layer][seat].error = error
            case ProposalReplaced(layer=layer, seat=seat, model=model, error=error):
                asked = self.layers[layer][seat]
                asked.replaced.append((asked.model, error))
                asked.model, asked.text = model, ""
            case PromptFitted():
                self.fitted.append(event)
            case CallFinished():
                self.calls.append(event)
            case AggregationStarted(model=model):
                self.aggregator = model
            case AggregationReplaced(model=model, error=error):
                self.replaced.append((self.aggregator, error))
                self.aggregator = model
            case RunFinished(answer=answer, last_resort=last_resort, seat=seat):
                self.answer, self.text, self.last_resort, self.seat = answer, answer.text, last_resort, seat
                self._end(event)
            case RunFailed(error=error):
                self.error = error
                self._end(event)

    def _end(self, event: RunFinished | RunFailed) -> None:
        self.usage, self.losses = event.usage, event.losses
        self.planned, self.answered = event.planned, event.answered


def _words(delta: Delta) -> str:
    return delta.text if isinstance(delta, TextDelta) else ""


def usage_when_made(calls: Iterable[CallFinished]) -> Usage:
    """The tokens and dollars of calls, where a stored answer counts with what it used when it was made.

    Whoever starts a piece of work again sees what all of the work has used, and not only the calls since the start.
    """
    usage = NOTHING_USED
    for call in calls:
        usage += call.usage or NOTHING_USED
        usage += call.stored_usage or NOTHING_USED
    return usage
