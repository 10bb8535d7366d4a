"""The state of one run, which its layers and its aggregator share, and the rules that both follow.

The shared rules are: how a seat samples, when a seat must be done, and how a model is called, so that every call is
counted however it ends.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from partsong.bounds import DEFAULTS, Bounds
from partsong.engine.emitter import Emit as Emit
from partsong.engine.emitter import Emitter
from partsong.engine.losses import Losses
from partsong.engine.recalled import Again
from partsong.engine.tally import OpenCall, OpenUse, Tally
from partsong.errors import ModelError
from partsong.events import Failure
from partsong.model import (
    Answer,
    Conversation,
    Delta,
    Message,
    Model,
    ReasoningDelta,
    Request,
    Sampling,
    Send,
    Terms,
    TextDelta,
    Tool,
    ToolCall,
)
from partsong.model_info import ModelInfo, info_of
from partsong.money.budget import limit_of
from partsong.money.funding import Funded
from partsong.prompts import documents_of, in_a_turn, left_out, with_documents
from partsong.recipe import ANALYST_SEAT, Agent, Recipe
from partsong.toolbox import OfferedTool, Offers, Toolbox, tools_of

# Least share of a run's deadline that is left for proposers, however slow the aggregator has been of late.
PROPOSERS_LEAST = 0.1
# Share of the time after the last layer that the analyst may take, and the least share, however slow the aggregator is.
ANALYST_SHARE, ANALYST_LEAST = 0.4, 0.1


@dataclass(frozen=True, slots=True)
class Proposal:
    """The proposal of a seat, or its comment on the proposals of an earlier layer.

    seat: index of the seat in its layer
    model: id of the model that wrote the proposal
    answer: the proposal
    layer: index of the layer
    comment: whether it is a comment, which is never counted or selected, and never stands in for an answer
    about: for a comment, the seats whose proposals its author saw; `None` if the author saw all of them
    """

    seat: int
    model: str
    answer: Answer
    layer: int = 0
    comment: bool = False
    about: frozenset[int] | None = None


@dataclass(slots=True, eq=False)
class Performance:
    """The state of one run.

    recipe: the recipe that is performed, without the seats that the money does not pay for
    models: the models, by id
    emitter: passes events to the listener; `say` and `say_end` are its methods
    watch: whether the listener wants the deltas of proposals
    live: whether the listener wants the answer while it is written
    cache: whether answers from the store may be used; `None`: only at a temperature of 0
    losses: where the run has fallen short of its recipe so far
    funded: the run's money; `None` (default) if no cap applies
    record: id under which the run is stored; "" (default) if it is not stored
    bounds: bounds on schemas and on tool calls
    again: what is found of an earlier run; `None` (default) for nothing
    toolbox: the servers with tools; `None` (default) if the recipe uses none
    offers: what each of these servers offers (default: nothing)
    started: when the run began, by the running loop's clock
    said: pieces of the answer that the listener has heard; "" for a piece of reasoning or of a tool call
    tally: counts the run's calls and their usage
    shown, lacking: what `for_model` and `left_out` have returned last, for models that take files and for others
    has_documents: whether there are documents in the conversation
    """

    recipe: Recipe
    conversation: Conversation
    models: Mapping[str, Model]
    emitter: Emitter
    watch: bool
    live: bool
    cache: bool | None
    losses: Losses
    funded: Funded | None = None
    record: str = ""
    bounds: Bounds = DEFAULTS
    again: Again | None = None
    toolbox: Toolbox | None = None
    offers: Offers = field(default_factory=dict)
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    said: list[str] = field(default_factory=list)
    shown: dict[bool, tuple[tuple[Message, ...], tuple[Message, ...]]] = field(default_factory=dict)
    lacking: dict[bool, tuple[Conversation, str]] = field(default_factory=dict)
    tally: Tally = field(init=False)
    has_documents: bool = field(init=False)
    say: Emit = field(init=False)
    say_end: Emit = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.models, self.started, self.emitter.finished)
        self.say, self.say_end = self.emitter.say, self.emitter.say_end
        self.has_documents = bool(documents_of(self.conversation.messages))

    @property
    def end(self) -> float | None:
        """When the run must end, by the running loop's clock; `None` for a recipe without a deadline."""
        return None if self.recipe.deadline is None else self.started + self.recipe.deadline

    def layer_end(self, layer: int) -> float | None:
        """When the layer must end, by the running loop's clock; `None` for a recipe without a deadline.

        The time that is left without the aggregator's reserve is divided equally among this and the later layers.
        """
        deadline = self.recipe.deadline
        if deadline is None:
            return None
        aggregator = self.recipe.aggregator
        reserve = deadline * self.recipe.reserve if aggregator.models else 0.0
        if needed := self.usual_seconds(aggregator) + self.usual_seconds(self.recipe.analyst):
            reserve = max(reserve, min(needed, deadline * (1 - PROPOSERS_LEAST)))
        now = asyncio.get_running_loop().time()
        return now + (self.started + deadline - reserve - now) / (len(self.recipe.layers) - layer)

    @property
    def analyst_end(self) -> float | None:
        """When the analyst must end, by the running loop's clock; `None` for a recipe without a deadline.

        The analyst gets a share of the time that is left, and must leave what the aggregator usually takes, unless
        nothing would be left then.
        """
        if (end := self.end) is None:
            return None
        now = asyncio.get_running_loop().time()
        left = max(0.0, end - now)
        spare = left - self.usual_seconds(self.recipe.aggregator)
        return now + min(left * ANALYST_SHARE, max(spare, left * ANALYST_LEAST))

    def usual_seconds(self, agent: Agent | None) -> float:
        """How long a usual answer of the agent's model takes, in seconds; 0 if that is not known, or without agent."""
        if agent is None or not agent.models:
            return 0.0
        seconds = info_of(self.models[agent.model]).seconds
        return 0.0 if seconds is None else seconds(None) or 0.0

    def sampling(self, agent: Agent, layer: int, seat: int, sample: int) -> Sampling:
        """The sampling settings for one seat.

        layer, seat: indexes of the layer and of the seat in it
        sample: index of the seat among the samples of its agent
        """
        return sampling_of(self.recipe, agent, layer, seat, sample)

    def limited(self, name: str, sampling: Sampling) -> Sampling:
        """The sampling settings, under a budget with a token limit, without which a call has no worst case.

        name: id of the model that is asked
        """
        if self.funded is None or sampling.max_tokens is not None:
            return sampling
        return replace(sampling, max_tokens=limit_of(info_of(self.models[name]), sampling))

    def for_model(self, request: Request, info: ModelInfo) -> Request:
        """The request with each document as the model can read it: the file, or its text."""
        if not self.has_documents:
            return request
        # The seats of a layer share their messages, which are then changed once.
        made = self.shown.get(info.documents)
        if made is None or made[0] is not request.messages:
            made = request.messages, with_documents(request.messages, sent=info.documents)
            self.shown[info.documents] = made
        return replace(request, messages=made[1])

    def left_out(self, model: str, conversation: Conversation) -> str:
        """A clause that names the parts of documents that prompts for the model leave out; "" if there are none."""
        if not self.has_documents:
            return ""
        sent = info_of(self.models[model]).documents
        made = self.lacking.get(sent)
        if made is None or made[0] is not conversation:
            made = self.lacking[sent] = conversation, left_out(conversation.messages, sent=sent)
        return made[1]

    def terms(self, until: float | None) -> Terms:
        """The terms of a call that must end at `until`, by the running loop's clock; `None` for no limit."""
        return Terms(until=until, cache=self.cache, run=f"{id(self):x}", record=self.record)

    def terms_of_advice(self, until: float | None) -> Terms:
        """The terms of a proposer's call that must end at `until`.

        While the aggregator acts on advice, proposers get the same request at each of its steps. The store may then
        answer at any temperature.
        """
        terms = self.terms(until)
        within = self.cache is None and in_a_turn(self.conversation, self.recipe.advice)
        return replace(terms, cache=True) if within else terms

    def tools_of(self, agent: Agent) -> tuple[OfferedTool, ...]:
        """The tools that the agent may use to look things up; none for an aggregator whose caller brought tools."""
        if not agent.tools or (agent is self.recipe.aggregator and self.conversation.tools):
            return ()
        return tools_of(agent.tools, self.offers)

    def offered_to(self, agent: Agent) -> tuple[Tool, ...]:
        """The tools of the agent for its requests."""
        return tuple(offered.tool for offered in self.tools_of(agent))

    async def pay_for_tool(self, use: OpenUse) -> None:
        """Spend the price of a tool call, before the call. Raises `ModelError` if the money does not allow it."""
        dollars = self.offers[use.server].dollars
        if dollars and self.funded is not None:
            await self.funded.pay(self.turn(use.address), f"tools.{use.server}", dollars)
        use.dollars = dollars

    def turn(self, address: tuple[int, int]) -> int:
        """When the seat with this address has its turn: the number of the layers, and of the analyst, before it."""
        layer, seat = address
        beyond = layer == len(self.recipe.layers) and seat != ANALYST_SEAT and self.recipe.analyst is not None
        return layer + beyond

    async def call(self, call: OpenCall, send: Send | None) -> Answer:
        """Call the model of an open call, and count the call. Every call of a run goes through this method.

        send: hears the deltas; `None` for an answer that is not streamed

        Raises `ModelError` if the call fails, or if the answer has neither text nor a tool call.
        """

        async def count_and_send(delta: Delta) -> None:
            if isinstance(delta, TextDelta | ReasoningDelta):
                call.letters += len(delta.text)
            else:
                call.letters += len(delta.name) + len(delta.arguments)
            if send is not None:
                await send(delta)

        try:
            models = self.models if self.funded is None else self.funded.models(self.turn(call.address))
            answer = await models[call.model](call.request, send and count_and_send)
            if not answer.text.strip() and not any(isinstance(part, ToolCall) for part in answer.parts):
                raise ModelError(f"{call.model} answered without a word", "empty", usage=answer.usage)
        except ModelError as error:
            error.usage = self.tally.fail(call, error)
            raise
        self.tally.answer(call, answer)
        return answer


def sampling_of(recipe: Recipe, agent: Agent, layer: int, seat: int, sample: int) -> Sampling:
    """The sampling settings for a sample of an agent, in one seat of a run of `recipe`.

    The seed is the agent's seed plus `sample`, else derived from the recipe's seed, else the provider's choice.
    """
    if agent.seed is not None:
        return replace(agent.sampling, seed=agent.seed + sample)
    if recipe.seed is not None:
        return replace(agent.sampling, seed=derived_seed(recipe.seed, layer, seat))
    return agent.sampling


def derived_seed(seed: int, layer: int, seat: int) -> int:
    """The seed of a seat, a hash of the recipe's seed and the indexes of layer and seat.

    It is the same in every run, and has 31 bits, since some providers accept no more.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{layer}/{seat}".encode()).digest()[:4], "big") >> 1


def failure(error: ModelError) -> Failure:
    """The error as a value for events."""
    return Failure(error.cause, str(error), error.status)


def truncated_of(proposals: tuple[Proposal, ...]) -> frozenset[int]:
    """The indexes of the proposals that stopped at their token limit."""
    return frozenset(index for index, proposal in enumerate(proposals) if proposal.answer.finish_reason == "length")
