"""Computes the most tokens and dollars of each layer of a recipe, for the whole recipe or a part of its seats.

A layer reads the longest possible proposals of the layer before, or the longest of them that a seat may see, and all
comments on them. Each call costs as much as the dearest model that may
answer it: the agent's own or a fallback. The prompt of a role beside the proposals comes from `briefing`, as do the
messages that are sent.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from partsong.analysis import LEAST_PROPOSALS, SCHEMA
from partsong.briefing import Brief, brief, instructed, longest_marks, role_of_aggregator, role_of_layer, system_of
from partsong.model import Conversation, Request, Sampling
from partsong.model_info import ModelInfo
from partsong.money.budget import Dollars, dearest, limit_of, provider_of
from partsong.prompts import with_documents
from partsong.recipe import Agent, Layer, Recipe
from partsong.sources import MOST_TOKENS
from partsong.toolbox import MOST_CALLS, NO_OFFERS, USUAL_RESULT, Offer, Offers
from partsong.wire.tokens import TOKENS_A_MESSAGE, estimate, estimate_tokens

# Tokens of a proposal in its reader's prompt for each token that its author wrote. Tokenizers differ, and the high
# estimate of prose is twice its tokens.
RETOLD = 2
# Growth of proposals whose tool calls are listed. The shortest tool call grows most: `<call tool="x"></call>` becomes
# `[proposed call 100]` and the line `100. proposed by 1 of 100: x {}`.
LISTED = Decimal("2.5")
MARKS_A_RESULT = 150  # tokens of the marks and the note around the result of a tool call, and of its message
STEP = 64  # tokens: the input of a call is rounded up to a multiple, so that similar calls are priced once

Shape = list[list[int]]  # shape[i][j]: number of samples that are asked of the agent j of the layer i


class Calls(Struct, frozen=True):
    """The planned calls of one agent in one layer.

    count: number of calls
    asked: most input tokens of each call
    said: most output tokens of each call
    grown: for an agent that looks things up, most input tokens that each round of tool calls adds to the next call
    dollars: for such an agent, most dollars of all its tool calls
    """

    agent: Agent
    count: int
    asked: int
    said: int
    grown: int = 0
    dollars: Decimal = Decimal(0)

    @property
    def rounds(self) -> int:
        """Most rounds of tool calls in each of these calls, each of which is one more call."""
        return self.agent.rounds if self.grown else 0

    @property
    def most_asked(self) -> int:
        """Most input tokens of all these calls."""
        return self.count * sum(self.asked + self.grown * made for made in range(self.rounds + 1))

    @property
    def most_said(self) -> int:
        """Most output tokens of all these calls."""
        return self.count * (self.rounds + 1) * self.said


class Free(Struct, frozen=True):
    """What of a recipe costs nothing, because it is found in an earlier run.

    seats: seats[i][j] is the number of such samples of the agent j of the layer i
    analysis: whether the analysis is found
    """

    seats: Shape
    analysis: bool = False


class Read(Struct, frozen=True):
    """What a call reads beside the conversation: some of the proposals on the table, and comments.

    count: number of texts, comments included
    words: most tokens of all these texts together
    comments: number of comments
    widest: number of proposals on the table if the texts carry their numbers there; 0 if they are numbered from 1
    """

    count: int = 0
    words: int = 0
    comments: int = 0
    widest: int = 0


class Laid(Struct, frozen=True):
    """What a layer finds, as planned: the calls that write the proposals, and those that write comments on them."""

    proposals: tuple[Calls, ...] = ()
    comments: tuple[Calls, ...] = ()

    def after(self, layer: Layer, calls: Sequence[Calls]) -> "Laid":
        """What the next layer finds after these calls of `layer`."""
        return Laid(self.proposals, (*self.comments, *calls)) if layer.comments else Laid(tuple(calls))

    def read(self, layer: Layer | None = None, seats: int = 1) -> Read:
        """The most that one seat reads.

        layer: the layer that reads; `None` (default) for the aggregator, which reads everything
        seats: number of seats of this layer
        """
        count = sum(calls.count for calls in self.proposals)
        comments = sum(calls.count for calls in self.comments)
        shown = count if layer is None else most_seen(layer, count, seats)
        if not shown:
            return Read()
        words = _longest(self.proposals, shown) + _longest(self.comments, comments)
        widest = count if comments or shown < count else 0
        return Read(shown + comments, words, comments, widest)


class Reading:
    """Computes the most input tokens of one role.

    told: the brief of the role
    conversation: estimated tokens of the messages, tools and schema that the role sees
    """

    def __init__(self, told: Brief, conversation: int | None = None) -> None:
        seen = told.conversation
        request = Request(seen.messages, tools=seen.tools, response_format=seen.response_format)
        self.brief = told
        self.conversation = estimate_tokens(request) if conversation is None else conversation
        self._marks: dict[tuple[int, int, int], int] = {}

    def instructed(self, layer: Layer, agent: Agent) -> "Reading":
        """The same for an agent of this layer, which may have an instruction of its own."""
        return Reading(instructed(self.brief, layer, agent), self.conversation)

    def tokens(self, system: str, read: Read) -> int:
        """The most tokens of a prompt.

        system: the agent's own system prompt
        read: what the prompt has beside the conversation
        """
        own = TOKENS_A_MESSAGE + estimate(system) if system else 0
        return self.conversation + own + self.marks(read) + self.retold(read.words)

    def marks(self, read: Read) -> int:
        """The tokens of the instruction and of the marks around the texts."""
        key = read.count, read.comments, read.widest
        if key not in self._marks:
            sources = MOST_TOKENS if self.brief.has_sources else 0
            self._marks[key] = estimate_tokens(Request(longest_marks(self.brief, *key))) + sources
        return self._marks[key]

    def retold(self, words: int) -> int:
        """The most tokens of the proposals' text in the prompt, where proposed tool calls may be listed again.

        words: tokens of the proposals as they were written
        """
        return int(LISTED * words) + 1 if self.brief.lists_calls else words


class Costs:
    """Computes the most dollars of a recipe's layers for any shape, that is for any part of its seats.

    free: what costs nothing, with the whole recipe as the shape; `None` if everything is asked
    offers: the tools that agents may use; those of unknown servers are taken to return much
    info: facts about each model of the recipe, by id
    caller: the caller's sampling for the answer
    known: prices that were computed before, by model, input tokens and output tokens
    agents: for each layer, its agents, each with the most output tokens of an answer
    readings: for each layer, what each of its agents reads
    """

    def __init__(
        self,
        recipe: Recipe,
        conversation: Conversation,
        info: Mapping[str, ModelInfo],
        free: Free | None = None,
        offers: Offers = NO_OFFERS,
    ) -> None:
        self.recipe, self.info, self.free, self.offers = recipe, info, free, offers
        self.callers_tools = bool(conversation.tools)
        # A model that takes files may be the dearest of those that can answer: then files are counted for all.
        sent = any(known.documents for known in info.values())
        conversation = replace(conversation, messages=with_documents(conversation.messages, sent=sent))
        role = role_of_aggregator(recipe, conversation)
        # Nothing can ask the aggregator of a vote that fails without a majority.
        self.aggregator = None if role is None else Reading(brief(recipe, conversation, role))
        self.drafter = Reading(brief(recipe, conversation, "drafter")) if recipe.in_steps else None
        self.analyst = None if recipe.analyst is None else Reading(brief(recipe, conversation, "analyst"))
        # The caller limits the answer, but an aggregator that selects writes only a number.
        self.caller = Sampling() if role == "selector" else conversation.sampling
        self.known: dict[tuple[str, int, int], Decimal] = {}
        self.agents = [[(agent, self.longest(agent)) for agent in layer.agents] for layer in recipe.layers]
        self.readings = _readings(recipe, conversation)

    def longest(self, agent: Agent, instead: int | None = None) -> int:
        """The most output tokens of an answer, whichever of the agent's models gives it.

        instead: token limit that replaces the agent's own; `None` (default) for the agent's
        """
        sampling = agent.sampling if instead is None else Sampling(max_tokens=instead)
        return max(limit_of(self.info[name], sampling) for name in agent.models)

    def total(self, shape: Shape) -> Dollars:
        """The most dollars of the whole run, by scope."""
        return added(self.layers(shape))

    def layers(self, shape: Shape) -> list[dict[str, Decimal]]:
        """The most dollars by scope, for each layer that has seats in `shape`, the analyst, and last the aggregator.

        There is an entry for the analyst only if the recipe has one.
        """
        *layers, aggregator = self.calls(shape)
        costs = [added([self.cost(calls, calls.agent.sampling) for calls in layer]) for layer in layers]
        caller = self.caller.max_tokens
        last = [self.cost(calls, Sampling(max_tokens=caller or calls.agent.max_tokens)) for calls in aggregator]
        return [*costs, added(last)]

    def seats(self, shape: Shape) -> list[list[dict[str, Decimal]]]:
        """The most dollars by scope of the planned call of each seat, for each layer that has seats in `shape`."""
        layers = self.calls(shape)[: sum(map(any, shape))]
        return [
            [cost for calls in layer for cost in [self.cost(one(calls), calls.agent.sampling)] * calls.count]
            for layer in layers
        ]

    def calls(self, shape: Shape) -> list[list[Calls]]:
        """The calls of each layer that has seats in `shape`, the analyst's if the recipe has one, and last those of the
        aggregator, if it may be asked.

        Prompts count in full, as if no proposal had to be shortened.
        """
        laid, layers = Laid(), []
        for layer, agents, readings, samples in zip(self.recipe.layers, self.agents, self.readings, shape, strict=True):
            if not any(samples):
                continue
            read = laid.read(layer, sum(samples))
            calls = [
                self.looking_up(Calls(agent, asked, reading.tokens(system_of(agent), read), longest))
                for (agent, longest), reading, asked in zip(agents, readings, samples, strict=True)
                if asked
            ]
            layers.append(calls)
            laid = laid.after(layer, calls)
        if self.free is not None:
            layers = [
                [_fewer(calls, found) for calls, found in zip(layer, free, strict=True)]
                for layer, free in zip(layers, self.free.seats, strict=True)
            ]
        analysis = self.analysis(Laid(laid.proposals).read())
        said = 0 if analysis is None else RETOLD * analysis.count * analysis.said
        last = [] if self.aggregator is None else [self.aggregation(self.aggregator, laid.read(), said)]
        if analysis is None:
            return [*layers, last]
        if self.free is not None and self.free.analysis:
            analysis = _fewer(analysis, analysis.count)
        return [*layers, [analysis], last]

    def analysis(self, read: Read) -> Calls | None:
        """The analyst's call, of which there is none for less than two proposals; `None` without an analyst.

        read: what it reads beside the conversation: the proposals without the comments
        """
        if (agent := self.recipe.analyst) is None or self.analyst is None:
            return None
        # The schema is sent beside the prompt, and once more without it to a provider that takes no schemas. The first
        # of these calls is refused and costs nothing.
        asked = self.analyst.tokens(system_of(agent), read) + estimate_tokens(Request((), response_format=SCHEMA))
        return self.looking_up(Calls(agent, int(read.count >= LEAST_PROPOSALS), asked, self.longest(agent)))

    def aggregation(self, reading: Reading, read: Read, analysis: int = 0) -> Calls:
        """The aggregator's calls: one, or the most steps that its window makes necessary if it reads in steps.

        reading: computes the tokens of the aggregator's prompt
        read: what it reads beside the conversation and the analysis
        analysis: tokens of the analyst's words, which the last step reads (default 0)
        """
        agent = self.recipe.aggregator
        said = self.longest(agent, self.caller.max_tokens)
        read = replace(read, words=read.words + analysis)
        asked = reading.tokens(system_of(agent), read)
        windows = [window for name in agent.models if (window := self.info[name].window)]
        if self.drafter is None or not windows or asked + said <= min(windows):
            return self.looking_up(Calls(agent, 1, asked, said))
        # Each step but the first reads the draft of the step before.
        draft = RETOLD * said
        readings = reading, self.drafter
        step = Read(read.count + 1, read.words + draft, read.comments, read.widest)
        asked = max(each.tokens(system_of(agent), step) for each in readings)
        # Tokens of the window that are left for proposals. Any two steps in a row read more than one such room.
        bare = Read(read.count + 1, draft + analysis, read.comments, read.widest)
        room = min(windows) - said - max(each.tokens(system_of(agent), bare) for each in readings)
        steps = read.count if room <= 0 else min(read.count, 1 + 2 * step.words // room)
        return self.looking_up(Calls(agent, max(1, steps), asked, said))

    def looking_up(self, calls: Calls) -> Calls:
        """The calls with what their agent's tools add: descriptions, results, and the dollars of tool calls."""
        agent = calls.agent
        if not agent.tools or (agent is self.recipe.aggregator and self.callers_tools):
            return calls
        offers = [self.offers.get(name, Offer(longest_result=USUAL_RESULT)) for name in agent.tools]
        tools = tuple(each.tool for offer in offers for each in offer.tools)
        grown = max(offer.longest_result for offer in offers) + RETOLD * calls.said + MOST_CALLS * MARKS_A_RESULT
        dollars = calls.count * agent.rounds * MOST_CALLS * max(offer.dollars for offer in offers)
        return replace(calls, asked=calls.asked + estimate_tokens(Request((), tools)), grown=grown, dollars=dollars)

    def cost(self, calls: Calls, sampling: Sampling) -> dict[str, Decimal]:
        """The most dollars of these calls, for the run and for each provider whose model may answer."""
        cost: dict[str, Decimal] = {}
        for name in calls.agent.models:
            limit, rounds = limit_of(self.info[name], sampling), range(calls.rounds + 1)
            each = sum((self.price(name, calls.asked + calls.grown * made, limit) for made in rounds), Decimal(0))
            for scope in ("", provider_of(name)):
                cost[scope] = max(cost.get(scope, Decimal(0)), calls.count * each)
        if calls.dollars:
            cost[""] = cost.get("", Decimal(0)) + calls.dollars
        return cost

    def price(self, name: str, asked: int, said: int) -> Decimal:
        """The most dollars of one call to the model `name` with these input and output tokens; 0 if unknown."""
        asked = -(-asked // STEP) * STEP
        if (dollars := self.known.get((name, asked, said))) is None:
            dollars = self.known[name, asked, said] = dearest(self.info[name], asked, said) or Decimal(0)
        return dollars


def _fewer(calls: Calls, found: int) -> Calls:
    """The calls without those that are found."""
    left = calls.count - found
    return replace(calls, count=left, dollars=calls.dollars * left / max(1, calls.count))


def one(calls: Calls) -> Calls:
    """One of several equal calls."""
    return replace(calls, count=1, dollars=calls.dollars / max(1, calls.count))


def _readings(recipe: Recipe, conversation: Conversation) -> list[list[Reading]]:
    """For each layer, what each of its agents reads. Agents that are told the same share it."""
    roles = {layer.comments: role_of_layer(layer) for layer in recipe.layers}
    told = {comments: Reading(brief(recipe, conversation, role)) for comments, role in roles.items()}
    known: dict[tuple[bool, str | None, str | None], Reading] = {}
    for layer in recipe.layers:
        for agent in layer.agents:
            key = layer.comments, layer.instruction, agent.instruction
            if key not in known:
                known[key] = told[layer.comments].instructed(layer, agent)
    return [
        [known[layer.comments, layer.instruction, agent.instruction] for agent in layer.agents]
        for layer in recipe.layers
    ]


def most_seen(layer: Layer, count: int, seats: int) -> int:
    """The most of `count` proposals that one of the layer's `seats` reads."""
    match layer.sees:
        case "all":
            return count
        case "none":
            return 0
        case "split":
            return -(-count // seats)
        case int():
            return min(layer.sees, count)
        case _:
            assert_never(layer.sees)


def _longest(written: Sequence[Calls], count: int) -> int:
    """The most tokens, for their reader, of the `count` longest texts that these calls write."""
    words = 0
    for calls in sorted(written, key=lambda calls: -calls.said):
        taken = min(calls.count, count)
        words, count = words + taken * RETOLD * calls.said, count - taken
    return words


def added(costs: Sequence[Dollars]) -> dict[str, Decimal]:
    """The sum of the dollars in each scope."""
    total: dict[str, Decimal] = {}
    for cost in costs:
        for scope, dollars in cost.items():
            total[scope] = total.get(scope, Decimal(0)) + dollars
    return total
