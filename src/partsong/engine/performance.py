"""One performance: what a run was given, and what it has come to so far. Layers and the aggregator share it.

It also decides what is alike for both: how a seat samples, when it must be done, and how one model is called, so that
the call is counted however it ends.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from partsong.engine.emitter import Emit as Emit
from partsong.engine.emitter import Emitter
from partsong.engine.losses import Losses
from partsong.engine.tally import OpenCall, Tally
from partsong.errors import ModelError
from partsong.events import Failure
from partsong.model import (
    Answer,
    Conversation,
    Delta,
    Model,
    ReasoningDelta,
    Request,
    Sampling,
    Send,
    Terms,
    TextDelta,
    ToolCall,
)
from partsong.model_info import ModelInfo, info_of
from partsong.money.budget import limit_of
from partsong.money.funding import Funded
from partsong.prompts import documents_of, in_a_turn, left_out, with_documents
from partsong.recipe import Agent, Recipe

# However slow the aggregator has been of late, proposers keep this share of a run's deadline.
PROPOSERS_LEAST = 0.1


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a seat proposed, and the id of the model that did."""

    seat: int
    model: str
    answer: Answer


@dataclass(slots=True, eq=False)
class Performance:
    """One run at work.

    recipe: what is performed, made smaller already if the money does not allow all of it
    models: by id
    emitter: says events to the listener; `say` and `say_end` are its methods
    watch: whether anybody wants the deltas of proposals
    live: whether the answer is heard before it is whole
    cache: whether stored answers will do; `None`: at a temperature of 0
    losses: what the run has not got so far
    funded: the run's money; `None` if no cap applies
    record: the id under which the run is stored, "" if it is not
    started: when the run began, by the running loop's clock
    said: what the aggregator has said so far, in pieces
    tally: the run's calls, and what they have used
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
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    said: list[str] = field(default_factory=list)
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
        """When the run must be done."""
        return None if self.recipe.deadline is None else self.started + self.recipe.deadline

    def layer_end(self, layer: int) -> float | None:
        """When the layer must be done, so that the later layers and the aggregator keep their share."""
        deadline = self.recipe.deadline
        if deadline is None:
            return None
        reserve = deadline * self.recipe.reserve
        if (seconds := info_of(self.models[self.recipe.aggregator.model]).seconds) is not None:
            needed = seconds(None) or 0.0
            reserve = max(reserve, min(needed, deadline * (1 - PROPOSERS_LEAST)))
        now = asyncio.get_running_loop().time()
        return now + (self.started + deadline - reserve - now) / (len(self.recipe.layers) - layer)

    def sampling(self, agent: Agent, layer: int, seat: int, sample: int) -> Sampling:
        """How a seat samples. Its seed is the agent's plus the index of the sample, or derived from the recipe's."""
        if agent.seed is not None:
            return replace(agent.sampling, seed=agent.seed + sample)
        if self.recipe.seed is not None:
            return replace(agent.sampling, seed=derived_seed(self.recipe.seed, layer, seat))
        return agent.sampling

    def limited(self, name: str, sampling: Sampling) -> Sampling:
        """The same sampling. Under a budget it gets a limit of tokens, since the worst case must be known."""
        if self.funded is None or sampling.max_tokens is not None:
            return sampling
        return replace(sampling, max_tokens=limit_of(info_of(self.models[name]), sampling))

    def for_model(self, request: Request, info: ModelInfo) -> Request:
        """The request with its documents as the model is given them: the file itself, or its text."""
        if not self.has_documents:
            return request
        return replace(request, messages=with_documents(request.messages, sent=info.documents))

    def left_out(self, model: str, conversation: Conversation) -> str:
        """What the model is not shown of the conversation's documents, in words; "" for nothing."""
        if not self.has_documents:
            return ""
        return left_out(conversation.messages, sent=info_of(self.models[model]).documents)

    def terms(self, until: float | None) -> Terms:
        return Terms(until=until, cache=self.cache, run=f"{id(self):x}", record=self.record)

    def terms_of_advice(self, until: float | None) -> Terms:
        """The terms of a proposer. Advice from the first step of a user's turn may be used again at the later steps."""
        terms = self.terms(until)
        within = self.cache is None and in_a_turn(self.conversation, self.recipe.advice)
        return replace(terms, cache=True) if within else terms

    async def call(self, call: OpenCall, send: Send | None) -> Answer:
        """Call the model. Every call of a run goes through here and is counted here, however it ends.

        Raises `ModelError` if the call fails, or if the answer has neither words nor a tool call.
        """

        async def count_and_send(delta: Delta) -> None:
            if isinstance(delta, TextDelta | ReasoningDelta):
                call.letters += len(delta.text)
            else:
                call.letters += len(delta.name) + len(delta.arguments)
            if send is not None:
                await send(delta)

        try:
            models = self.models if self.funded is None else self.funded.models(call.address[0])
            answer = await models[call.model](call.request, send and count_and_send)
            if not answer.text.strip() and not any(isinstance(part, ToolCall) for part in answer.parts):
                raise ModelError(f"{call.model} answered without a word", "empty", usage=answer.usage)
        except ModelError as error:
            error.usage = self.tally.fail(call, error)
            raise
        self.tally.answer(call, answer)
        return answer


def derived_seed(seed: int, layer: int, seat: int) -> int:
    """A seed for each seat, the same in every run. It has 31 bits, since some providers take no more."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{layer}/{seat}".encode()).digest()[:4], "big") >> 1


def failure(error: ModelError) -> Failure:
    """The error as events carry it."""
    return Failure(error.cause, str(error), error.status)


def truncated_of(proposals: tuple[Proposal, ...]) -> frozenset[int]:
    """The indexes of the proposals that end at their limit of tokens."""
    return frozenset(index for index, proposal in enumerate(proposals) if proposal.answer.finish_reason == "length")
