"""Everything a run says, once, to whoever listens: the terminal, the server, the page, the store, the bench.

The grammar, checked by `tests/grammar.py`:

    RunStarted
      ( LayerStarted
          ( ProposalStarted ProposalDelta* (ProposalFinished | ProposalFailed) )+    one for each seat, interleaved
        LayerFinished )*
      ( AggregationStarted AggregationDelta* )?
    ( RunFinished | RunFailed )

A run may fail at any point after RunStarted, also between a proposal's start and its end. Listeners hear one event at
a time and are awaited. Layers and seats are counted from 0. Events carry no clock: a listener that wants one has it.
"""

from typing import Any

import msgspec
from msgspec import Struct

from partsong.errors import Cause
from partsong.model import Answer, Conversation, Delta, Usage
from partsong.recipe import Recipe


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why something failed: its cause, a sentence for people, and the HTTP status where there was one."""

    cause: Cause
    message: str
    status: int | None = None


class Loss(Struct, frozen=True):
    """A seat that was asked and did not make it into the answer."""

    layer: int
    seat: int
    model: str
    cause: Cause
    message: str


class Event(Struct, frozen=True, tag_field="event", tag=_snake):
    """What every event is: a frozen value, in JSON named by `event` in snake case."""


class RunStarted(Event, frozen=True):
    recipe: Recipe
    conversation: Conversation


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


class ProposalFinished(Event, frozen=True):
    layer: int
    seat: int
    answer: Answer


class ProposalFailed(Event, frozen=True, omit_defaults=True):
    """`usage` is what the call has cost all the same, where that is known."""

    layer: int
    seat: int
    error: Failure
    usage: Usage | None = None


class LayerFinished(Event, frozen=True):
    """`answered` of the layer's seats have a proposal."""

    layer: int
    answered: int


class AggregationStarted(Event, frozen=True):
    model: str


class AggregationDelta(Event, frozen=True):
    delta: Delta


class RunFinished(Event, frozen=True):
    """`usage` counts every call of the run."""

    answer: Answer
    usage: Usage
    losses: tuple[Loss, ...] = ()


class RunFailed(Event, frozen=True):
    """`usage` counts every call of the run: a failed run has cost money, too."""

    error: Failure
    usage: Usage
    losses: tuple[Loss, ...] = ()


AnyEvent = (
    RunStarted
    | LayerStarted
    | ProposalStarted
    | ProposalDelta
    | ProposalFinished
    | ProposalFailed
    | LayerFinished
    | AggregationStarted
    | AggregationDelta
    | RunFinished
    | RunFailed
)


def to_builtins(event: Event) -> dict[str, Any]:
    """The event as plain values for JSON. An answer also gets its `text`, so that a reader need not join parts."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    if isinstance(event, ProposalFinished | RunFinished):
        plain["answer"]["text"] = event.answer.text
    return plain


def to_json(event: Event) -> bytes:
    """The event as one line of JSON, without the line's end."""
    return msgspec.json.encode(to_builtins(event))


def from_json(line: bytes | str) -> AnyEvent:
    """The event that `to_json` wrote. Raises `msgspec.ValidationError` for anything else."""
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    return event
