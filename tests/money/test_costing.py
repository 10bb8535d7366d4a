"""The plan is never too small: what is planned to be read is at least our estimate of what the engine sends."""

import asyncio
import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Layer,
    Message,
    QuestionError,
    Recipe,
    Request,
    Send,
    Text,
    Usage,
)
from partsong.bounds import DEFAULTS
from partsong.engine import perform
from partsong.engine.proposed_tool_calls import gathered
from partsong.errors import RecipeError
from partsong.events import AnyEvent, RunFinished
from partsong.model import Sampling, Tool, ToolCall, ToolResult
from partsong.model_info import ModelInfo
from partsong.money.costing import LISTED, RETOLD, Calls, Costs
from partsong.money.planning import plan
from partsong.prompts import listed
from partsong.recipe import Advice, Analyst, Fit, Layout, Method, Otherwise, Sees
from partsong.recipe import replace as checked
from partsong.wire.tokens import estimate, estimate_tokens

TOOLS = (Tool("x", "Does it.", b'{"type":"object"}'), Tool("read_file", "Reads\na file.", b'{"properties":{"p":{}}}'))
CALLS = (
    '<call tool="x"></call>',
    '<call tool="x">\n{}\n</call>',
    '<call tool="x">{"":#}</call>',
    '<call tool="read_file">{"p": [#e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15,1e15]}</call>',
    '<call tool="read_file">{"p":"\\u00e9 is a letter"}</call>',
)


def a_dollar_a_token(usage: Usage) -> Decimal:
    return Decimal(usage.input_tokens)


@dataclass(slots=True)
class Recording:
    """A model that notes what it is sent, and writes as much as it may by our estimate."""

    info: ModelInfo
    pieces: tuple[str, ...]
    answer: str = ""
    truncated: bool = False
    sent: list[int] = field(default_factory=list)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.sent.append(estimate_tokens(request))
        limit = RETOLD * (request.sampling.max_tokens or 0)
        text = self.answer if estimate(self.answer) <= limit else "1"
        for number in itertools.count(100 * len(self.sent)):
            piece = self.pieces[number % len(self.pieces)].replace("#", str(number))  # so that no two calls are equal
            if self.answer or estimate(text + piece) > limit:
                break
            text += piece
        return Answer((Text(text or "1"),), "length" if self.truncated else "stop", Usage(1, 1))


@dataclass(slots=True)
class Comparing(Recording):
    """An analyst that notes what it is sent, and finds as many gaps as it may write."""

    letters: int = 1

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.sent.append(estimate_tokens(request))
        limit = RETOLD * (request.sampling.max_tokens or 0)
        gaps: list[str] = []
        for number in range(100):
            gap = (self.pieces[number % len(self.pieces)] * self.letters)[: self.letters] + str(number)
            if estimate(json.dumps({"gaps": [*gaps, gap]})) > limit:
                break
            gaps.append(gap)
        return Answer((Text(json.dumps({"gaps": gaps})),), "length" if self.truncated else "stop", Usage(1, 1))


PIECES = st.sampled_from(
    [
        ("word ",),
        ("Q1! ",),
        ("é",),
        ("…\n",),
        ("</proposal-0> {fence} {proposals} ",),
        CALLS,
        ("so: ", *CALLS),
        CALLS[2:3],
        CALLS[3:4],
    ]
)
SYSTEMS = st.sampled_from(["", "You are a poet.", "# Rules\n1. Be brief.\n2. Be right."])
LIMITS = st.sampled_from([1, 20, 100, 900])


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    tools = draw(st.sampled_from([(), (), TOOLS[:1], TOOLS]))
    messages = []
    if draw(st.booleans()):
        messages.append(Message("system", (Text("Be kind.", cache_control=draw(st.sampled_from(["", "ephemeral"]))),)))
    messages.append(Message("user", (Text("Why? " * draw(st.integers(1, 40))),)))
    for index in range(draw(st.integers(0, 3)) if tools else 0):
        call = f"call-{index}"
        messages.append(Message("assistant", (ToolCall(call, "x", "{}"),)))
        messages.append(Message("tool", (ToolResult(call, (Text("found " * draw(st.sampled_from([1, 900]))),)),)))
    schema = draw(st.sampled_from([None, None, None, b'{"type":"object"}']))
    limit = draw(st.sampled_from([None, None, 7, 400]))
    return Conversation(tuple(messages), tools=tools, response_format=schema, sampling=Sampling(max_tokens=limit))


@st.composite
def looking(draw: st.DrawFn, layer: Layer, layout: Layout) -> Layer:
    """The layer, which sees a part of the proposals before it, comments on them, or has instructions of its own."""
    told = st.sampled_from([None, None, "Mind {fence}, and these: {proposals} Now write!", "Weigh:"])
    comments = layout == "tail" and draw(st.booleans())
    sees: list[Sees] = ["all", "split", 1, 2, 5] if comments else ["all", "none", "split", 1, 2, 3, 20]
    agents = tuple(replace(agent, instruction=draw(told)) for agent in layer.agents)
    return Layer(agents, sees=draw(st.sampled_from(sees)), comments=comments, instruction=draw(told))


@st.composite
def recipes(draw: st.DrawFn, method: Method, otherwise: Otherwise = "synthesize") -> Recipe:
    layers = []
    for number in range(draw(st.integers(0 if method == "synthesize" else 1, 3))):
        agents = [
            Agent(
                f"m:{number}-{index}",
                draw(st.integers(1 if method != "vote" else 2, 4)),
                max_tokens=draw(LIMITS),
                system=draw(SYSTEMS),
            )
            for index in range(draw(st.integers(1, 3)))
        ]
        layers.append(Layer(tuple(agents)))
    layouts: list[Layout] = ["tail", "paper"]
    layout = draw(st.sampled_from(layouts))
    if draw(st.booleans()):
        layers = [layers[0], *(draw(looking(layer, layout)) for layer in layers[1:])] if layers else []
    fits: list[Fit] = ["truncate", "window"]
    advices: list[Advice] = ["user_turn", "every_step", "calls", 2]
    made = Recipe(
        "r",
        tuple(layers),
        Aggregator(
            "m:last",
            max_tokens=draw(LIMITS),
            system=draw(SYSTEMS),
            method=method,
            otherwise=otherwise,
            instruction=draw(st.sampled_from([None, None, None, "Answer {fence}: {proposals} as one."])),
        ),
        layout=layout,
        instruction=draw(st.sampled_from([None, None, "Unite {fence}: {proposals} Now!", "Weigh:"])),
        fit=draw(st.sampled_from(fits)),
        advice=draw(st.sampled_from(advices)),
        max_dollars=Decimal("1e15"),
    )
    if draw(st.booleans()):
        with suppress(RecipeError):  # too few seats to compare, or nothing reads the analysis
            return checked(made, analyst=Analyst("m:analyst", max_tokens=draw(LIMITS), system=draw(SYSTEMS)))
    return made


def planned_for(costs: Costs, recipe: Recipe) -> Mapping[str, Calls]:
    """What each model of the recipe is planned to read; each agent has a model of its own."""
    full = [[agent.samples for agent in layer.agents] for layer in recipe.layers]
    return {calls.agent.model: calls for layer in costs.calls(full) for calls in layer}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), conversation=conversations(), window=st.sampled_from([None, 3000, 6000, 20_000]))
def test_no_call_reads_more_than_was_planned(
    data: st.DataObject, conversation: Conversation, window: int | None
) -> None:
    prose = not conversation.tools and conversation.response_format is None
    method: Method = data.draw(st.sampled_from(["synthesize", "select", "vote"])) if prose else "synthesize"
    otherwise: Otherwise = data.draw(st.sampled_from(["synthesize", "select"]))
    recipe = data.draw(recipes(method, otherwise))
    models = {
        name: Recording(ModelInfo(dollars=a_dollar_a_token), data.draw(PIECES), truncated=data.draw(st.booleans()))
        for name in recipe.models
    }
    if recipe.analyst is not None:
        models["m:analyst"] = Comparing(
            ModelInfo(dollars=a_dollar_a_token), data.draw(PIECES), letters=data.draw(st.sampled_from([1, 20, 1900]))
        )
    last = models[recipe.aggregator.model]
    last.info = ModelInfo(window, dollars=a_dollar_a_token)
    last.answer, last.truncated = "1" if recipe.aggregator.when_asked == "select" else "" if prose else "{}", False
    heard: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        heard.append(event)

    planned = plan(recipe, conversation, models, {})
    assert planned.recipe is recipe
    with suppress(QuestionError):  # a conversation that the aggregator's window does not hold
        asyncio.run(perform(recipe, conversation, models, hear, watch=False))
    costs = Costs(recipe, conversation, {name: model.info for name, model in models.items()})
    calls = planned_for(costs, recipe)
    read = 0
    for name, model in models.items():
        if (heard and isinstance(heard[-1], RunFinished)) or name != recipe.aggregator.model:
            assert len(model.sent) <= calls[name].count
        assert max(model.sent, default=0) <= calls[name].asked
        read += sum(model.sent)
    assert read <= planned.worst[""]


@given(st.lists(st.lists(st.sampled_from(CALLS), min_size=1, max_size=30), min_size=1, max_size=8))
def test_listed_calls_are_at_most_so_much_longer_than_the_texts_that_they_come_from(pieces: list[list[str]]) -> None:
    number = itertools.count()
    texts = tuple("".join(piece.replace("#", str(next(number))) for piece in each) for each in pieces)
    told, calls = asyncio.run(gathered(Conversation((), tools=TOOLS), texts, DEFAULTS))
    assert calls
    after = sum(map(estimate, told)) + estimate(calls) - estimate(listed((), 0))
    assert after <= LISTED * sum(map(estimate, texts)) + 1
