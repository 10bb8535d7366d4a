"""One performance: what a run was given, and what it has come to so far; layers and the aggregator share it.

Here is what both do alike: say how a seat samples and when it must be done, and ask one model, with the cost of the
call counted, however it ends.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from partsong.engine.fitting import Fitted, learnt
from partsong.engine.losses import Losses
from partsong.engine.tally import OpenCall, Tally
from partsong.errors import ModelError
from partsong.events import AnyEvent, Failure, PromptFitted
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
from partsong.prompts import in_a_turn
from partsong.recipe import Agent, Recipe

Emit = Callable[[AnyEvent], Awaitable[None]]

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
    """`started` is a time of the running loop; `said` is what the aggregator has said, in pieces."""

    recipe: Recipe
    conversation: Conversation
    models: Mapping[str, Model]
    say: Emit
    watch: bool
    live: bool
    cache: bool | None
    losses: Losses
    funded: Funded | None = None
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    said: list[str] = field(default_factory=list)
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.models)

    @property
    def end(self) -> float | None:
        """When the run must be done."""
        return None if self.recipe.deadline is None else self.started + self.recipe.deadline

    def layer_end(self, number: int) -> float | None:
        """When the layer `number` must be done, so that the later layers and the aggregator keep their share."""
        deadline = self.recipe.deadline
        if deadline is None:
            return None
        reserve = deadline * self.recipe.reserve
        if (seconds := info_of(self.models[self.recipe.aggregator.model]).seconds) is not None:
            needed = seconds(None) or 0.0
            reserve = max(reserve, min(needed, deadline * (1 - PROPOSERS_LEAST)))
        now = asyncio.get_running_loop().time()
        return now + (self.started + deadline - reserve - now) / (len(self.recipe.layers) - number)

    def sampling(self, agent: Agent, layer: int, seat: int, sample: int) -> Sampling:
        """How a seat samples: its seed is the agent's, moved on with each sample, or drawn from the recipe's."""
        if agent.seed is not None:
            return replace(agent.sampling, seed=agent.seed + sample)
        if self.recipe.seed is not None:
            return replace(agent.sampling, seed=derived_seed(self.recipe.seed, layer, seat))
        return agent.sampling

    def limited(self, name: str, sampling: Sampling) -> Sampling:
        """The same; under a budget every answer has a limit, which its prompt must leave room for."""
        if self.funded is None or sampling.max_tokens is not None:
            return sampling
        return replace(sampling, max_tokens=limit_of(info_of(self.models[name]), sampling))

    def terms(self, until: float | None) -> Terms:
        return Terms(until=until, cache=self.cache, run=f"{id(self):x}")

    def terms_of_advice(self, until: float | None) -> Terms:
        """Within a turn of the user's, advice that was given at its first step is good for all."""
        terms = self.terms(until)
        within = self.cache is None and in_a_turn(self.conversation, self.recipe.advice)
        return replace(terms, cache=True) if within else terms

    async def ask_fitted(
        self,
        name: str,
        address: tuple[int, int],
        fit: Callable[[ModelInfo], Awaitable[Fitted]],
        ask: Callable[[Fitted], Awaitable[Answer]],
    ) -> tuple[Fitted, Answer]:
        """Ask a model what fits its window, and say what was cut; once more, if its refusal tells how much it reads."""
        model = self.models[name]
        known = info_of(model)
        try:
            return await self._ask_fitted(name, address, await fit(known), ask)
        except ModelError as error:
            now = info_of(model)
            if error.cause != "window" or not learnt(known, now):
                raise
        return await self._ask_fitted(name, address, await fit(now), ask)

    async def _ask_fitted(
        self, name: str, address: tuple[int, int], fitted: Fitted, ask: Callable[[Fitted], Awaitable[Answer]]
    ) -> tuple[Fitted, Answer]:
        if fitted.cuts:
            await self.say(PromptFitted(*address, name, fitted.before, fitted.after, fitted.cuts))
        return fitted, await ask(fitted)

    async def ask(
        self, name: str, layer: int, request: Request, send: Send | None, opened: Callable[[OpenCall], None]
    ) -> Answer:
        """Ask one model, for a layer (counted from 0; the aggregator's is the number of layers).

        What the call has used is counted, also if it fails, when its error tells it.

        `opened` is given the call before it is made, so that whoever gives it up can have it counted, too.
        """
        call = self.tally.begin(name, request)
        opened(call)

        async def count_and_send(delta: Delta) -> None:
            if isinstance(delta, TextDelta | ReasoningDelta):
                call.letters += len(delta.text)
            else:
                call.letters += len(delta.name) + len(delta.arguments)
            if send is not None:
                await send(delta)

        try:
            models = self.models if self.funded is None else self.funded.models(layer)
            answer = await models[name](request, send and count_and_send)
            if not answer.text.strip() and not any(isinstance(part, ToolCall) for part in answer.parts):
                raise ModelError(f"{name} answered without a word", "empty", usage=answer.usage)
        except ModelError as error:
            error.usage = self.tally.fail(call, error)
            raise
        self.tally.finish(call, answer.usage)
        return answer


def derived_seed(seed: int, layer: int, seat: int) -> int:
    """A seed of its own for each seat (31 bits: some providers take no more), the same in every run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{layer}/{seat}".encode()).digest()[:4], "big") >> 1


def failure(error: ModelError) -> Failure:
    """The error as events tell it."""
    return Failure(error.cause, str(error), error.status)


def ended_early() -> ModelError:
    """Why an answer that ends at its limit of tokens is a loss."""
    return ModelError("it stopped at its limit of tokens", "truncated")


def truncated_of(proposals: tuple[Proposal, ...]) -> frozenset[int]:
    """The positions of the proposals that end at their limit of tokens."""
    return frozenset(
        position for position, proposal in enumerate(proposals) if proposal.answer.finish_reason == "length"
    )


def shortened(fitted: Fitted) -> ModelError:
    """Why a prompt that had to be cut is a loss."""
    return ModelError(f"it read {fitted.after:,} of {fitted.before:,} tokens, to fit its window", "window")
