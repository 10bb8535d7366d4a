"""The events of a run. Every listener (terminal, server, page, store, bench) hears the same events, each of them once.

The grammar, checked by `tests/grammar.py`:

    RunStarted
      ( LayerStarted
          ( ProposalStarted (ProposalDelta | PromptFitted | ProposalReplaced | CallFinished | ToolUsed)*
            (ProposalFinished | ProposalFailed | ProposalSpared)
          | ProposalFailed | ProposalSpared )+                                       one for each seat, interleaved
        LayerFinished VotesCounted? )*
      ( AnalysisStarted (PromptFitted | AnalysisReplaced | CallFinished | ToolUsed)*
        (AnalysisFinished | AnalysisFailed) )?
      ( AggregationStarted (PromptFitted | AggregationReplaced | AggregationStep | CallFinished | ToolUsed)*
        (AggregationDelta | CallFinished | ToolUsed)*
      | AggregationDelta )?
    ( RunFinished | RunFailed )

A run may fail at any point after RunStarted, also between a proposal's start and its end. Listeners hear one event at
a time and are awaited. Layers and seats are counted from 0. The address of the aggregator is the number of layers, and
seat 0; the analyst is seat 1 beside it.

A seat without ProposalStarted was never asked: its layer asks few seats at once, and ended before. After VotesCounted
with a winner, no further layer and no aggregator is asked: one AggregationDelta says the whole answer. A run that is to
take the best proposal of an earlier run asks no aggregator and no analyst: it ends with its layers.

There is one CallFinished for each call to a model, said before the event that ends its seat. A call that is still open
when its seat or the run ends is given up: its CallFinished has an error and an estimated usage. The usages of a run's
calls, and the dollars of its tool calls, add up to the `usage` of RunFinished or RunFailed. Runs that were stored
before CallFinished was introduced have no such events.

A seat that looks things up makes several calls to its model, and a ToolUsed for each tool call between them, also if
the tool call was given up. Its proposal is the answer of the last call. So what its model wrote before a ToolUsed is no
part of the proposal.

Only CallFinished and ToolUsed carry times, in seconds since the run's start. A listener that needs other times keeps
its own clock.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct

from partsong.analysis import Analysis
from partsong.errors import HOPELESS, NEVER_ASKED, Cause
from partsong.model import Answer, Conversation, Delta, Usage
from partsong.recipe import Recipe


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a call, a seat or a run failed.

    cause: the kind of failure, for programs
    message: the failure in a sentence, for people
    status: HTTP status of the provider's response; `None` if there was no response
    """

    cause: Cause
    message: str
    status: int | None = None


LossKind = Literal["failed", "cut_off", "replaced", "truncated", "shortened", "dropped"]


class Loss(Struct, frozen=True):
    """One respect in which a run fell short of its recipe, and why.

    layer: index of the layer, or the number of layers for the aggregator and the analyst
    seat: index of the seat in its layer; 0 for the aggregator, 1 for the analyst
    model: id of the model that was at fault
    cause: the kind of failure, for programs
    message: the reason in a sentence, for people
    kind: what became of the seat, as below (default "failed")
    replaced_by: id of the model that answered instead, for the kind "replaced"; else ""

    failed: the seat has no proposal, because its model and every fallback failed
    cut_off: the seat has no proposal, because it was not done in time
    replaced: `model` failed, and its fallback `replaced_by` answered
    truncated: the answer ends at its token limit or with an unknown finish reason, and was used as far as it goes
    shortened: the model did not read its whole prompt (too long, or with unsupported images), or the answer lost parts
        that are no text
    dropped: the seat was never asked, because the allowed money does not pay for the whole recipe
    """

    layer: int
    seat: int
    model: str
    cause: Cause
    message: str
    kind: LossKind = "failed"
    replaced_by: str = ""


def is_hopeless(error: Failure, losses: Sequence[Loss]) -> bool:
    """Whether every other run of the same recipe would fail for the same reason, such as a wrong API key.

    error: the error of the failed run
    losses: the losses of the failed run
    """
    if error.cause == "no_proposals":
        return {loss.cause for loss in losses} <= HOPELESS
    return error.cause in HOPELESS


class Cut(Struct, frozen=True):
    """A proposal or comment that was shortened to make a prompt fit a model's window.

    proposal: index of the proposal among all that are there, in seat order and comments last; -1 for the draft of an
        aggregation in several steps
    before: tokens of the whole proposal
    after: tokens that are left
    """

    proposal: int
    before: int
    after: int


class Event(Struct, frozen=True, tag_field="event", tag=_snake):
    """The base of all events. In JSON, the field `event` holds the name of the class in snake case."""


class RunStarted(Event, frozen=True, omit_defaults=True):
    """A run has begun.

    recipe: the recipe that is performed, already without the seats in `dropped`
    conversation: the messages to answer
    dropped: losses of the kind "dropped": seats of the original recipe that the allowed money does not pay for
    again: id of the earlier run whose proposals this one finds again; "" (default) for a run of its own
    """

    recipe: Recipe
    conversation: Conversation
    dropped: tuple[Loss, ...] = ()
    again: str = ""


class LayerStarted(Event, frozen=True):
    """The layer with the index `layer` has begun. `models` holds the model id of each seat, in seat order."""

    layer: int
    models: tuple[str, ...]


class ProposalStarted(Event, frozen=True, omit_defaults=True):
    """A seat has begun: its model is asked for a proposal, or for a comment if its layer comments.

    saw: the layer and the seat of each proposal and comment that the seat reads; `None` (default) if it reads all that
        are there, and `()` if it reads none of them
    """

    layer: int
    seat: int
    model: str
    saw: tuple[tuple[int, int], ...] | None = None


class ProposalDelta(Event, frozen=True):
    """A seat's model has written the next piece of its proposal."""

    layer: int
    seat: int
    delta: Delta


class ProposalReplaced(Event, frozen=True, omit_defaults=True):
    """The seat's model has failed, and its next fallback is asked from the beginning.

    model: id of the fallback
    error: why the model before it failed
    usage: tokens and dollars of the failed call; `None` if they are not known
    """

    layer: int
    seat: int
    model: str
    error: Failure
    usage: Usage | None = None


class PromptFitted(Event, frozen=True):
    """A prompt did not fit its model's window, so proposals in it were shortened.

    layer: index of the layer, or the number of layers for the aggregator and the analyst
    before: tokens of the whole prompt
    after: tokens of the shortened prompt
    cuts: the shortened proposals
    """

    layer: int
    seat: int
    model: str
    before: int
    after: int
    cuts: tuple[Cut, ...] = ()


class ProposalFinished(Event, frozen=True):
    """A seat has its proposal.

    answer: the proposal
    model: id of the model that wrote it: the seat's own or a fallback; "" in runs that old versions stored
    """

    layer: int
    seat: int
    answer: Answer
    model: str = ""


class ProposalFailed(Event, frozen=True, omit_defaults=True):
    """A seat is lost: neither its model nor a fallback has answered in time.

    error: why the last model that was asked failed
    usage: tokens and dollars of the failed call; `None` if they are not known
    """

    layer: int
    seat: int
    error: Failure
    usage: Usage | None = None


class ProposalSpared(Event, frozen=True, omit_defaults=True):
    """A seat is not needed: the vote is decided, enough seats agree, or the quorum was met before the seat began.

    This is no loss.

    usage: estimated tokens and dollars of the call that was given up; `None` if there was none
    """

    layer: int
    seat: int
    usage: Usage | None = None


class CallFinished(Event, frozen=True, omit_defaults=True):
    """One call to a model has ended: the model has answered, the call has failed, or the call was given up.

    There is exactly one such event for each call. It comes before the event that ends the call's seat, and before the
    end of the run. The usages of a run's calls add up to the usage of the run.

    layer: index of the layer, or the number of layers for the aggregator and the analyst
    seat: index of the seat in its layer; 0 for the aggregator, 1 for the analyst
    model: id of the model that was asked
    started: seconds from the run's start to the start of the call
    seconds: how long the call took
    usage: tokens and dollars, estimated if the call was given up; `None` if no usage is known
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
        """Whether a model or the store was asked. It is false if a check (budget, window, breaker) refused the call."""
        return self.error is None or self.error.cause not in NEVER_ASKED


class ToolUsed(Event, frozen=True, omit_defaults=True):
    """A tool call of a seat has ended, or was refused: the tool has answered, has failed, or was given up.

    layer: index of the layer, or the number of layers for the aggregator and the analyst
    seat: index of the seat in its layer; 0 for the aggregator, 1 for the analyst
    model: id of the model that called the tool
    server: name of the server in the configuration; "" if the model has called a tool that it does not have
    tool: name of the tool on its server
    arguments: the arguments as JSON, as the model wrote them, cut after 2000 characters
    started: seconds from the run's start to the start of the tool call
    seconds: how long the tool call took
    size: number of characters of the result
    error: why the tool call failed, in a sentence; "" for a result
    dollars: price of the tool call
    sources: addresses and files that the result names
    """

    layer: int
    seat: int
    model: str
    server: str
    tool: str
    arguments: str
    started: float
    seconds: float
    size: int = 0
    error: str = ""
    dollars: Decimal = Decimal(0)
    sources: tuple[str, ...] = ()


class LayerFinished(Event, frozen=True):
    """A layer is done: `answered` is the number of its seats that have a proposal."""

    layer: int
    answered: int


class AnalysisStarted(Event, frozen=True):
    """The analyst has begun: the model with the id `model` is asked to compare the proposals of the last layer.

    There is no such event if the layer has only one proposal.
    """

    model: str


class AnalysisReplaced(Event, frozen=True, omit_defaults=True):
    """The analyst's model has failed, or what it wrote cannot be used, and its next fallback is asked.

    model: id of the fallback
    error: why the model before it failed
    usage: tokens and dollars of the failed call; `None` if they are not known
    """

    model: str
    error: Failure
    usage: Usage | None = None


class AnalysisFinished(Event, frozen=True):
    """The analyst has compared the proposals. The aggregator reads the analysis beside them.

    analysis: the analysis; its quotes were checked, its statements were not
    model: id of the model that wrote the analysis
    """

    analysis: Analysis
    model: str


class AnalysisFailed(Event, frozen=True, omit_defaults=True):
    """Neither the analyst's model nor a fallback has written a usable analysis. The run goes on without one.

    error: why the last model that was asked failed
    usage: tokens and dollars of the failed call; `None` if they are not known
    """

    error: Failure
    usage: Usage | None = None


class VoteGroup(Struct, frozen=True):
    """Seats of a layer that state the same.

    answer: what they state, as the first of them writes it, on one line and shortened
    seats: indexes of the seats, in their order
    """

    answer: str
    seats: tuple[int, ...]


class VotesCounted(Event, frozen=True, omit_defaults=True):
    """The statements of a layer's seats were counted, for a vote or for the layer's `agree`.

    layer: index of the layer
    rule: "majority" if the count was decided by the aggregator's `majority`, "agree" if by the layer's `agree`
    groups: the seats that state the same; the largest group first, and of equal groups the one with the earliest seat
    abstained: indexes of the seats whose proposal states nothing, or was cut off
    needed: number of seats that must state the same
    seat: the seat whose proposal is the answer: of the first group, the proposal most like the others; `None` if no
        group has as many seats as are needed
    """

    layer: int
    rule: Literal["majority", "agree"]
    groups: tuple[VoteGroup, ...]
    abstained: tuple[int, ...]
    needed: int
    seat: int | None = None


class AggregationStarted(Event, frozen=True):
    """The aggregator has begun: the model with the id `model` is asked for the answer."""

    model: str


class AggregationReplaced(Event, frozen=True, omit_defaults=True):
    """The aggregator's model has failed before its first word, and its next fallback is asked.

    model: id of the fallback
    error: why the model before it failed
    usage: tokens and dollars of the failed call; `None` if they are not known
    """

    model: str
    error: Failure
    usage: Usage | None = None


class AggregationStep(Event, frozen=True):
    """The aggregator has aggregated some of the proposals, because all of them together did not fit its window.

    proposals: indexes of these proposals, in seat order, and of comments on them after the proposals
    tokens: tokens of the prompt with these proposals
    answer: the draft, which the next step reads in place of these proposals
    """

    proposals: tuple[int, ...]
    tokens: int
    answer: Answer


class AggregationDelta(Event, frozen=True):
    """The next piece of the run's answer: the aggregator has written it, or it is an elected proposal as a whole."""

    delta: Delta


class RunFinished(Event, frozen=True):
    """The run has an answer.

    usage: tokens and dollars of all calls of the run, tool calls included
    losses: where the run fell short of its recipe
    model: id of the aggregator's model that wrote or selected the answer; with `last_resort` or after a vote, of the
        proposer
    planned: number of proposers' seats in all layers, dropped seats included
    answered: number of these seats that have a proposal
    last_resort: whether the aggregator failed, or was not to be asked, and the answer is the proposal that is most like
        the others
    seat: if the answer is a proposal (selected, elected, or the last resort), the index of its seat; else `None`
    layer: if the answer is a proposal, the index of its layer; else `None`. Runs that earlier versions stored have no
        `layer`, and it is the last
    spared: number of proposers' seats that were not needed, those of layers that were never asked included
    """

    answer: Answer
    usage: Usage
    losses: tuple[Loss, ...] = ()
    model: str = ""
    planned: int = 0
    answered: int = 0
    last_resort: bool = False
    seat: int | None = None
    layer: int | None = None
    spared: int = 0


class RunFailed(Event, frozen=True):
    """The run has ended without a whole answer.

    error: why the run failed
    usage: tokens and dollars of all calls of the run, tool calls included
    losses: where the run fell short of its recipe
    planned: number of proposers' seats in all layers, dropped seats included
    answered: number of these seats that have a proposal
    text: what the aggregator had written of the answer; "" if nothing
    spared: number of proposers' seats that were not needed
    """

    error: Failure
    usage: Usage
    losses: tuple[Loss, ...] = ()
    planned: int = 0
    answered: int = 0
    text: str = ""
    spared: int = 0


AnyEvent = (
    RunStarted
    | LayerStarted
    | ProposalStarted
    | ProposalDelta
    | ProposalReplaced
    | PromptFitted
    | ProposalFinished
    | ProposalFailed
    | ProposalSpared
    | CallFinished
    | ToolUsed
    | LayerFinished
    | VotesCounted
    | AnalysisStarted
    | AnalysisReplaced
    | AnalysisFinished
    | AnalysisFailed
    | AggregationStarted
    | AggregationReplaced
    | AggregationStep
    | AggregationDelta
    | RunFinished
    | RunFailed
)


def to_builtins(event: Event) -> dict[str, Any]:
    """The event as dicts, lists and plain values for JSON.

    An answer in the event also gets a field `text`, the joined text parts.
    """
    plain: dict[str, Any] = msgspec.to_builtins(event)
    if isinstance(event, ProposalFinished | AggregationStep | RunFinished):
        plain["answer"]["text"] = event.answer.text
    return plain


def to_json(event: Event) -> bytes:
    """The event as one line of JSON in UTF-8, without a newline."""
    return msgspec.json.encode(to_builtins(event))


def from_json(line: bytes | str) -> AnyEvent:
    """The event in a line that `to_json` wrote.

    Raises `msgspec.ValidationError` for other JSON, and `msgspec.DecodeError` for text that is not JSON.
    """
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    return event
