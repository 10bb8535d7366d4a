"""Fallbacks: who really answered is told, and nothing that was heard is contradicted."""

import asyncio
from decimal import Decimal

import pytest
from msgspec.structs import replace

import partsong
from partsong import (
    Agent,
    Aggregator,
    Answer,
    Conversation,
    Layer,
    Model,
    ModelError,
    Recipe,
    Request,
    Send,
    Text,
    Tool,
    Usage,
)
from partsong.events import (
    AggregationReplaced,
    AnyEvent,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
)
from partsong.middleware.window import Window
from partsong.model import TextDelta, asking
from partsong.model_info import ModelInfo
from partsong.providers.scripted import Scripted
from partsong.transcript import Transcript
from tests.clock import jumping
from tests.engine.test_engine import Recorder, heard


class Hung:
    """A model that never says anything, and has a price."""

    info = ModelInfo(dollars=lambda usage: Decimal(usage.input_tokens))

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await asyncio.Event().wait()  # type: ignore[return-value]


class Failing:
    """A model that says `words` and then fails."""

    def __init__(self, error: ModelError, *words: str) -> None:
        self.error, self.words, self.calls = error, words, 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.calls += 1
        for word in self.words:
            if send is not None:
                await send(TextDelta(word))
        raise self.error


RATE = ModelError("slow down", "rate", status=429, usage=Usage(5, 0, dollars=Decimal("0.5")))


async def test_a_seat_that_fails_is_taken_over_and_everybody_is_told_by_whom() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a", fallback=("t:b", "t:c")), Agent("t:d"))),), Aggregator("t:z"))
    models: dict[str, Model] = {
        "t:a": Failing(RATE, "Half a "),
        "t:b": Failing(ModelError("no key", "auth")),
        "t:c": Recorder("c"),
        "t:d": Recorder("d"),
        "t:z": Recorder("z"),
    }
    events = await heard(recipe, models)
    replaced = [event for event in events if isinstance(event, ProposalReplaced)]
    assert [(event.seat, event.model, event.error.cause) for event in replaced] == [
        (0, "t:b", "rate"),
        (0, "t:c", "auth"),
    ]
    assert replaced[0].usage == RATE.usage
    finished = {event.seat: event for event in events if isinstance(event, ProposalFinished)}
    assert (finished[0].model, finished[0].answer.text, finished[1].model) == ("t:c", "c#1", "t:d")
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.kind, loss.model, loss.replaced_by, loss.cause) for loss in end.losses] == [
        ("replaced", "t:a", "t:c", "rate")
    ]
    assert (end.planned, end.answered, end.model) == (2, 2, "t:z")
    assert end.usage.dollars == Decimal("0.503")
    transcript = Transcript()
    for event in events:
        transcript.hear(event)
    seat = transcript.layers[0][0]
    assert (seat.model, seat.text) == ("t:c", "c#1")
    assert [(model, error.cause) for model, error in seat.replaced] == [("t:a", "rate"), ("t:b", "auth")]


async def test_a_seat_whose_fallbacks_fail_too_is_lost_for_the_cause_of_its_own_model() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a", fallback=("t:b",)), Agent("t:d"))),), Aggregator("t:z"))
    models: dict[str, Model] = {
        "t:a": Failing(RATE),
        "t:b": Failing(ModelError("no key", "auth")),
        "t:d": Recorder("d"),
        "t:z": Recorder("z"),
    }
    end = (await heard(recipe, models))[-1]
    assert isinstance(end, RunFinished)
    (loss,) = end.losses
    assert (loss.kind, loss.model, loss.cause, loss.message) == (
        "failed",
        "t:a",
        "rate",
        "slow down; its fallback: no key",
    )
    assert (end.planned, end.answered) == (2, 1)


async def test_an_aggregator_that_fails_before_its_first_word_is_taken_over() -> None:
    recipe = Recipe("t", (), Aggregator("t:a", fallback=("t:b",)))
    events = await heard(recipe, {"t:a": Failing(RATE), "t:b": Recorder("b")})
    assert AggregationReplaced("t:b", partsong.events.Failure("rate", "slow down", 429), RATE.usage) in events
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.model, end.answer.text) == ("t:b", "b#1")
    assert [(loss.layer, loss.kind, loss.model, loss.replaced_by) for loss in end.losses] == [
        (0, "replaced", "t:a", "t:b")
    ]


async def test_after_the_first_word_a_failure_ends_the_run_and_the_words_are_kept() -> None:
    recipe = Recipe("t", (Layer((Agent("t:b"),)),), Aggregator("t:a", fallback=("t:b",)), last_resort="best_proposal")
    other = Recorder("b")
    events = await heard(recipe, {"t:a": Failing(RATE, "It is", " because"), "t:b": other})
    end = events[-1]
    assert isinstance(end, RunFailed)
    assert (end.text, end.error.cause) == ("It is because", "rate")
    assert len(other.requests) == 1  # the proposal, and no second beginning


@jumping
async def test_a_hung_model_leaves_its_fallback_a_share_of_the_time() -> None:
    recipe = Recipe(
        "t",
        (Layer((Agent("t:hung", fallback=("t:b",)), Agent("t:b")), deadline=0.2),),
        Aggregator("t:hung", fallback=("t:b",)),
        deadline=0.8,
    )
    for watch in (True, False):
        events = await heard(recipe, {"t:hung": Hung(), "t:b": Recorder("b", 0.01)}, watch=watch)
        end = events[-1]
        assert isinstance(end, RunFinished)
        assert [(loss.layer, loss.kind, loss.cause) for loss in end.losses] == [
            (0, "replaced", "timeout"),
            (1, "replaced", "timeout"),
        ]
        # What the hung ones were asked has cost something, though they never said so.
        given_up = [event.usage for event in events if isinstance(event, ProposalReplaced | AggregationReplaced)]
        assert all(usage is not None and usage.estimated and usage.input_tokens for usage in given_up)
        assert end.usage.dollars is not None
        assert end.usage.dollars > 10


async def test_beside_tools_no_advice_stands_in_for_the_answer() -> None:
    dead = "scripted:z?fail=server"
    recipe = Recipe("t", (Layer((Agent("scripted:a?text=one"),)),), Aggregator(dead), last_resort="best_proposal")
    asked = replace(asking("Why?"), tools=(Tool("look", "Looks.", b'{"type":"object"}'),))
    models: dict[str, Model] = {name: Scripted(name.removeprefix("scripted:")) for name in recipe.models}
    end = (await heard(recipe, models, asked))[-1]
    assert isinstance(end, RunFailed)
    assert end.error.cause == "server"


@pytest.mark.parametrize("last_resort", ["fail", "best_proposal"])
async def test_the_last_resort_is_the_proposal_most_like_the_others_and_is_marked(last_resort: str) -> None:
    texts = ("Bananas are yellow.", "Air scatters blue light most of all.", "Air scatters blue light the most.")
    ids = [f"scripted:{name}?text={text}" for name, text in zip("abc", texts, strict=True)]
    dead = "scripted:z?fail=server"
    recipe = Recipe(
        "t",
        (Layer(tuple(Agent(name) for name in ids)),),
        Aggregator(dead),
        last_resort=last_resort,  # type: ignore[arg-type]
    )
    events: list[AnyEvent] = await heard(
        recipe, {name: Scripted(name.removeprefix("scripted:")) for name in recipe.models}
    )
    end = events[-1]
    if last_resort == "fail":
        assert isinstance(end, RunFailed)
        return
    assert isinstance(end, RunFinished)
    assert end.last_resort
    assert end.answer.text in texts[1:]
    assert end.model in ids[1:]
    assert [(loss.layer, loss.seat, loss.kind, loss.cause) for loss in end.losses] == [(1, 0, "failed", "server")]
    proposals = [event.answer.usage for event in events if isinstance(event, ProposalFinished)]
    assert end.usage.input_tokens == sum(usage.input_tokens for usage in proposals)  # and no proposal counts twice


async def test_what_a_model_cannot_read_its_fallback_reads() -> None:
    """Without a call there is nothing to count, and nothing that could have been said."""
    small = Window(Recorder("a"), "t:a", ModelInfo(window=300))
    layer = Layer((Agent("t:a", fallback=("t:b",)),))
    recipe = Recipe("t", (Layer((Agent("t:b"),)), layer), Aggregator("t:a", fallback=("t:z",)), fit="fail")
    long = Scripted("long?text=" + "word " * 400)
    models: dict[str, Model] = {"t:a": small, "t:b": long, "t:z": Recorder("z")}
    end = (await heard(recipe, models))[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.layer, loss.kind, loss.cause, loss.replaced_by) for loss in end.losses] == [
        (1, "replaced", "window", "t:b"),
        (2, "replaced", "window", "t:z"),
    ]
    strict = partsong.recipe.replace(recipe, strict=True)
    failed = (await heard(strict, models))[-1]
    assert isinstance(failed, RunFailed)
    assert failed.error.cause == "window"
    assert "its fallback" not in failed.error.message


async def test_prose_does_not_stand_in_for_json() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a"),)),), Aggregator("t:z"), last_resort="best_proposal")
    models: dict[str, Model] = {"t:a": Recorder("a"), "t:z": Failing(RATE)}
    asked = Conversation(asking("Why?").messages, response_format=b'{"type":"object"}')
    assert isinstance((await heard(recipe, models, asked))[-1], RunFailed)


async def test_an_answer_of_a_fallback_has_its_words_only_once() -> None:
    answer = Answer((Text("b#1"),), usage=Usage(10, 2, dollars=Decimal("0.001")), model="b")
    recipe = Recipe("t", (), Aggregator("t:a", fallback=("t:b",)))
    transcript = await partsong.run(recipe, "Why?", {"t:a": Failing(RATE), "t:b": Recorder("b")})
    assert (transcript.text, transcript.answer) == ("b#1", answer)
    assert transcript.replaced[0][0] == "t:a"
