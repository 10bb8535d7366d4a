"""Everything a run says, once, to whoever listens: the terminal, the server, the page, the store, the bench.

The grammar, checked by `tests/grammar.py`:

    RunStarted
      ( LayerStarted
          ( ProposalStarted (ProposalDelta | PromptFitted | ProposalReplaced | CallFinished)*
            (ProposalFinished | ProposalFailed) )+                                   one for each seat, interleaved
        LayerFinished )*
      ( AggregationStarted (PromptFitted | AggregationReplaced | AggregationStep | CallFinished)*
        (AggregationDelta | CallFinished)* )?
    ( RunFinished | RunFailed )

A run may fail at any point after RunStarted, also between a proposal's start and its end. Listeners hear one event at
a time and are awaited. Layers and seats are counted from 0.

There is one CallFinished for each call to a model, said before the event that ends its seat. A call that is still open
when its seat or the run ends is given up: its CallFinished has an error and an estimated usage. The usages of a run's
calls add up to the `usage` of RunFinished or RunFailed. A run that was stored before
this event existed has none.

Only CallFinished carries times, in seconds since the run's start. A listener that needs other times keeps its own
clock.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.errors import HOPELESS, NEVER_ASKED, Cause
from partsong.model import Answer, Conversation, Delta, Usage
from partsong.recipe import Recipe


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why something failed: its cause, a sentence for people, and the HTTP status where there was one."""

    cause: Cause
    message: str
    status: int | None = None


LossKind = Literal["failed", "cut_off", "replaced", "truncated", "shortened", "dropped"]


class Loss(Struct, frozen=True):
    """What a run did not get as its recipe has it, and why. The aggregator's address is (number of layers, 0).

    failed: the seat has no proposal. cut_off: it was too late. replaced: `model` failed, and `replaced_by` answered in
    its place. truncated: its text ends at its limit of tokens, or with an end word that nobody knows, and was used as
    far as it goes. shortened: what it was given to read did not fit its window, or held pictures that it cannot read;
    or its answer held more than text. dropped: it was never asked, for the money.
    """

    layer: int
    seat: int
    model: str
    cause: Cause
    message: str
    kind: LossKind = "failed"
    replaced_by: str = ""


def is_hopeless(error: Failure, losses: Sequence[Loss]) -> bool:
    """Whether every other run of the same recipe would fail like the one that failed with `error` and `losses`."""
    if error.cause == "no_proposals":
        return {loss.cause for loss in losses} <= HOPELESS
    return error.cause in HOPELESS


class Cut(Struct, frozen=True):
    """What was taken out of a proposal (counted from 0, in seat order): its tokens before and after.

    -1 is the draft of an aggregation in steps.
    """

    proposal: int
    before: int
    after: int


class Event(Struct, frozen=True, tag_field="event", tag=_snake):
    """What every event is: a frozen value, in JSON named by `event` in snake case."""


class RunStarted(Event, frozen=True, omit_defaults=True):
    """`recipe` is what is performed; `dropped` names the seats of the one that was asked for that the money forbids."""

    recipe: Recipe
    conversation: Conversation
    dropped: tuple[Loss, ...] = ()


class LayerStarted(Event, frozen=True):
    """`models` holds the model id of each seat."""

    layer: int
    models: tuple[str, ...]


class ProposalStarted(Event, frozen=True):
    layer: int
    seat: int
    model: str


class ProposalDelta(Event, frozen=True):
    layer: int
    seat: int
    delta: Delta


class ProposalReplaced(Event, frozen=True, omit_defaults=True):
    """The seat's model failed with `error`, having used `usage`; `model` is asked in its place, from the beginning."""

    layer: int
    seat: int
    model: str
    error: Failure
    usage: Usage | None = None


class PromptFitted(Event, frozen=True):
    """What a seat was given did not fit its model's window; `cuts` says what it reads instead. Tokens before, after."""

    layer: int
    seat: int
    model: str
    before: int
    after: int
    cuts: tuple[Cut, ...] = ()


class ProposalFinished(Event, frozen=True):
    """`model` is the id that answered: the seat's own, or the one that replaced it."""

    layer: int
    seat: int
    answer: Answer
    model: str = ""


class ProposalFailed(Event, frozen=True, omit_defaults=True):
    """`usage` is what the call has cost all the same, where that is known."""

    layer: int
    seat: int
    error: Failure
    usage: Usage | None = None


class CallFinished(Event, frozen=True, omit_defaults=True):
    """One call to a model has ended: the model has answered, the call has failed, or nobody waits for it any more.

    There is exactly one for each time a model is asked, before the event that ends its seat and before the run's end.
    The usages of a run's calls add up to the usage of the run.

    layer: index of the layer, or the number of layers for the aggregator
    seat: index of the seat in its layer; 0 for the aggregator
    model: id of the model that was asked
    started: seconds from the run's start to the start of the call
    seconds: how long the call took
    usage: tokens and dollars, an estimate where the call was given up; `None` where nothing is known to have been used
    error: why the call failed; `None` for an answer
    stored: whether the answer came from the store
    stored_usage: what a stored answer used when it was made; `None` if the answer is not stored
    """

    layer: int
    seat: int
    model: str
    started: float
    seconds: float
    usage: Usage | None = None
    error: Failure | None = None
    stored: bool = False
    stored_usage: Usage | None = None

    @property
    def reached(self) -> bool:
        """Whether the call was passed on to the model or the store, and not refused before that."""
        return self.error is None or self.error.cause not in NEVER_ASKED


class LayerFinished(Event, frozen=True):
    """`answered` of the layer's seats have a proposal."""

    layer: int
    answered: int


class AggregationStarted(Event, frozen=True):
    model: str


class AggregationReplaced(Event, frozen=True, omit_defaults=True):
    """The aggregator failed with `error` before it said a word, having used `usage`; `model` is asked in its place."""

    model: str
    error: Failure
    usage: Usage | None = None


class AggregationStep(Event, frozen=True):
    """The proposals did not fit the aggregator's window at once: it has aggregated some of them (counted from 0)."""

    proposals: tuple[int, ...]
    tokens: int
    answer: Answer


class AggregationDelta(Event, frozen=True):
    delta: Delta


class RunFinished(Event, frozen=True):
    """`usage` counts every call of the run; `model` is the id that wrote the answer, or selected it.

    Of `planned` seats of proposers, `answered` have a proposal. With `last_resort` the aggregator failed, and the
    answer is the proposal that is most like the others. Where the answer is a proposal (for that reason, or because it
    was selected), `seat` is its seat in the last layer.
    """

    answer: Answer
    usage: Usage
    losses: tuple[Loss, ...] = ()
    model: str = ""
    planned: int = 0
    answered: int = 0
    last_resort: bool = False
    seat: int | None = None


class RunFailed(Event, frozen=True):
    """`usage` counts every call of the run: a failed run costs money, too. `text` is what the aggregator had said."""

    error: Failure
    usage: Usage
    losses: tuple[Loss, ...] = ()
    planned: int = 0
    answered: int = 0
    text: str = ""


AnyEvent = (
    RunStarted
    | LayerStarted
    | ProposalStarted
    | ProposalDelta
    | ProposalReplaced
    | PromptFitted
    | ProposalFinished
    | ProposalFailed
    | CallFinished
    | LayerFinished
    | AggregationStarted
    | AggregationReplaced
    | AggregationStep
    | AggregationDelta
    | RunFinished
    | RunFailed
)


def to_builtins(event: Event) -> dict[str, Any]:
    """The event as plain values for JSON. An answer also gets its `text`, so that a reader need not join parts."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    if isinstance(event, ProposalFinished | AggregationStep | RunFinished):
        plain["answer"]["text"] = event.answer.text
    return plain


def to_json(event: Event) -> bytes:
    """The event as one line of JSON, without the line's end."""
    return msgspec.json.encode(to_builtins(event))


def from_json(line: bytes | str) -> AnyEvent:
    """The event that `to_json` wrote. Raises `msgspec.ValidationError` for anything else."""
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    return event
