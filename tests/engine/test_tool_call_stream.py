"""Tools: proposers advise once a turn, the aggregator acts, and whatever it emits is checked."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import partsong
from partsong import Agent, Aggregator, Answer, Conversation, Layer, Message, Recipe, Request, Send, Tool, Transcript
from partsong.engine.tool_call_stream import SHORT
from partsong.errors import QuestionError, RunError
from partsong.events import AggregationDelta, AnyEvent
from partsong.middleware.cache import Cache
from partsong.model import Model, Text, TextDelta, ToolCall, ToolCallDelta, ToolResult, Usage
from partsong.store import open_store
from partsong.wire import messages

SCHEMA = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
TOOLS = (Tool("weather", "Tells the weather.\nIn any city.", SCHEMA), Tool("clock"))
ASKED = Conversation((Message("user", (Text("Is it raining in Rome?"),)),), TOOLS)


class Actor:
    """A model that emits these calls, one list for each time that it is asked; and keeps what it was asked."""

    def __init__(self, *steps: list[tuple[str, str]] | str) -> None:
        self.steps, self.requests = list(steps), list[Request]()

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.requests.append(request)
        step = self.steps[min(len(self.requests), len(self.steps)) - 1]
        if isinstance(step, str):
            if send is not None:
                await send(TextDelta(step))
            return Answer((Text(step),), usage=Usage(1, 1))
        number = len(self.requests)
        calls = tuple(ToolCall(f"c{number}.{at}", name, arguments) for at, (name, arguments) in enumerate(step))
        if send is not None:
            for at, call in enumerate(calls):
                half = len(call.arguments) // 2
                await send(ToolCallDelta(at, call.id, call.name, call.arguments[:half]))
                await send(ToolCallDelta(at, arguments=call.arguments[half:]))
        return Answer(calls, "tool_calls", Usage(1, 1))


RECIPE = Recipe("acting", (Layer((Agent("t:a"), Agent("t:b"), Agent("t:c"))),), Aggregator("t:z"))
GOOD = ("weather", '{"city": "Rome"}')


async def acted(
    actor: Actor, conversation: Conversation = ASKED, **changes: object
) -> tuple[Transcript, list[ToolCallDelta]]:
    """The transcript of a run whose aggregator is the actor, and the deltas of calls that were heard."""
    models = {"t:a": Actor("Look."), "t:b": Actor("Ask."), "t:c": Actor("Wait."), "t:z": actor}
    heard, transcript = list[ToolCallDelta](), Transcript()
    async with partsong.stream(replace(RECIPE, **changes), conversation, models) as events:
        async for event in events:
            transcript.hear(event)
            delta = getattr(event, "delta", None)
            if isinstance(delta, ToolCallDelta):
                heard.append(delta)
    return transcript, heard


async def test_calls_reach_the_listener_as_calls() -> None:
    actor = Actor([GOOD, ("clock", "{}")])
    transcript, heard = await acted(actor)
    assert transcript.answer is not None
    assert [part.name for part in transcript.answer.parts if isinstance(part, ToolCall)] == ["weather", "clock"]
    assert "".join(delta.arguments for delta in heard if delta.index == 0) == GOOD[1]
    assert len(heard) == 4
    (request,) = actor.requests
    assert request.tools == TOOLS
    assert request.messages[0] == ASKED.messages[0]
    assert "have no tools" in request.messages[-1].text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("forecast", "{}"), "There is no tool forecast"),
        (("weather", '{"city": 3}'), ".city"),
        (("weather", "{}"), "required"),
        (("weather", '{"city": "Ro'), "no JSON object"),
        (("weather", "[]"), "no JSON object"),
    ],
)
async def test_a_wrong_call_is_written_again_before_anyone_hears_it(wrong: tuple[str, str], said: str) -> None:
    actor = Actor([wrong], [GOOD])
    transcript, heard = await acted(actor)
    assert [(delta.name, delta.arguments) for delta in heard] == [GOOD]
    assert said in actor.requests[1].messages[-1].text
    assert transcript.usage.output_tokens == 3 + 2


async def test_a_call_that_is_wrong_twice_fails_the_run() -> None:
    transcript, heard = await acted(Actor([("forecast", "{}")]))
    assert transcript.error is not None
    assert transcript.error.cause == "invalid"
    assert heard == []


@pytest.mark.parametrize(
    ("choice", "wrong"),
    [("required", "It rains."), ("clock", [GOOD]), ("none", [GOOD])],
)
async def test_the_choice_of_tools_holds(choice: str, wrong: list[tuple[str, str]] | str) -> None:
    right: list[tuple[str, str]] | str = "It rains." if choice == "none" else [("clock", "{}")]
    actor = Actor(wrong, right)
    transcript, _ = await acted(actor, replace(ASKED, tool_choice=choice))
    assert transcript.error is None
    assert len(actor.requests) == 2


async def test_one_call_at_a_time_is_the_first() -> None:
    actor = Actor([GOOD, ("clock", "{}")])
    transcript, heard = await acted(actor, replace(ASKED, parallel_tool_calls=False))
    assert transcript.answer is not None
    assert len(transcript.answer.parts) == 1
    assert {delta.index for delta in heard} == {0}
    assert actor.requests[0].parallel_tool_calls is False


LONG = "weather", '{"city": "' + "R" * 600 + '"}'
FALSE = "weather", '{"town": "' + "R" * 600 + '"}'


class Writer:
    """Writes calls in pieces of ten characters, and notes how much of them had been heard after each."""

    def __init__(self, *steps: list[tuple[str, str]]) -> None:
        self.steps, self.asked = steps, 0
        self.heard, self.after = list[ToolCallDelta](), list[int]()

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        calls = self.steps[min(self.asked, len(self.steps) - 1)]
        self.asked += 1
        for at, (name, arguments) in enumerate(calls) if send is not None else ():
            assert send is not None
            await send(ToolCallDelta(at, f"c{at}", name))
            for start in range(0, len(arguments), 10):
                await send(ToolCallDelta(at, arguments=arguments[start : start + 10]))
                self.after.append(len(self.heard))
        return Answer(tuple(ToolCall(f"c{at}", *call) for at, call in enumerate(calls)), "tool_calls", Usage(1, 1))


async def written(writer: Writer, conversation: Conversation = ASKED, **changes: object) -> Transcript:
    models: dict[str, Model] = {name: Actor("Look.") for name in ("t:a", "t:b", "t:c")}
    models |= {"t:z": writer, "t:y": Actor([GOOD])}
    transcript = Transcript()

    async def hear(event: AnyEvent) -> None:
        transcript.hear(event)
        if isinstance(event, AggregationDelta) and isinstance(event.delta, ToolCallDelta):
            writer.heard.append(event.delta)

    await partsong.perform(replace(RECIPE, **changes), conversation, models, hear)
    return transcript


def arguments_of(heard: list[ToolCallDelta], index: int) -> str:
    return "".join(delta.arguments for delta in heard if delta.index == index)


async def test_a_long_call_is_heard_as_it_comes_and_a_short_one_when_it_is_whole() -> None:
    writer = Writer([GOOD, LONG])
    transcript = await written(writer)
    assert transcript.error is None
    assert [(delta.id, delta.name) for delta in writer.heard if delta.name] == [("c0", "weather"), ("c1", "weather")]
    assert (arguments_of(writer.heard, 0), arguments_of(writer.heard, 1)) == (GOOD[1], LONG[1])
    short = -(-len(GOOD[1]) // 10)
    assert writer.after[: short + SHORT // 10] == [0] * (short + SHORT // 10)
    live = writer.after[short + SHORT // 10 :]
    assert live == list(range(live[0], live[0] + len(live)))
    assert len(writer.heard) == live[-1]


@pytest.mark.parametrize("wrong", [[FALSE], [GOOD, FALSE]], ids=["alone", "second"])
async def test_what_was_heard_of_a_wrong_call_is_not_written_again(wrong: list[tuple[str, str]]) -> None:
    writer = Writer(wrong, [GOOD])
    transcript = await written(writer, aggregator=Aggregator("t:z", fallback=("t:y",)))
    assert transcript.error is not None
    assert transcript.error.cause == "invalid"
    assert arguments_of(writer.heard, len(wrong) - 1) == FALSE[1]
    assert writer.asked == 1


@pytest.mark.parametrize(
    ("wrong", "choice"),
    [([("forecast", LONG[1])], None), ([LONG], "clock"), ([("weather", '{"city": 3}'), LONG], None)],
    ids=["undeclared", "not the one", "after a wrong one"],
)
async def test_nothing_is_heard_of_a_long_call_that_is_wrong_from_the_start(
    wrong: list[tuple[str, str]], choice: str | None
) -> None:
    right = ("clock", "{}") if choice else GOOD
    writer = Writer(wrong, [right])
    transcript = await written(writer, replace(ASKED, tool_choice=choice))
    assert transcript.error is None
    assert [(delta.name, delta.arguments) for delta in writer.heard] == [right]
    assert writer.asked == 2


async def test_of_one_call_at_a_time_a_long_second_is_never_heard() -> None:
    writer = Writer([GOOD, LONG])
    transcript = await written(writer, replace(ASKED, parallel_tool_calls=False))
    assert transcript.error is None
    assert {delta.index for delta in writer.heard} == {0}
    assert arguments_of(writer.heard, 0) == GOOD[1]


async def test_the_arguments_of_an_eager_tool_are_heard_from_the_first_letter() -> None:
    tools = (replace(TOOLS[0], eager=True), TOOLS[1])
    writer = Writer([GOOD])
    await written(writer, replace(ASKED, tools=tools))
    assert writer.after == [2, 3]
    writer = Writer([("clock", "{}"), GOOD])
    await written(writer, replace(ASKED, tools=tools))
    assert writer.after == [0, 4, 5]  # what comes before it is whole by then


def test_a_client_says_which_tools_are_eager_and_so_does_what_is_sent_on() -> None:
    given = {"name": "save", "input_schema": {"type": "object"}, "eager_input_streaming": True}
    other = {"name": "look", "input_schema": {"type": "object"}}
    turns = [{"role": "user", "content": "Save it."}]
    asked = messages.parse_request(
        msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": turns, "tools": [given, other]})
    )
    tools = asked.conversation.tools
    assert [tool.eager for tool in tools] == [True, False]
    sent = messages.body(Request(asked.conversation.messages, tools=tools), "claude", stream=True)
    assert sent["tools"] == [given, other]


async def test_calls_that_a_model_tells_only_at_its_end_are_heard_too() -> None:
    async def mute(request: Request, send: Send | None) -> Answer:
        return Answer((ToolCall("c0", *GOOD), ToolCall("c1", "clock", "{}")), "tool_calls", Usage(1, 1))

    _, heard = await acted(mute)  # type: ignore[arg-type]
    assert [(delta.index, delta.name, delta.arguments) for delta in heard] == [(0, *GOOD), (1, "clock", "{}")]


async def test_an_answer_with_a_schema_fits_it_or_the_run_fails() -> None:
    conversation = Conversation(ASKED.messages, response_format=SCHEMA)
    fitting, _ = await acted(Actor('{"city": "Rome"}'), conversation)
    assert fitting.error is None
    for text in ('{"city": 3}', "Rome"):
        transcript, _ = await acted(Actor(text), conversation)
        assert transcript.error is not None
        assert transcript.error.cause == "invalid"


@pytest.mark.parametrize("wrong", ['{"city": 3}', "Rome", '{"city": "Rome"'])
async def test_without_a_listener_an_answer_that_does_not_fit_is_written_again_once(wrong: str) -> None:
    conversation = Conversation(ASKED.messages, response_format=SCHEMA)
    models: dict[str, Model] = {name: Actor("Rome.") for name in ("t:a", "t:b", "t:c")}
    actor = models["t:z"] = Actor(wrong, '{"city": "Rome"}')
    transcript = await partsong.run(RECIPE, conversation, models)
    assert transcript.text == '{"city": "Rome"}'
    assert len(actor.requests) == 2
    assert actor.requests[1].response_format == SCHEMA
    assert actor.requests[1].messages[-2] == Message("assistant", (Text(wrong),))
    assert transcript.usage.output_tokens == 3 + 2
    assert transcript.answer is not None
    assert transcript.answer.usage.output_tokens == 2
    actor = models["t:z"] = Actor(wrong)
    with pytest.raises(RunError, match="twice") as caught:
        await partsong.run(RECIPE, conversation, models)
    assert caught.value.transcript.error is not None
    assert caught.value.transcript.error.cause == "invalid"
    assert caught.value.transcript.usage.output_tokens == 3 + 2
    assert len(actor.requests) == 2


async def test_what_is_not_heard_before_it_is_whole_is_said_once() -> None:
    said = list[str]()

    async def hear(event: AnyEvent) -> None:
        if isinstance(event, AggregationDelta) and isinstance(event.delta, TextDelta):
            said.append(event.delta.text)

    conversation = Conversation(ASKED.messages, response_format=SCHEMA)
    for wrong in ((), ("Rome",)):
        models: dict[str, Model] = {name: Actor("Rome.") for name in ("t:a", "t:b", "t:c")}
        models["t:z"] = Actor(*wrong, '{"city": "Rome"}')
        await partsong.perform(RECIPE, conversation, models, hear, live=False)
        assert said == ['{"city": "Rome"}']
        said.clear()


@pytest.mark.parametrize(
    "schema", [b'{"$ref": "http://127.0.0.1:9/schema"}', b'{"type": 3}', b"[", b'{"type": "objekt"}']
)
async def test_a_schema_that_cannot_be_checked_is_refused_before_any_call(schema: bytes) -> None:
    actor = Actor([GOOD])
    with pytest.raises(QuestionError, match="weather"):
        await acted(actor, replace(ASKED, tools=(Tool("weather", parameters=schema),)))
    assert actor.requests == []


def step(conversation: Conversation, answer: Answer) -> Conversation:
    """The conversation one step on: the calls, and what they returned."""
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    results = tuple(Message("tool", (ToolResult(call.id, (Text("Rain."),)),)) for call in calls)
    return replace(conversation, messages=(*conversation.messages, Message("assistant", answer.parts), *results))


@pytest.mark.parametrize(
    ("advice", "asked"),
    [("user_turn", 1), ("every_step", 20), (5, 4), ("calls", 20)],
    ids=["user_turn", "every_step", "every_5", "calls"],
)
async def test_twenty_steps_of_an_agent(tmp_path: Path, advice: str | int, asked: int) -> None:
    advisers = {name: Actor(f"{name} advises") for name in ("t:a", "t:b", "t:c")}
    actor = Actor(*[[GOOD, ("clock", "{}")]] * 19, "It rains.")
    conversation = ASKED
    async with open_store(tmp_path / "journal.db") as store:
        models: dict[str, Callable[..., object]] = {
            name: Cache(model, name, store, {}) for name, model in {**advisers, "t:z": actor}.items()
        }
        for _ in range(20):
            transcript = await partsong.run(replace(RECIPE, advice=advice), conversation, models)  # type: ignore[arg-type]
            assert transcript.answer is not None
            conversation = step(conversation, transcript.answer)
    assert transcript.answer is not None
    assert transcript.answer.text == "It rains."
    assert [len(model.requests) for model in advisers.values()] == [asked] * 3
    for before, after in zip(actor.requests, actor.requests[1:], strict=False):
        # All but the advice at the end stays as it was, so that a provider finds it in its cache.
        assert after.messages[: len(before.messages) - 1] == before.messages[:-1]
    for request in (request for model in advisers.values() for request in model.requests):
        assert request.tools == ()
        assert "weather: Tells the weather." in request.messages[0].text
        assert not any(
            isinstance(part, ToolCall | ToolResult) for message in request.messages for part in message.parts
        )


async def test_the_marks_of_a_clients_cache_do_not_change_what_advisers_are_asked() -> None:
    seen = []
    for mark in ("", "5m"):
        adviser = Actor("Look.")
        marked = replace(ASKED, messages=(Message("user", (Text("Rain?", mark),)),))
        models = {"t:a": adviser, "t:b": Actor("x"), "t:c": Actor("y"), "t:z": Actor([GOOD])}
        await partsong.run(RECIPE, marked, models)
        seen.append(adviser.requests[0].messages)
    assert seen[0] == seen[1]


async def test_a_fallback_takes_over_from_one_that_cannot_call() -> None:
    models = {
        "t:a": Actor("x"),
        "t:b": Actor("x"),
        "t:c": Actor("x"),
        "t:z": Actor([("no", "{}")]),
        "t:y": Actor([GOOD]),
    }
    recipe = replace(RECIPE, aggregator=Aggregator("t:z", fallback=("t:y",)))
    transcript = await partsong.run(recipe, ASKED, models)
    assert transcript.answer is not None
    assert transcript.answer.parts[0] == ToolCall("c1.0", *GOOD)
    assert transcript.losses[0].cause == "invalid"
    with pytest.raises(RunError):
        await partsong.run(RECIPE, ASKED, models)
