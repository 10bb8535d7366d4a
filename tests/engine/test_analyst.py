"""The analyst: the aggregator reads what it has found, and a run whose analyst fails goes on without."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Layer,
    Message,
    Model,
    ModelError,
    Recipe,
    RecipeError,
    Request,
    Send,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    asking,
    perform,
)
from partsong.analysis import SCHEMA
from partsong.errors import Cause
from partsong.events import (
    AggregationStarted,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnalysisStarted,
    AnyEvent,
    CallFinished,
    Loss,
    RunFailed,
    RunFinished,
)
from partsong.middleware.cache import Cache
from partsong.model_info import ModelInfo
from partsong.recipe import Analyst, Layout
from partsong.recipes.reading import overridden, read, tables_in
from partsong.store import open_store
from partsong.transcript import Transcript
from tests import grammar
from tests.clock import jumping

SAYS = {"a": "It was in July 1969, and it took eight days.", "b": "It was in July 1970, and it took eight days."}
FOUND = {
    "agreements": [
        {
            "statement": "how long",
            "quotes": [{"proposal": 1, "quote": "it took eight days"}, {"proposal": 2, "quote": "it took eight days"}],
        }
    ],
    "contradictions": [
        {
            "topic": "the year",
            "positions": [
                {"statement": "1969", "quotes": [{"proposal": 1, "quote": "in July 1969"}]},
                {"statement": "1970", "quotes": [{"proposal": 2, "quote": "in July 1970"}]},
            ],
        }
    ],
    "single": [],
    "gaps": ["who flew"],
}
INVENTED = {"agreements": [FOUND["agreements"][0] | {"quotes": [{"proposal": 1, "quote": "it took nine days"}]}]}  # type: ignore[index]


@dataclass
class Says:
    """A model that says a text, or fails, after so many seconds. `asked` holds its requests."""

    text: str = "Well."
    error: ModelError | None = None
    seconds: float = 0.0
    info: ModelInfo = field(default_factory=ModelInfo)
    asked: list[Request] = field(default_factory=list)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.asked.append(request)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Answer((Text(self.text),), usage=Usage(1, 1, dollars=Decimal(1)))

    @property
    def prompt(self) -> str:
        return self.asked[-1].messages[-1].text


def usually(seconds: float | None) -> ModelInfo:
    return ModelInfo(seconds=lambda _: seconds)


def models(**others: Says) -> dict[str, Says]:
    made = {name: Says(text) for name, text in SAYS.items()}
    made |= {"an": Says(json.dumps(FOUND)), "z": Says("The end."), **others}
    return {f"m:{name}": model for name, model in made.items()}


def recipe(**fields: Any) -> Recipe:
    layer = Layer((Agent("m:a"), Agent("m:b")))
    return Recipe("r", (layer,), Aggregator("m:z"), **{"analyst": Analyst("m:an"), **fields})


async def heard(
    made: Recipe, known: Mapping[str, Model], conversation: Conversation | None = None, **how: Any
) -> tuple[list[AnyEvent], Transcript]:
    events: list[AnyEvent] = []
    transcript = Transcript()

    async def hear(event: AnyEvent) -> None:
        events.append(event)
        transcript.hear(event)

    await perform(made, conversation or asking("When?"), known, hear, **how)
    grammar.check(events)
    return events, transcript


def losses(events: list[AnyEvent]) -> list[Loss]:
    end = events[-1]
    assert isinstance(end, RunFinished | RunFailed)
    return list(end.losses)


@pytest.mark.parametrize("layout", ["tail", "paper"])
async def test_the_aggregator_reads_the_analysis_between_fences(layout: Layout) -> None:
    known = models()
    events, transcript = await heard(recipe(layout=layout), known)
    assert losses(events) == []
    assert transcript.analysis is not None
    assert transcript.analyst is not None
    assert transcript.analyst.model == "m:an"
    analyst, aggregator = known["m:an"].asked[0], known["m:z"].asked[0]
    assert analyst.response_format == SCHEMA
    assert all(text in known["m:an"].prompt for text in SAYS.values())
    assert "number=1>" in known["m:an"].prompt
    read_by = "\n".join(message.text for message in aggregator.messages)
    notes = read_by.partition(" analysis>\n")[2]
    assert '- how long (1 "it took eight days"; 2 "it took eight days")' in read_by
    assert '  - 1970 (2 "in July 1970")' in read_by
    assert "the analyst's opinion):\n- who flew" in read_by
    assert notes
    fence = read_by.partition(" analysis>\n")[0].rpartition("<")[2]
    assert f"\n</{fence}>" in notes
    calls = [event for event in events if isinstance(event, CallFinished)]
    assert [(call.layer, call.seat) for call in calls] == [(0, 0), (0, 1), (1, 1), (1, 0)]


async def test_without_an_analyst_nothing_changes() -> None:
    known, others = models(), models(an=Says(error=ModelError("it is down", "server")))
    await heard(recipe(analyst=None), known)
    await heard(recipe(), others)
    assert known["m:z"].asked[0].messages == others["m:z"].asked[0].messages
    assert known["m:an"].asked == []


@pytest.mark.parametrize(
    ("analyst", "cause"),
    [
        (Says(error=ModelError("it is down", "server")), "server"),
        (Says(error=ModelError("no", "refused")), "refused"),
        (Says("I cannot."), "invalid"),
        (Says(json.dumps(INVENTED)), "invalid"),
        (Says(""), "empty"),
    ],
)
async def test_a_run_whose_analyst_fails_goes_on_and_tells(analyst: Says, cause: Cause) -> None:
    events, transcript = await heard(recipe(), models(an=analyst))
    assert transcript.text == "The end."
    assert [(loss.layer, loss.seat, loss.model, loss.kind, loss.cause) for loss in losses(events)] == [
        (1, 1, "m:an", "failed", cause)
    ]
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].planned, events[-1].answered) == (2, 2)
    assert transcript.analysis is None
    assert transcript.analyst is not None
    assert transcript.analyst.error is not None
    strict, _ = await heard(recipe(strict=True), models(an=analyst))
    assert isinstance(strict[-1], RunFailed)
    assert not any(isinstance(event, AggregationStarted) for event in strict)


async def test_a_fallback_is_asked_when_the_model_fails_or_writes_no_analysis() -> None:
    for first in (Says(error=ModelError("it is down", "server")), Says("I cannot."), Says(json.dumps(INVENTED))):
        made = recipe(analyst=Analyst("m:first", fallback=("m:an",)))
        events, transcript = await heard(made, models(first=first))
        assert transcript.analysis is not None
        assert [(loss.kind, loss.model, loss.replaced_by) for loss in losses(events)] == [
            ("replaced", "m:first", "m:an")
        ]
        assert sum(isinstance(event, AnalysisReplaced) for event in events) == 1


async def test_a_provider_that_takes_no_schema_is_asked_by_instruction_alone() -> None:
    class Plain(Says):
        async def __call__(self, request: Request, send: Send | None) -> Answer:
            self.error = None if request.response_format is None else ModelError("no schema", "refused", status=400)
            return await super().__call__(request, send)

    analyst = Plain(json.dumps(FOUND))
    events, transcript = await heard(recipe(), models(an=analyst))
    assert transcript.analysis is not None
    assert losses(events) == []
    assert len(analyst.asked) == 2
    assert '"agreements"' in analyst.prompt


async def test_one_proposal_alone_is_not_compared() -> None:
    known = models(b=Says(error=ModelError("it is down", "server")))
    events, _ = await heard(recipe(), known)
    assert known["m:an"].asked == []
    assert [(loss.layer, loss.seat) for loss in losses(events)] == [(0, 1)]
    assert not any(isinstance(event, AnalysisStarted) for event in events)


async def test_a_lost_seat_shifts_the_numbers_and_not_the_seats() -> None:
    agents = (Agent("m:gone"), Agent("m:a"), Agent("m:b"))
    made = Recipe("r", (Layer(agents),), Aggregator("m:z"), analyst=Analyst("m:an"))
    _, transcript = await heard(made, models(gone=Says(error=ModelError("it is down", "server"))))
    assert transcript.analysis is not None
    assert sorted(transcript.analysis.agreements[0].seats) == [1, 2]


async def test_an_aggregator_that_selects_reads_it_too_and_copied_marks_are_removed() -> None:
    known = models(z=Says("2"))
    made = Recipe("r", recipe().layers, Aggregator("m:z", method="select"), analyst=Analyst("m:an"))
    _, transcript = await heard(made, known)
    assert transcript.seat == 1
    assert "the year" in known["m:z"].prompt

    class Copying(Says):
        async def __call__(self, request: Request, send: Send | None) -> Answer:
            mark = "<" + request.messages[-1].text.partition(" analysis>\n")[0].rpartition("<")[2] + " analysis>"
            return Answer((Text(f"{mark}Because{mark.partition(' ')[0]}>."),), usage=Usage(1, 1))

    _, transcript = await heard(recipe(), models(z=Copying()))
    assert transcript.text == "Because."


@jumping
async def test_the_analyst_takes_a_part_of_the_aggregators_time_and_never_all_of_it() -> None:
    for seconds, needed in ((1000.0, None), (1000.0, 55.0)):
        known = models(an=Says(seconds=seconds), z=Says("The end.", info=usually(needed)))
        began = asyncio.get_running_loop().time()
        events, transcript = await heard(recipe(deadline=60.0), known)
        took = asyncio.get_running_loop().time() - began
        assert transcript.text == "The end."
        assert [(loss.seat, loss.kind, loss.cause) for loss in losses(events)] == [(1, "cut_off", "timeout")]
        assert took == pytest.approx(24.0 if needed is None else 6.0, abs=0.1)


@jumping
async def test_a_fallback_gets_its_share_of_the_analysts_time() -> None:
    made = recipe(analyst=Analyst("m:slow", fallback=("m:an",)), deadline=60.0)
    events, transcript = await heard(made, models(slow=Says(seconds=1000.0)))
    assert transcript.analysis is not None
    assert [(loss.kind, loss.cause) for loss in losses(events)] == [("replaced", "timeout")]


TOOLS = (Tool("look", "It looks.", b'{"type":"object"}'),)


async def test_beside_tools_it_is_asked_when_advice_is_due(tmp_path: Path) -> None:
    first = Conversation(asking("When?").messages, tools=TOOLS)
    step = Message("assistant", (ToolCall("c1", "look", "{}"),)), Message("tool", (ToolResult("c1", (Text("1969"),)),))
    then = Conversation((*first.messages, *step), tools=TOOLS)
    for advice, asked in (("user_turn", 1), ("every_step", 2)):
        known = models()
        async with open_store(tmp_path / f"{advice}.db") as store:
            kept: dict[str, Model] = {
                name: Cache(model, name, store, {}) if name != "m:z" else model for name, model in known.items()
            }
            for conversation in (first, then):
                _, transcript = await heard(recipe(advice=advice), kept, conversation)
                assert transcript.analysis is not None
        assert len(known["m:an"].asked) == asked
        assert all(not request.tools for request in known["m:an"].asked)
        assert "the year" in known["m:z"].prompt


async def test_an_analysis_for_which_there_is_no_room_is_left_out_and_told() -> None:
    window = ModelInfo(window=2200, max_tokens=200)
    long = FOUND | {"gaps": ["what matters " * 100] * 1 + [f"{number} matters " * 100 for number in range(9)]}
    for fit in ("truncate", "fail"):
        known = models(an=Says(json.dumps(long)), z=Says("The end.", info=window))
        events, transcript = await heard(recipe(fit=fit), known)
        assert transcript.text == "The end."
        assert "the year" not in known["m:z"].prompt
        assert [(loss.layer, loss.seat, loss.kind, loss.cause) for loss in losses(events)] == [
            (1, 1, "shortened", "window")
        ]


async def test_in_steps_the_last_one_reads_it_and_names_what_a_draft_stands_for() -> None:
    texts = {name: f"{says} " + "It goes on. " * 300 for name, says in SAYS.items()}
    known = models(
        a=Says(texts["a"]),
        b=Says(texts["b"]),
        c=Says(texts["a"]),
        z=Says("A draft.", info=ModelInfo(window=6000, max_tokens=200)),
    )
    made = Recipe(
        "r",
        (Layer((Agent("m:a"), Agent("m:b"), Agent("m:c"))),),
        Aggregator("m:z"),
        fit="window",
        analyst=Analyst("m:an"),
    )
    events, _ = await heard(made, known)
    requests = ["\n".join(message.text for message in request.messages) for request in known["m:z"].asked]
    assert len(requests) > 1
    assert ["the year" in request for request in requests] == [*(False for _ in requests[1:]), True]
    assert 'earlier "in July 1969"' in requests[-1]
    assert losses(events) == []


async def test_what_stopped_at_its_limit_is_read_as_far_as_it_goes_and_told() -> None:
    class Short(Says):
        async def __call__(self, request: Request, send: Send | None) -> Answer:
            return Answer((Text(json.dumps(FOUND)[:-20]),), "length", Usage(1, 1))

    events, transcript = await heard(recipe(), models(an=Short()))
    assert transcript.analysis is not None
    assert transcript.analysis.contradictions
    assert [(loss.seat, loss.kind) for loss in losses(events)] == [(1, "truncated")]


@jumping
async def test_a_cancelled_run_counts_the_analysts_call() -> None:
    known = models(an=Says(seconds=1000.0))
    events: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        events.append(event)

    task = asyncio.ensure_future(perform(recipe(), asking("When?"), known, hear))
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    grammar.check(events)
    assert [event.error and event.error.cause for event in events if isinstance(event, CallFinished)][-1] == "cancelled"
    assert not any(isinstance(event, AnalysisFailed | AnalysisFinished) for event in events)


def test_an_analyst_needs_two_seats_and_is_asked_once() -> None:
    with pytest.raises(ValueError, match="analyst compares at least 2 proposals, but the last layer has 1 seat"):
        Recipe(
            "r",
            (Layer((Agent("m:a"), Agent("m:b"))), Layer((Agent("m:a"),))),
            Aggregator("m:z"),
            analyst=Analyst("m:an"),
        )
    with pytest.raises(ValueError, match="there are no layers"):
        Recipe("r", (), Aggregator("m:z"), analyst=Analyst("m:an"))
    with pytest.raises(ValueError, match="the analyst is asked once"):
        Analyst("m:an", samples=2)
    with pytest.raises(ValueError, match="instruction is empty"):
        Analyst("m:an", instruction=" ")
    with pytest.raises(RecipeError, match=r"analyst.*samples"):
        overridden(recipe(), {"analyst": {"model": "m:an", "samples": 3}})
    assert recipe().calls == 4
    assert recipe().models == ("m:a", "m:b", "m:an", "m:z")


def test_a_recipe_file_names_the_analyst_by_its_id_or_as_a_table(tmp_path: Path) -> None:
    rest = 'name = "r"\naggregator = "m:z"\n{}\n[[layers]]\nagents = ["m:a", "m:b"]\n{}'
    path = tmp_path / "r.toml"
    path.write_text(rest.format('analyst = "m:an"', ""))
    assert read(path).analyst == Analyst("m:an")
    (tmp_path / "how.md").write_text("Compare.\n")
    path.write_text(rest.format("", '[analyst]\nmodel = "m:an"\nfallback = "m:b"\ninstruction_file = "how.md"'))
    assert read(path).analyst == Analyst("m:an", fallback=("m:b",), instruction="Compare.")
    with pytest.raises(RecipeError, match="no file is read"):
        tables_in(path.read_text())
    path.write_text(rest.format("", '[analyst]\nmodel = "m:an"\nmethod = "select"'))
    with pytest.raises(RecipeError, match="method"):
        read(path)


async def test_an_instruction_of_its_own_keeps_the_form() -> None:
    for instruction in ("Look for errors.", "Look for errors.\n\n{proposals}\n\nNow."):
        known = models()
        await heard(recipe(analyst=Analyst("m:an", instruction=instruction, system="You are fair.")), known)
        messages = known["m:an"].asked[0].messages
        assert messages[0].text == "You are fair."
        assert known["m:an"].prompt.startswith("Look for errors.")
        assert known["m:an"].prompt.count(SAYS["a"]) == 1
        assert '"contradictions"' in known["m:an"].prompt
