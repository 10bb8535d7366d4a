"""Losses are told in kind, cost what they cost, and under `strict` end the run."""

import asyncio
from decimal import Decimal

from msgspec.structs import replace

from partsong import Agent, Aggregator, Answer, Layer, Model, Recipe, Request, Send
from partsong.errors import ModelError
from partsong.events import LossKind, ProposalFailed, RunFailed, RunFinished
from partsong.model import Caveat, Conversation, Message, Text, TextDelta, Tool, ToolCall, Usage
from partsong.model_info import ModelInfo
from partsong.prompts import fenced
from tests.clock import jumping
from tests.engine.test_engine import Recorder, heard
from tests.engine.test_fallback import RATE, Failing, Hung


class Cut(Recorder):
    """A model whose answers end at their limit of tokens."""

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        answer = await super().__call__(request, send)
        return Answer(answer.parts, "length", answer.usage, answer.model)


class Slow:
    """A model that says two words, and no end."""

    info = ModelInfo(dollars=lambda usage: usage.output_tokens * Decimal("0.25"))

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        if send is not None:
            await send(TextDelta("sixteen letters, "))
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def test_a_truncated_proposal_is_used_marked_and_told() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a"), Agent("t:b"))),), Aggregator("t:z"))
    last = Recorder("z")
    events = await heard(recipe, {"t:a": Recorder("a"), "t:b": Cut("b"), "t:z": last})
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.seat, loss.kind, loss.cause) for loss in end.losses] == [(1, "truncated", "truncated")]
    assert (end.planned, end.answered) == (2, 2)
    told = last.requests[0].messages[-1].text
    assert 'number=2 truncated="limit of tokens">\nb#1\n' in told
    assert "number=1>\na#1\n" in told
    assert fenced(("a", "b"), "", frozenset({1})).count("truncated=") == 1


async def test_the_papers_layout_stays_as_it_is_also_when_a_proposal_is_truncated() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a"),)),), Aggregator("t:z"), layout="paper", instruction="Weigh:")
    last = Recorder("z")
    await heard(recipe, {"t:a": Cut("a"), "t:z": last})
    assert last.requests[0].messages[0].text == "Weigh:\n1. a#1"


async def test_an_answer_that_ends_at_its_limit_is_a_loss_of_the_aggregator() -> None:
    end = (await heard(Recipe("t", (), Aggregator("t:z")), {"t:z": Cut("z")}))[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.layer, loss.seat, loss.kind) for loss in end.losses] == [(0, 0, "truncated")]


@jumping
async def test_strict_makes_a_failure_of_any_loss_and_asks_nobody_after_it() -> None:
    layer = Layer((Agent("t:a", fallback=("t:c",)), Agent("t:b")), quorum=1, grace=0.05)
    recipe = Recipe("t", (layer,), Aggregator("t:z", fallback=("t:c",)), strict=True)
    good: dict[str, Model] = {name: Recorder(name[2:]) for name in ("t:a", "t:b", "t:c", "t:z")}
    assert isinstance((await heard(recipe, good))[-1], RunFinished)
    cases: list[tuple[str, Model, LossKind, str]] = [
        ("t:a", Failing(RATE), "failed", "rate"),
        ("t:b", Failing(RATE), "failed", "rate"),
        ("t:b", Hung(), "cut_off", "cut_off"),
        ("t:b", Cut("b"), "truncated", "truncated"),
        ("t:z", Cut("z"), "truncated", "truncated"),
    ]
    for name, model, kind, cause in cases:
        last, spare = Recorder("z"), Recorder("c")
        end = (await heard(recipe, good | {"t:z": last, "t:c": spare, name: model}))[-1]
        assert isinstance(end, RunFailed), name
        assert (end.losses[-1].kind, end.error.cause) == (kind, cause)
        assert end.error.message.startswith("strict: ")
        assert not last.requests
        assert not spare.requests
    end = (await heard(recipe, good | {"t:z": Failing(RATE)}))[-1]
    assert isinstance(end, RunFailed)
    assert end.error.cause == "rate"


@jumping
async def test_what_a_cut_off_seat_was_asked_and_had_said_is_counted() -> None:
    layer = Layer((Agent("t:a"), Agent("t:b")), quorum=1, grace=0.02)
    models: dict[str, Model] = {"t:a": Recorder("a"), "t:b": Slow(), "t:z": Recorder("z")}
    models["t:a"] = Recorder("a", 0.01)
    events = await heard(Recipe("t", (layer,), Aggregator("t:z")), models)
    (lost,) = [event for event in events if isinstance(event, ProposalFailed)]
    assert lost.error.cause == "cut_off"
    assert lost.usage is not None
    assert (lost.usage.output_tokens, lost.usage.estimated, lost.usage.dollars) == (9, True, Decimal("2.25"))
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.usage.dollars == Decimal("2.25") + 2 * Decimal("0.001")
    assert [loss.kind for loss in end.losses] == ["cut_off"]


@jumping
async def test_a_run_that_is_cancelled_counts_the_calls_that_were_open() -> None:
    recipe = Recipe("t", (Layer((Agent("t:b"),)),), Aggregator("t:z"))
    failed: list[RunFailed] = []

    async def emit(event: object) -> None:
        if isinstance(event, RunFailed):
            failed.append(event)

    from partsong.engine import perform
    from partsong.model import asking

    run = asyncio.create_task(perform(recipe, asking("Why?"), {"t:b": Slow(), "t:z": Recorder("z")}, emit))
    await asyncio.sleep(0.02)
    run.cancel()
    await asyncio.wait([run])
    assert failed[0].error.cause == "cancelled"
    assert (failed[0].usage.output_tokens, failed[0].usage.dollars) == (9, Decimal("2.25"))
    assert (failed[0].planned, failed[0].answered) == (1, 0)


class Odd(Recorder):
    """A model whose answers have caveats."""

    caveats = (Caveat("truncated", 'it ended with "pause_turn"'), Caveat("shortened", "it reads no pictures"))

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        answer = await super().__call__(request, send)
        return replace(answer, finish_reason="length", caveats=self.caveats)


async def test_the_caveats_of_an_answer_are_losses_of_its_seat() -> None:
    recipe = Recipe("t", (Layer((Agent("t:a"), Agent("t:b"))),), Aggregator("t:z"))
    end = (await heard(recipe, {"t:a": Recorder("a"), "t:b": Odd("b"), "t:z": Odd("z")}))[-1]
    assert isinstance(end, RunFinished)
    assert [(loss.layer, loss.seat, loss.kind, loss.message) for loss in end.losses] == [
        (layer, seat, caveat.kind, caveat.message) for layer, seat in ((0, 1), (1, 0)) for caveat in Odd.caveats
    ]
    strict = (await heard(replace(recipe, strict=True), {"t:a": Recorder("a"), "t:b": Odd("b"), "t:z": Recorder("z")}))[
        -1
    ]
    assert isinstance(strict, RunFailed)
    assert "pause_turn" in strict.error.message


class Mistaken(Recorder):
    """A model whose first tool call its provider cannot use, before or after it has said a word."""

    def __init__(self, name: str, word: str) -> None:
        super().__init__(name)
        self.word = word

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.requests.append(request)
        if len(self.requests) > 1:
            return Answer((ToolCall("c", "look", "{}"),), "tool_calls", Usage(2, 3))
        if self.word and send is not None:
            await send(TextDelta(self.word))
        raise ModelError("no such parameter", "invalid", usage=Usage(5, 7), wrote='{"foo": 1}')


async def test_a_mistake_of_the_models_that_its_provider_has_found_is_written_again() -> None:
    for word in ("", "Let me look. "):
        model = Mistaken("z", word)
        asked = Conversation((Message("user", (Text("Why?"),)),), tools=(Tool("look", "", b'{"type":"object"}'),))
        end = (await heard(Recipe("t", (), Aggregator("t:z")), {"t:z": model}, asked))[-1]
        assert isinstance(end, RunFinished)
        assert end.answer.text == word
        assert [part.name for part in end.answer.parts if isinstance(part, ToolCall)] == ["look"]
        told = model.requests[1].messages[-1].text
        assert "no such parameter" in told
        assert '{"foo": 1}' in told
        assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 10)
