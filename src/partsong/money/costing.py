"""What the calls of a recipe read, write and cost at most, layer by layer, for all of it or for a part.

A layer reads all that the layer before may have written, and each call costs the dearest of the models that may answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.model import Conversation, Request, Sampling
from partsong.model_info import ModelInfo
from partsong.money.budget import Dollars, dearest, limit_of, provider_of
from partsong.prompts import (
    acting_instruction,
    advised,
    fenced,
    instruction_for,
    listed,
    proposing,
    selecting_instruction,
    with_documents,
)
from partsong.recipe import Agent, Recipe
from partsong.wire.tokens import TOKENS_A_MESSAGE, estimate, estimate_tokens

# Tokens of a proposal, as its reader is billed and as we estimate them, for each that its author was: vocabularies
# differ, and our estimate of prose is twice its tokens.
RETOLD = 2
STEP = 64  # tokens: what a call reads is rounded up to it, so that equal calls are priced once

Shape = list[list[int]]  # how many samples of each agent of each layer are asked


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one agent: how many, and what each of them reads and writes at most."""

    agent: Agent
    number: int
    asked: int
    said: int


class Costs:
    """What the layers of a recipe cost at most, for any shape of it."""

    def __init__(self, recipe: Recipe, conversation: Conversation, info: Mapping[str, ModelInfo]) -> None:
        self.recipe, self.info = recipe, info
        sent = any(known.documents for known in info.values())
        conversation = replace(conversation, messages=with_documents(conversation.messages, sent=sent))
        advice = advised(conversation, recipe.advice)
        acted = Request(conversation.messages, tools=conversation.tools, response_format=conversation.response_format)
        self.advice = estimate_tokens(Request(advice.messages)) + TOKENS_A_MESSAGE
        self.action = estimate_tokens(acted) + TOKENS_A_MESSAGE
        instructions = [instruction_for(recipe.layout) if recipe.instruction is None else recipe.instruction]
        if conversation.tools and recipe.instruction is None and recipe.layout == "tail":
            instructions.append(acting_instruction())
        self.instruction = max(map(estimate, instructions)) + TOKENS_A_MESSAGE
        self.mark = estimate(fenced(("",), "", frozenset({0})))  # around each proposal
        if proposing(conversation, recipe.advice):
            self.instruction += estimate(listed((), 0)) + self.mark
        if recipe.aggregator.method == "select":
            self.instruction = max(self.instruction, estimate(selecting_instruction()) + TOKENS_A_MESSAGE)
        # Its limit is that of the answer, which an aggregator that selects does not write.
        self.caller = Sampling() if recipe.aggregator.method == "select" else conversation.sampling
        self.known: dict[tuple[str, int, int], Decimal] = {}
        self.agents = [
            [(agent, self.longest(agent), estimate(agent.system)) for agent in layer.agents] for layer in recipe.layers
        ]

    def longest(self, agent: Agent, instead: int | None = None) -> int:
        """New tokens of an answer at most, whichever of the agent's models gives it."""
        sampling = agent.sampling if instead is None else Sampling(max_tokens=instead)
        return max(limit_of(self.info[name], sampling) for name in agent.models)

    def total(self, shape: Shape) -> Dollars:
        return added(self.layers(shape))

    def layers(self, shape: Shape) -> list[dict[str, Decimal]]:
        """By scope, of each layer that still has seats, and last of the aggregator."""
        *layers, last = self.calls(shape)
        costs = [
            added([self.seat(calls.agent, calls.asked, calls.agent.sampling, calls.number) for calls in layer])
            for layer in layers
        ]
        return [*costs, self.aggregator(last[0])]

    def calls(self, shape: Shape) -> list[list[Calls]]:
        """Of each layer that still has seats, and last of the aggregator, as if its proposals always fitted."""
        told = 0  # tokens of what the layer before has proposed, with its marks
        layers = []
        for agents, counts in zip(self.agents, shape, strict=True):
            read = self.advice + (told and self.instruction + told)
            layer = [
                Calls(agent, count, read + system, longest)
                for (agent, longest, system), count in zip(agents, counts, strict=True)
                if count
            ]
            if layer:
                layers.append(layer)
                told = sum(calls.number * (RETOLD * calls.said + self.mark) for calls in layer)
        agent = self.recipe.aggregator
        read = self.action + estimate(agent.system) + (told and self.instruction + told)
        return [*layers, [Calls(agent, 1, read, self.longest(agent, self.caller.max_tokens))]]

    def aggregator(self, calls: Calls) -> dict[str, Decimal]:
        """What the aggregator costs: one call, or as many as its window makes necessary where it reads in steps."""
        sampling = Sampling(max_tokens=self.caller.max_tokens or calls.agent.max_tokens)
        cost = self.seat(calls.agent, calls.asked, sampling)
        windows = [window for name in calls.agent.models if (window := self.info[name].window)]
        one = self.recipe.fit != "window" or self.recipe.aggregator.method == "select"
        if one or not windows or calls.asked + calls.said <= min(windows):
            return cost
        seats = sum(agent.samples for agent in self.recipe.layers[-1].agents) if self.recipe.layers else 1
        # Of a window, the answer and what each step reads of the step before leave this much for proposals.
        room = min(windows) - self.action - self.instruction - (1 + RETOLD) * calls.said
        steps = seats if room <= 0 else min(seats, 1 + calls.asked // room)
        return {scope: steps * dollars for scope, dollars in cost.items()}

    def seat(self, agent: Agent, asked: int, sampling: Sampling, number: int = 1) -> dict[str, Decimal]:
        """The dearest of the models that may answer, for the run and for each of their providers."""
        cost: dict[str, Decimal] = {}
        for name in agent.models:
            dollars = number * self.price(name, asked, limit_of(self.info[name], sampling))
            for scope in ("", provider_of(name)):
                cost[scope] = max(cost.get(scope, Decimal(0)), dollars)
        return cost

    def price(self, name: str, asked: int, said: int) -> Decimal:
        asked = -(-asked // STEP) * STEP
        if (dollars := self.known.get((name, asked, said))) is None:
            dollars = self.known[name, asked, said] = dearest(self.info[name], asked, said) or Decimal(0)
        return dollars


def added(costs: Sequence[Dollars]) -> dict[str, Decimal]:
    """The sum in each scope."""
    total: dict[str, Decimal] = {}
    for cost in costs:
        for scope, dollars in cost.items():
            total[scope] = total.get(scope, Decimal(0)) + dollars
    return total
