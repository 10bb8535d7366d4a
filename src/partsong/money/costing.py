"""What the calls of a recipe read, write and cost at most, layer by layer, for the whole recipe or a part.

A layer reads all that the layer before may have written. Each call costs as much as the dearest of the models that may
answer. What a role is told beside the proposals comes from `briefing`, which also makes the messages that are sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from partsong.briefing import Role, brief, longest_marks, role_of_aggregator
from partsong.model import Conversation, Request, Sampling
from partsong.model_info import ModelInfo
from partsong.money.budget import Dollars, dearest, limit_of, provider_of
from partsong.prompts import with_documents
from partsong.recipe import Agent, Recipe
from partsong.wire.tokens import TOKENS_A_MESSAGE, estimate, estimate_tokens

# Tokens of a proposal as its reader is billed, and as we estimate them, for each token that its author wrote.
# Vocabularies differ, and our estimate of prose is twice its tokens.
RETOLD = 2
# Where proposed calls are listed, a call of few characters grows most: `<call tool="x"></call>` becomes
# `[proposed call 100]` and the line `100. proposed by 1 of 100: x {}`.
LISTED = Decimal("2.5")
STEP = 64  # tokens: the input of a call is rounded up to it, so that equal calls are priced once

Shape = list[list[int]]  # how many samples of each agent of each layer are asked


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one agent.

    count: how many there are
    asked: tokens that each reads at most
    said: tokens that each writes at most
    """

    agent: Agent
    count: int
    asked: int
    said: int


class Reading:
    """The tokens that one role reads at most."""

    def __init__(self, recipe: Recipe, conversation: Conversation, role: Role) -> None:
        self.brief = brief(recipe, conversation, role)
        seen = self.brief.conversation
        self.conversation = estimate_tokens(
            Request(seen.messages, tools=seen.tools, response_format=seen.response_format)
        )
        self._marks: dict[int, int] = {}

    def tokens(self, system: str, count: int, words: int) -> int:
        """The tokens of a prompt with `count` proposals, which have `words` tokens by our estimate."""
        own = TOKENS_A_MESSAGE + estimate(system) if system else 0
        return self.conversation + own + self.marks(count) + self.retold(words)

    def marks(self, count: int) -> int:
        """The instruction and the marks around `count` proposals."""
        if count not in self._marks:
            self._marks[count] = estimate_tokens(Request(longest_marks(self.brief, count)))
        return self._marks[count]

    def retold(self, words: int) -> int:
        """The tokens of the proposals' words, as they stand in the prompt."""
        return int(LISTED * words) + 1 if self.brief.lists_calls else words


class Costs:
    """What the layers of a recipe cost at most, for any shape of it."""

    def __init__(self, recipe: Recipe, conversation: Conversation, info: Mapping[str, ModelInfo]) -> None:
        self.recipe, self.info = recipe, info
        # A model that takes files may be the dearest of those that can answer: then files are counted for all.
        sent = any(known.documents for known in info.values())
        conversation = replace(conversation, messages=with_documents(conversation.messages, sent=sent))
        role = role_of_aggregator(recipe, conversation)
        self.proposer = Reading(recipe, conversation, "proposer")
        self.aggregator = Reading(recipe, conversation, role)
        self.drafter = Reading(recipe, conversation, "drafter") if recipe.in_steps else None
        # The caller's limit is that of the answer, which an aggregator that selects does not write.
        self.caller = Sampling() if role == "selector" else conversation.sampling
        self.known: dict[tuple[str, int, int], Decimal] = {}
        self.agents = [[(agent, self.longest(agent)) for agent in layer.agents] for layer in recipe.layers]

    def longest(self, agent: Agent, instead: int | None = None) -> int:
        """New tokens of an answer at most, whichever of the agent's models gives it."""
        sampling = agent.sampling if instead is None else Sampling(max_tokens=instead)
        return max(limit_of(self.info[name], sampling) for name in agent.models)

    def total(self, shape: Shape) -> Dollars:
        return added(self.layers(shape))

    def layers(self, shape: Shape) -> list[dict[str, Decimal]]:
        """The dollars by scope of each layer that still has seats, and last of the aggregator."""
        *layers, (last,) = self.calls(shape)
        costs = [added([self.cost(calls, calls.agent.sampling) for calls in layer]) for layer in layers]
        return [*costs, self.cost(last, Sampling(max_tokens=self.caller.max_tokens or last.agent.max_tokens))]

    def calls(self, shape: Shape) -> list[list[Calls]]:
        """The calls of each layer that still has seats, and last of the aggregator, as if all proposals fitted."""
        words = count = 0  # of the proposals of the layer before
        layers = []
        for agents, samples in zip(self.agents, shape, strict=True):
            layer = [
                Calls(agent, asked, self.proposer.tokens(agent.system, count, words), longest)
                for (agent, longest), asked in zip(agents, samples, strict=True)
                if asked
            ]
            if layer:
                layers.append(layer)
                words = sum(calls.count * RETOLD * calls.said for calls in layer)
                count = sum(calls.count for calls in layer)
        return [*layers, [self.aggregation(count, words)]]

    def aggregation(self, count: int, words: int) -> Calls:
        """The aggregator's calls: one, or as many as its window makes necessary where it reads in steps."""
        agent = self.recipe.aggregator
        said = self.longest(agent, self.caller.max_tokens)
        asked = self.aggregator.tokens(agent.system, count, words)
        windows = [window for name in agent.models if (window := self.info[name].window)]
        if self.drafter is None or not windows or asked + said <= min(windows):
            return Calls(agent, 1, asked, said)
        # Each step but the first reads the draft of the step before.
        words += RETOLD * said
        readings = self.aggregator, self.drafter
        asked = max(reading.tokens(agent.system, count + 1, words) for reading in readings)
        # This much of a window is left for proposals. Steps that follow each other read more than one such room.
        room = min(windows) - said - max(reading.tokens(agent.system, count + 1, RETOLD * said) for reading in readings)
        steps = count if room <= 0 else min(count, 1 + 2 * words // room)
        return Calls(agent, max(1, steps), asked, said)

    def cost(self, calls: Calls, sampling: Sampling) -> dict[str, Decimal]:
        """The dollars of the calls for the run and for each provider, each by the dearest model that may answer."""
        cost: dict[str, Decimal] = {}
        for name in calls.agent.models:
            dollars = calls.count * self.price(name, calls.asked, limit_of(self.info[name], sampling))
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
