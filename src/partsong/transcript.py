"""A run's events folded into what a reader wants: who said what in which layer, the answer, the usage, the losses.

One fold for everybody. `Transcript` can be asked at any moment, also in the middle of a run; what has not happened yet
is absent, never invented.
"""

from dataclasses import dataclass, field

from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    Failure,
    LayerStarted,
    Loss,
    ProposalDelta,
    ProposalFailed,
    ProposalFinished,
    ProposalStarted,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.model import NOTHING_USED, Answer, Conversation, Delta, TextDelta, Usage
from partsong.recipe import Recipe


@dataclass(slots=True)
class Seat:
    """What is known of one seat: `text` grows while the model speaks; at the end `answer` or `error` is there."""

    model: str
    started: bool = False
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None


@dataclass(slots=True)
class Transcript:
    """A run as far as it has come. `layers[i][j]` is the seat (i, j); `text` is the aggregator's so far."""

    recipe: Recipe | None = None
    conversation: Conversation | None = None
    layers: list[list[Seat]] = field(default_factory=list)
    aggregator: str = ""
    text: str = ""
    answer: Answer | None = None
    error: Failure | None = None
    usage: Usage = NOTHING_USED
    losses: tuple[Loss, ...] = ()

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
            case RunStarted(recipe=recipe, conversation=conversation):
                self.recipe, self.conversation = recipe, conversation
            case LayerStarted(models=models):
                self.layers.append([Seat(model) for model in models])
            case ProposalStarted(layer=layer, seat=seat):
                self.layers[layer][seat].started = True
            case ProposalFinished(layer=layer, seat=seat, answer=answer):
                self.layers[layer][seat].answer = answer
                self.layers[layer][seat].text = answer.text
            case ProposalFailed(layer=layer, seat=seat, error=error):
                self.layers[layer][seat].error = error
            case AggregationStarted(model=model):
                self.aggregator = model
            case RunFinished(answer=answer, usage=usage, losses=losses):
                self.answer, self.text, self.usage, self.losses = answer, answer.text, usage, losses
            case RunFailed(error=error, usage=usage, losses=losses):
                self.error, self.usage, self.losses = error, usage, losses


def _words(delta: Delta) -> str:
    return delta.text if isinstance(delta, TextDelta) else ""
