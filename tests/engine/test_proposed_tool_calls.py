"""Calls that proposers propose: found in their texts, counted, and shown to whoever acts."""

import json
import re
import time

import pytest
from msgspec.structs import replace

import partsong
from partsong import Agent, Aggregator, Answer, Conversation, Layer, Message, Model, Recipe, Request, Send, Tool
from partsong.bounds import DEFAULTS, Bounds
from partsong.engine.proposed_tool_calls import gathered
from partsong.model import Text, TextDelta, ToolCall, ToolResult, Usage
from partsong.model_info import ModelInfo
from partsong.money.costing import Costs
from partsong.recipe import Advice
from partsong.wire.tokens import estimate_tokens

SCHEMA = b'{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}'
TOOLS = (Tool("weather", "Tells the weather.\nIn any city.", SCHEMA), Tool("clock"))
ASKED = Conversation((Message("user", (Text("Is it raining in Rome?"),)),), TOOLS)
RECIPE = Recipe("calls", (Layer((Agent("t:a"), Agent("t:b"), Agent("t:c"))),), Aggregator("t:z"), advice="calls")


def call(arguments: str, name: str = "weather") -> str:
    return f'<call tool="{name}">\n{arguments}\n</call>'


ROME = call('{"city": "Rome", "days": 2}')
AGAIN = call('{ "days":2,"city":"\\u0052ome" }')
CLOCK = call("{}", "clock")
TEXTS = (
    f"Look.\n{CLOCK}\n{ROME}\nThen answer.",
    f"Rome first.\n{AGAIN} And again: {ROME}",
    "No call is needed.",
)


class Speaker:
    """Says this, and keeps what it was asked."""

    def __init__(self, text: str, info: ModelInfo | None = None) -> None:
        self.text, self.info, self.requests = text, info or ModelInfo(), list[Request]()

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.requests.append(request)
        if send is not None:
            await send(TextDelta(self.text))
        return Answer((Text(self.text),), usage=Usage(1, 1))


def speakers(*texts: str, info: ModelInfo | None = None) -> dict[str, Speaker]:
    made = {f"t:{name}": Speaker(text) for name, text in zip("abc", texts, strict=True)}
    return made | {"t:z": Speaker("It rains.", info)}


async def asked(
    recipe: Recipe = RECIPE,
    conversation: Conversation = ASKED,
    texts: tuple[str, ...] = TEXTS,
    window: int | None = None,
) -> tuple[Request, Request]:
    """What a proposer was asked, and the aggregator."""
    made = speakers(*texts, info=ModelInfo(window))
    models: dict[str, Model] = dict(made)
    await partsong.run(recipe, conversation, models)
    return made["t:a"].requests[0], made["t:z"].requests[0]


async def test_equal_calls_are_counted_together_whatever_their_order_and_spacing() -> None:
    texts, calls = await gathered(ASKED, TEXTS, DEFAULTS)
    assert calls.splitlines()[-2:] == [
        '1. proposed by 2 of 3: weather {"city":"Rome","days":2}',
        "2. proposed by 1 of 3: clock {}",
    ]
    assert texts == (
        "Look.\n[proposed call 2]\n[proposed call 1]\nThen answer.",
        "Rome first.\n[proposed call 1] And again: [proposed call 1]",
        "No call is needed.",
    )


@pytest.mark.parametrize(
    "text",
    [
        call('{"city": "Rome"}', "forecast"),
        call('{"city": 3}'),
        call("{}"),
        call('{"city": "Rome"'),
        call('{"city": "Rome"} or so'),
        call('["Rome"]'),
        call('{"city": "Rome", "days": NaN}'),
        call('{"city": "\\ud800"}'),
        call('{"city": ' + "[" * 100_000),
        '<call tool="weather">{"city": "Rome"}',
        '<call name="weather">{"city": "Rome"}</call>',
        'weather({"city": "Rome"})',
        "",
    ],
)
async def test_what_could_not_be_called_is_not_counted_and_stays_as_words(text: str) -> None:
    assert await gathered(ASKED, (text,), DEFAULTS) == ((text,), "")
    texts, calls = await gathered(ASKED, (f"{text}\n{ROME}", ROME), DEFAULTS)
    assert texts == (f"{text}\n[proposed call 1]", "[proposed call 1]")
    assert calls.endswith('\n1. proposed by 2 of 2: weather {"city":"Rome","days":2}')


async def test_a_schema_that_needs_a_process_is_checked_too() -> None:
    """Whatever it costs: a proposed tool call that cannot be checked in time is not counted."""
    city = {"type": "object", "properties": {"city": {"type": "string", "pattern": "^R"}}, "required": ["city"]}
    twice = {"properties": {"a": {"$ref": "#"}}, "required": ["z"]}
    tools = (Tool("city", "", json.dumps(city).encode()), Tool("deep", "", json.dumps({"anyOf": [twice] * 2}).encode()))
    asked = Conversation((), tools=tools)
    right, wrong = call('{"city": "Rome"}', "city"), call('{"city": "Oslo"}', "city")
    texts, calls = await gathered(asked, (f"{right} {wrong}", right), DEFAULTS)
    assert texts == (f"[proposed call 1] {wrong}", "[proposed call 1]")
    assert calls.endswith('\n1. proposed by 2 of 2: city {"city":"Rome"}')
    endless = call('{"a":' * 40 + "1" + "}" * 40, "deep")
    texts, calls = await gathered(asked, (right + endless * 50,), DEFAULTS)
    assert texts == ("[proposed call 1]" + endless * 50,)


async def test_beginnings_without_an_end_take_little_time() -> None:
    """Each of them could be a string up to the end of the text: 60,000 of them took minutes."""
    text = '<call tool="weather">{"city": "' * 60_000
    began = time.thread_time()
    assert await gathered(ASKED, (text,) * 3, DEFAULTS) == ((text,) * 3, "")
    assert time.thread_time() - began < 5  # a hundred times what it takes
    many = (ROME * 5, ROME)
    texts, _ = await gathered(ASKED, many, Bounds(proposed_calls=2))
    assert texts == ("[proposed call 1]" * 2 + ROME * 3, "[proposed call 1]")


async def test_the_choice_of_tools_holds_for_proposals_too() -> None:
    _, calls = await gathered(replace(ASKED, tool_choice="clock"), TEXTS, DEFAULTS)
    assert calls.endswith("\n1. proposed by 1 of 3: clock {}")


async def test_of_long_arguments_the_list_shows_the_beginning_and_the_end() -> None:
    (text,), calls = await gathered(ASKED, (call('{"city": "' + "R" * 9000 + 'x"}'),), DEFAULTS)
    assert text == "[proposed call 1]"
    assert len(calls) < 5000
    assert "of 9,012 characters left out" in calls
    assert calls.endswith('Rx"}')


async def test_proposers_are_told_the_schemas_and_the_form_and_the_aggregator_the_counts() -> None:
    proposer, aggregator = await asked()
    told = proposer.messages[0].text
    assert "weather: Tells the weather.\nIn any city.\n" + SCHEMA.decode() in told
    assert '<call tool="NAME">' in told
    assert proposer.tools == ()
    assert aggregator.tools == TOOLS
    last = aggregator.messages[-1].text
    assert '1. proposed by 2 of 3: weather {"city":"Rome","days":2}\n2. proposed by 1 of 3: clock {}\n</' in last
    assert "[proposed call 2]\n[proposed call 1]\nThen answer." in last
    assert "<call" not in last
    assert "have no tools" in last


@pytest.mark.parametrize(
    ("advice", "conversation"),
    [("every_step", ASKED), ("calls", replace(ASKED, tool_choice="none")), ("calls", replace(ASKED, tools=()))],
    ids=["not asked for", "no tool may be called", "no tools"],
)
async def test_else_nobody_proposes_calls(advice: Advice, conversation: Conversation) -> None:
    proposer, aggregator = await asked(replace(RECIPE, advice=advice), conversation)
    assert "<call" not in "".join(message.text for message in proposer.messages)
    assert "<call" in aggregator.messages[-1].text
    assert "proposed by" not in aggregator.messages[-1].text


async def test_the_layout_of_the_paper_lists_them_too() -> None:
    _, aggregator = await asked(replace(RECIPE, layout="paper"))
    assert aggregator.messages[0].role == "system"
    assert aggregator.messages[0].text.endswith("\n2. proposed by 1 of 3: clock {}")


async def test_a_window_is_fitted_with_the_list_in_it() -> None:
    texts = (f"{'Look at the sky over Rome. ' * 400}{ROME}", ROME, ROME)
    _, whole = await asked(texts=texts)
    window = estimate_tokens(whole) // 2
    _, cut = await asked(texts=texts, window=window)
    assert estimate_tokens(cut) < window
    assert "proposed by 3 of 3" in cut.messages[-1].text


async def test_marks_of_the_fence_are_taken_out_of_the_answer() -> None:
    class Copying(Speaker):
        async def __call__(self, request: Request, send: Send | None) -> Answer:
            marks = re.findall(r"</?proposal-[^<>]*>", request.messages[-1].text)
            self.text = f"It {marks[-2]}rains.{marks[-1]}"
            return await super().__call__(request, send)

    models: dict[str, Model] = {**speakers(*TEXTS), "t:z": Copying("")}
    transcript = await partsong.run(RECIPE, ASKED, models)
    assert transcript.text == "It rains."


@pytest.mark.parametrize("advice", ["user_turn", "every_step", "calls"])
async def test_what_is_planned_is_no_less_than_what_is_read(advice: Advice) -> None:
    result = Message("tool", (ToolResult("c", (Text("Noon. " * 300),)),))
    long = replace(ASKED, messages=(*ASKED.messages, Message("assistant", (ToolCall("c", "clock", "{}"),)), result))
    recipe = replace(RECIPE, advice=advice)
    texts = (f"{'Look. ' * 60}{ROME}{CLOCK}", f"{'Look. ' * 60}{ROME}", ROME)
    agents = tuple(
        replace(agent, max_tokens=-(-estimate_tokens(_said(text)) // 2))
        for agent, text in zip(recipe.layers[0].agents, texts, strict=True)
    )
    recipe = replace(recipe, layers=(Layer(agents),))
    costs = Costs(recipe, long, {name: ModelInfo() for name in recipe.models})
    (proposers, (aggregator,)) = costs.calls([[1, 1, 1]])
    proposer, acting = await asked(recipe, long, texts)
    assert proposers[0].asked >= estimate_tokens(proposer)
    assert aggregator.asked >= estimate_tokens(acting)


def _said(text: str) -> Request:
    return Request((Message("user", (Text(text),)),))
