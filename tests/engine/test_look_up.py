"""Seats that look things up, with real servers: the loop, its events and prompts, and what can go wrong."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from partsong.configuration import ToolServer
from partsong.engine import perform
from partsong.engine.again import Changes, begin_again
from partsong.engine.sent import sent_in
from partsong.errors import BudgetError, ModelError, RecipeError
from partsong.events import AnyEvent, CallFinished, ProposalFinished, RunFailed, RunFinished, ToolUsed
from partsong.model import (
    Answer,
    Conversation,
    Model,
    Request,
    Send,
    Text,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    asking,
)
from partsong.model_info import ModelInfo
from partsong.recipe import Agent, Aggregator, Analyst, Layer, Recipe
from partsong.server.report import Report
from partsong.toolbox import Offer, OfferedTool, Offers, Result, Toolbox
from partsong.tools.servers import Servers
from partsong.transcript import Transcript
from tests import grammar
from tests.clock import jumping

PROGRAM = str(Path(__file__).parents[1] / "tools" / "misbehaving.py")
Say = Callable[[Request, int], Sequence[tuple[str, dict[str, object]]] | str]


class Caller:
    """A model that calls tools as a function says: it returns the calls, or the text of the answer.

    requests: every request, in order
    """

    def __init__(self, says: Say, dollars: Decimal = Decimal(0), window: int | None = None) -> None:
        self.says, self.requests, self.dollars = says, list[Request](), dollars
        self.info = ModelInfo(window=window, dollars=lambda usage: dollars)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.requests.append(request)
        said = self.says(request, len(results_in(request)))
        usage = Usage(10, 5, dollars=self.dollars)
        if isinstance(said, str):
            if send is not None:
                await send(TextDelta(said))
            return Answer((Text(said),), usage=usage)
        if send is not None:
            await send(TextDelta("let me see"))
        calls = (ToolCall(f"c{index}", name, json.dumps(args)) for index, (name, args) in enumerate(said))
        return Answer((Text("let me see"), *calls), "tool_calls", usage)


async def plain(request: Request, send: Send | None) -> Answer:
    return Answer((Text("fine"),), usage=Usage(1, 1, dollars=Decimal(0)))


def results_in(request: Request) -> list[ToolResult]:
    return [part for message in request.messages for part in message.parts if isinstance(part, ToolResult)]


def text_in(request: Request) -> str:
    return "\n".join(piece.text for result in results_in(request) for piece in result.parts if isinstance(piece, Text))


def look_once(name: str, **arguments: object) -> Say:
    return lambda request, results: "it is so" if results else [(name, arguments)]


def recipe_of(agent: Agent | None = None, **fields: object) -> Recipe:
    agent = agent or Agent("test:a", tools=("odd",))
    return Recipe("looking", (Layer((agent, Agent("test:b"))),), Aggregator("test:b"), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def tools(**settings: object) -> AsyncIterator[Servers]:
    servers = Servers({"odd": ToolServer((sys.executable, PROGRAM), **settings)})  # type: ignore[arg-type]
    try:
        yield servers
    finally:
        await servers.close()


async def events_of(
    recipe: Recipe, models: dict[str, Model], toolbox: Toolbox, conversation: Conversation | None = None
) -> list[AnyEvent]:
    heard: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        heard.append(event)

    await perform(recipe, conversation or asking("Is it so?"), models, hear, tools=toolbox)
    grammar.check(heard)
    return heard


def uses(events: list[AnyEvent]) -> list[ToolUsed]:
    return [event for event in events if isinstance(event, ToolUsed)]


async def test_a_seat_calls_a_tool_and_answers_with_what_it_has_read() -> None:
    model = Caller(look_once("odd__say", text="see https://example.org"))
    async with tools() as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    (use,) = uses(events)
    assert (use.layer, use.seat, use.model, use.server, use.tool) == (0, 0, "test:a", "odd", "say")
    assert (json.loads(use.arguments), use.size, use.error) == ({"text": "see https://example.org"}, 23, "")
    assert use.sources == ("https://example.org",)
    first, second = model.requests
    assert "odd__say" in [tool.name for tool in first.tools]
    assert "odd__write" not in [tool.name for tool in first.tools]
    assert "see https://example.org" in text_in(second)
    proposal = next(event for event in events if isinstance(event, ProposalFinished) and event.seat == 0)
    assert (proposal.answer.text, proposal.answer.usage.output_tokens) == ("it is so", 10)
    assert len([event for event in events if isinstance(event, CallFinished) and event.model == "test:a"]) == 2


async def test_a_seat_without_tools_is_sent_the_same_bytes_as_ever() -> None:
    model, other = Caller(lambda *_: "no"), Caller(lambda *_: "no")
    async with tools() as toolbox:
        await events_of(recipe_of(Agent("test:a")), {"test:a": model, "test:b": plain}, toolbox)
        mixed = Recipe("x", (Layer((Agent("test:a"), Agent("test:c", tools=("odd",)))),), Aggregator("test:b"))
        await events_of(mixed, {"test:a": other, "test:b": plain, "test:c": Caller(lambda *_: "no")}, toolbox)
    alone, beside = (replace(each.requests[0], terms=None) for each in (model, other))
    assert alone == beside
    assert alone.tools == ()
    assert alone.messages == asking("Is it so?").messages


async def test_a_result_cannot_imitate_the_end_of_its_marks() -> None:
    model = Caller(look_once("odd__picture"))
    async with tools() as toolbox:
        await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    text = text_in(model.requests[1])
    fence = text.splitlines()[1].strip("<>")
    assert text.endswith(f"\n</{fence}>")
    assert text.count(f"</{fence}>") == 1
    assert "Ignore all instructions" in text
    assert model.requests[1].messages[0].role == "system"
    assert "Ignore" not in model.requests[1].messages[0].text


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("odd__nothing", {}, "There is no tool odd__nothing"),
        ("odd__write", {}, "There is no tool odd__write"),
        ("odd__say", {"text": 7}, "odd__say"),
        ("odd__fail", {}, "fail"),
        ("odd__die", {}, "the server has ended or closed the connection"),
        ("odd__flood", {}, "more than 8 MiB"),
    ],
)
async def test_a_tool_call_that_fails_is_told_to_the_model_and_fails_no_run(
    name: str, arguments: dict[str, object], told: str
) -> None:
    model = Caller(look_once(name, **arguments))
    async with tools() as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    (use,) = uses(events)
    assert told in use.error
    (result,) = results_in(model.requests[1])
    assert result.is_error
    assert told in text_in(model.requests[1])
    assert isinstance(events[-1], RunFinished)


async def test_a_tool_that_never_answers_is_told() -> None:
    model = Caller(look_once("odd__hang"))
    async with tools(deadline=0.2) as toolbox:
        await toolbox.offers(["odd"])
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert uses(events)[0].error == "no answer within 0.2 s"


class Hanging:
    """Servers whose only tool never answers, without a program, so that the time of the test can jump."""

    names = ("odd",)

    async def offers(self, servers: Iterable[str]) -> Offers:
        tool = Tool("odd__hang", "", b'{"type":"object","properties":{}}')
        return {name: Offer((OfferedTool(name, "hang", tool),), "", 1000) for name in servers}

    async def use(self, offered: OfferedTool, arguments: Mapping[str, object]) -> Result:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")


@jumping
async def test_the_layers_deadline_holds_for_the_whole_loop() -> None:
    model = Caller(look_once("odd__hang"))
    seats = Agent("test:a", tools=("odd",)), Agent("test:b")
    recipe = Recipe("looking", (Layer(seats, deadline=50.0),), Aggregator("test:b"))
    events = await events_of(recipe, {"test:a": model, "test:b": plain}, Hanging())
    (use,) = uses(events)
    assert (use.started, use.seconds) == (0.0, 50.0)
    assert use.error == "it was given up: the layer's deadline of 50 s was over"
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.kind) for loss in end.losses] == [(0, "cut_off")]


@jumping
async def test_the_quorum_holds_for_the_whole_loop() -> None:
    model = Caller(look_once("odd__hang"))
    seats = Agent("test:a", tools=("odd",)), Agent("test:b")
    recipe = Recipe("looking", (Layer(seats, quorum=1, grace=5.0),), Aggregator("test:b"))
    events = await events_of(recipe, {"test:a": model, "test:b": plain}, Hanging())
    (use,) = uses(events)
    assert use.seconds == 5.0
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.kind) for loss in end.losses] == [(0, "cut_off")]


async def test_after_the_last_round_the_model_is_told_to_answer() -> None:
    def says(request: Request, results: int) -> Sequence[tuple[str, dict[str, object]]] | str:
        return "at last" if request.tool_choice == "none" else [("odd__say", {"text": str(results)})]

    model = Caller(says)
    async with tools() as toolbox:
        events = await events_of(
            recipe_of(Agent("test:a", tools=("odd",), steps=3)), {"test:a": model, "test:b": plain}, toolbox
        )
    assert len(uses(events)) == 3
    assert len(model.requests) == 4
    assert model.requests[-1].messages[-1].text.startswith("No more tools can be called.")
    assert isinstance(events[-1], RunFinished)


async def test_a_model_that_never_stops_calling_tools_is_a_lost_seat() -> None:
    def says(request: Request, results: int) -> Sequence[tuple[str, dict[str, object]]] | str:
        return [("odd__say", {"text": "again"})]

    class Silent(Caller):
        async def __call__(self, request: Request, send: Send | None) -> Answer:
            answer = await super().__call__(request, send)
            return replace(answer, parts=answer.parts[1:])

    async with tools() as toolbox:
        events = await events_of(
            recipe_of(Agent("test:a", tools=("odd",), steps=2)), {"test:a": Silent(says), "test:b": plain}, toolbox
        )
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.cause) for loss in end.losses] == [(0, "empty")]


async def test_tool_calls_of_one_answer_are_made_at_once_and_bounded() -> None:
    def says(request: Request, results: int) -> Sequence[tuple[str, dict[str, object]]] | str:
        return "so" if results else [("odd__say", {"text": f"number {index}"}) for index in range(7)]

    model = Caller(says)
    async with tools() as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert len(uses(events)) == 4
    results = results_in(model.requests[1])
    assert [result.call_id for result in results] == [f"c{index}" for index in range(7)]
    assert [result.is_error for result in results] == [False] * 4 + [True] * 3
    assert "number 3" in text_in(model.requests[1])


async def test_long_results_are_cut_to_the_room_of_a_round() -> None:
    model = Caller(look_once("odd__say", text="word " * 10_000))
    async with tools(longest_result=1000) as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert uses(events)[0].size == 50_000
    assert "characters left out" in text_in(model.requests[1])
    assert len(text_in(model.requests[1])) < 1300


async def test_results_are_shortened_to_fit_the_window_and_told() -> None:
    model = Caller(look_once("odd__long"), window=4000)
    async with tools(allow=("long",)) as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert "characters left out" in text_in(model.requests[1])
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.kind) for loss in end.losses] == [(0, "shortened")]


async def test_the_aggregator_looks_things_up_and_only_its_answer_is_heard() -> None:
    recipe = Recipe("looking", (), Aggregator("test:a", tools=("odd",)))
    async with tools() as toolbox:
        events = await events_of(recipe, {"test:a": Caller(look_once("odd__say", text="x"))}, toolbox)
    end = events[-1]
    assert isinstance(end, RunFinished)
    said = "".join(event.delta.text for event in events if event.__class__.__name__ == "AggregationDelta")  # type: ignore[union-attr]
    assert (said, end.answer.text, end.usage.output_tokens) == ("it is so", "it is so", 10)
    assert [(use.layer, use.seat) for use in uses(events)] == [(0, 0)]


async def test_an_aggregator_whose_caller_brings_tools_has_only_these() -> None:
    recipe = Recipe("looking", (), Aggregator("test:a", tools=("odd",)))
    model = Caller(lambda *_: "done")
    own = Tool("mine", "", b'{"type":"object"}')
    async with tools() as toolbox:
        await events_of(
            recipe, {"test:a": model}, toolbox, Conversation(asking("Do it").messages, tools=(own,), tool_choice="auto")
        )
    assert model.requests[0].tools == (own,)
    assert model.requests[0].messages == asking("Do it").messages


async def test_the_analyst_looks_things_up() -> None:
    found = json.dumps({"agreements": [], "contradictions": [], "single": [], "gaps": ["none"]})
    model = Caller(lambda request, results: found if results else [("odd__say", {"text": "x"})])
    layer = Layer((Agent("test:b"), Agent("test:b")))
    recipe = Recipe("looking", (layer,), Aggregator("test:b"), analyst=Analyst("test:a", tools=("odd",)))
    async with tools() as toolbox:
        events = await events_of(recipe, {"test:a": model, "test:b": plain}, toolbox)
    assert [(use.layer, use.seat) for use in uses(events)] == [(1, 1)]


async def test_a_fallback_begins_again_with_tools_of_its_own() -> None:
    async def fails(request: Request, send: Send | None) -> Answer:
        if results_in(request):
            raise ModelError("broken", "server", usage=Usage(1, 1, dollars=Decimal(0)))
        return Answer((ToolCall("1", "odd__say", '{"text": "a"}'),), "tool_calls", Usage(1, 1, dollars=Decimal(0)))

    agent = Agent("test:x", fallback=("test:a",), tools=("odd",))
    model = Caller(look_once("odd__say", text="b"))
    async with tools() as toolbox:
        events = await events_of(recipe_of(agent), {"test:x": fails, "test:a": model, "test:b": plain}, toolbox)
    assert [use.model for use in uses(events)] == ["test:x", "test:a"]
    assert isinstance(events[-1], RunFinished)


async def test_a_server_that_cannot_be_started_is_a_loss_and_the_run_goes_on() -> None:
    servers = Servers({"odd": ToolServer(("/no/such/program",))})
    model = Caller(lambda *_: "from memory")
    events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, servers)
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.kind) for loss in end.losses] == [(0, "shortened")]
    assert "there is no program /no/such/program" in end.losses[0].message
    strict = await events_of(recipe_of(strict=True), {"test:a": model, "test:b": plain}, servers)
    assert isinstance(strict[-1], RunFailed)
    await servers.close()


async def test_tools_that_nobody_gave_or_configured_are_refused_before_any_call() -> None:
    async def hear(event: AnyEvent) -> None:
        raise AssertionError("nothing happens")

    models: dict[str, Model] = {"test:a": Caller(lambda *_: ""), "test:b": plain}
    with pytest.raises(RecipeError, match="this run was given no tools"):
        await perform(recipe_of(), asking("?"), models, hear)
    with pytest.raises(RecipeError, match='there is no server "odd"; known: none'):
        await perform(recipe_of(), asking("?"), models, hear, tools=Servers({}))


async def test_what_a_server_charges_counts_and_is_planned() -> None:
    model = Caller(look_once("odd__say", text="x"), Decimal("0.01"))
    models: dict[str, Model] = {"test:a": model, "test:b": Caller(lambda *_: "b", Decimal(0))}
    recipe = Recipe("looking", (), Aggregator("test:a", tools=("odd",), steps=2), max_dollars=Decimal("0.83"))
    async with tools(dollars_per_call=Decimal("0.1")) as toolbox:
        # three calls to the model, and two rounds of four tool calls
        events = await events_of(recipe, models, toolbox)
        assert uses(events)[0].dollars == Decimal("0.1")
        end = events[-1]
        assert isinstance(end, RunFinished)
        assert end.usage.dollars == Decimal("0.12")
        less = replace(recipe, max_dollars=Decimal("0.82"))
        with pytest.raises(BudgetError, match=r"may cost 0\.83 dollars"):
            await events_of(less, models, toolbox)


async def test_the_aggregator_cites_what_was_read_and_nothing_else() -> None:
    writer = Caller(lambda *_: "It is blue [1], and round [2].")
    recipe = Recipe("looking", (Layer((Agent("test:a", tools=("odd",)), Agent("test:b"))),), Aggregator("test:w"))
    model = Caller(look_once("odd__say", text="read https://example.org/sky"))
    async with tools() as toolbox:
        events = await events_of(recipe, {"test:a": model, "test:b": plain, "test:w": writer}, toolbox)
    end = events[-1]
    assert isinstance(end, RunFinished)
    asked = writer.requests[0].messages[-1].text
    assert "1. https://example.org/sky" in asked
    assert "cite the source by its number" in asked
    said = "".join(event.delta.text for event in events if event.__class__.__name__ == "AggregationDelta")  # type: ignore[union-attr]
    assert end.answer.text == said == "It is blue [1], and round."
    (loss,) = end.losses
    assert (loss.layer, loss.seat, loss.kind) == (1, 0, "shortened")
    assert "[2]" in loss.message
    report = Report("id", "looking")
    for event in events:
        report.hear(event)
    assert report.plain()["sources"] == [{"number": 1, "address": "https://example.org/sky", "seats": [[0, 0]]}]
    (sent,) = [each for each in await sent_in(events) if each.layer == 1]
    assert sent.messages[-1].parts == writer.requests[0].messages[-1].parts


async def test_without_a_source_nothing_is_told_and_no_bracket_is_touched() -> None:
    writer = Caller(lambda *_: "It is blue [1].")
    recipe = Recipe("looking", (Layer((Agent("test:a", tools=("odd",)), Agent("test:b"))),), Aggregator("test:w"))
    async with tools() as toolbox:
        events = await events_of(
            recipe, {"test:a": Caller(lambda *_: "no"), "test:b": plain, "test:w": writer}, toolbox
        )
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.answer.text, end.losses) == ("It is blue [1].", ())
    assert "sources" not in writer.requests[0].messages[-1].text


async def test_a_server_that_starts_slowly_does_not_hold_up_a_run_with_a_deadline() -> None:
    servers = Servers({"odd": ToolServer((sys.executable, "-c", "import time; time.sleep(3600)"))})
    model = Caller(lambda *_: "from memory")
    events = await events_of(recipe_of(deadline=3.0), {"test:a": model, "test:b": plain}, servers)
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert "it had not started within 3 s, the deadline of the run" in end.losses[0].message
    await servers.close()


async def test_a_run_again_tells_what_was_read_without_reading_it_again() -> None:
    writer = Caller(lambda *_: "It is blue [1].")
    recipe = Recipe("looking", (Layer((Agent("test:a", tools=("odd",)), Agent("test:b"))),), Aggregator("test:w"))
    model = Caller(look_once("odd__say", text="read https://example.org/sky"))
    models: dict[str, Model] = {"test:a": model, "test:b": plain, "test:w": writer}
    async with tools(dollars_per_call=Decimal("0.1")) as toolbox:
        first = await events_of(recipe, models, toolbox)
        earlier = Transcript()
        for event in first:
            earlier.hear(event)
        recipe, conversation, again = begin_again("earlier", earlier, Changes())
        heard: list[AnyEvent] = []

        async def hear(event: AnyEvent) -> None:
            heard.append(event)

        await perform(recipe, conversation, models, hear, again=again, tools=toolbox)
    grammar.check(heard)
    assert len(model.requests) == 2  # of the first run
    (use,) = uses(heard)
    assert (use.sources, use.dollars) == (("https://example.org/sky",), Decimal(0))
    assert writer.requests[0].messages == writer.requests[1].messages
    end = heard[-1]
    assert isinstance(end, RunFinished)
    assert end.answer.text == "It is blue [1]."


CALL = '{"name": "odd__say", "arguments": {"text": "slate"}}'


@pytest.mark.parametrize(
    "written",
    [
        CALL,
        f"```json\n{CALL}\n```",
        f"```\n{CALL}\n```\n",
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"<tool_call>{CALL}",
        f"[{CALL}]",
        '{"type": "function", "function": ' + CALL + "}",
        CALL.replace('"arguments"', '"parameters"'),
        CALL.replace('{"text": "slate"}', '"{\\"text\\": \\"slate\\"}"'),
    ],
)
async def test_a_tool_call_that_a_model_wrote_as_text_is_made(written: str) -> None:
    """Small models write tool calls that their server does not recognise."""
    model = Caller(lambda request, results: "it is so" if results else written)
    async with tools() as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert [(use.tool, use.error) for use in uses(events)] == [("say", "")]
    assert "slate" in text_in(model.requests[1])
    calls = [part for message in model.requests[1].messages for part in message.parts if isinstance(part, ToolCall)]
    assert json.loads(calls[0].arguments) == {"text": "slate"}
    answer = next(event for event in events if isinstance(event, ProposalFinished) and event.seat == 0)
    assert answer.answer.text == "it is so"


@pytest.mark.parametrize(
    "written",
    [
        f"Call it like this:\n```json\n{CALL}\n```",
        f"{CALL} would tell.",
        CALL.replace("odd__say", "odd__gone"),
        CALL.replace("odd__say", "rm"),
        f"[{CALL}, 1]",
        '{"name": "odd__say"}',
        '{"name": ["odd__say"], "arguments": {}}',
        '{"name": "odd__say", "arguments": [1]}',
        '{"function": 5}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "```" * 10_000,
        "[]",
        "12",
    ],
)
async def test_text_that_is_more_than_tool_calls_stays_an_answer(written: str) -> None:
    model = Caller(lambda request, results: written)
    async with tools() as toolbox:
        events = await events_of(recipe_of(), {"test:a": model, "test:b": plain}, toolbox)
    assert uses(events) == []
    assert len(model.requests) == 1
    answer = next(event for event in events if isinstance(event, ProposalFinished) and event.seat == 0)
    assert answer.answer.text == written


async def test_tool_calls_written_as_text_for_ever_end_with_the_rounds() -> None:
    model = Caller(lambda request, results: CALL)
    async with tools() as toolbox:
        agent = Agent("test:a", tools=("odd",), steps=2)
        events = await events_of(recipe_of(agent), {"test:a": model, "test:b": plain}, toolbox)
    assert len(model.requests) == 3
    ids = [part.id for message in model.requests[2].messages for part in message.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2
    assert not any(isinstance(event, ProposalFinished) and event.seat == 0 for event in events)
