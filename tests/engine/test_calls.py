"""Every call to a model is an event, whatever becomes of it, and the calls of a run add up to what it has used."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

import partsong
from partsong import Agent, Aggregator, Answer, Layer, Model, ModelError, Recipe, Request, Send, Text, TextDelta, Usage
from partsong.engine import perform
from partsong.events import (
    AnyEvent,
    CallFinished,
    PromptFitted,
    ProposalDelta,
    ProposalFinished,
    RunFailed,
    RunFinished,
    from_json,
    to_json,
)
from partsong.model import Conversation, asking
from partsong.model_info import ModelInfo
from partsong.transcript import Transcript
from tests import grammar
from tests.clock import jumping

COST = Usage(10, 3, dollars=Decimal("0.001"))


async def well(request: Request, send: Send | None) -> Answer:
    if send is not None:
        await send(TextDelta("Well said."))
    return Answer((Text("Well said."),), usage=COST)


class Speaks:
    """Says `text`, waits `before` it begins and `after` it has spoken, and then answers or fails with `error`."""

    def __init__(
        self, text: str = "A word.", *, before: float = 0, after: float = 0, error: ModelError | None = None
    ) -> None:
        self.text, self.before, self.after, self.error = text, before, after, error

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        await asyncio.sleep(self.before)
        if self.text and send is not None:
            await send(TextDelta(self.text))
        await asyncio.sleep(self.after)
        if self.error is not None:
            raise self.error
        return Answer((Text(self.text),), usage=COST)


def recipe(*layers: Layer, aggregator: str = "z", **rules: Any) -> Recipe:
    method = rules.pop("method", "synthesize")
    first, *others = aggregator.split("|")
    last = Aggregator(f"t:{first}", method=method, fallback=tuple(f"t:{name}" for name in others))
    return Recipe("t", layers, last, **rules)


def layer(proposers: str, **rules: Any) -> Layer:
    agents = (names.split("|") for names in proposers.split())
    return Layer(
        tuple(Agent(f"t:{first}", fallback=tuple(f"t:{name}" for name in others)) for first, *others in agents), **rules
    )


async def heard(
    wanted: Recipe, models: Mapping[str, Model], conversation: Conversation | None = None, **how: Any
) -> list[AnyEvent]:
    """The events of a run, checked by the grammar: it compares the calls with the run's usage."""
    events: list[AnyEvent] = []
    pause: Mapping[type[object], float] = how.pop("pause", {})

    async def emit(event: AnyEvent) -> None:
        events.append(event)
        if seconds := pause.get(type(event)):
            await asyncio.sleep(seconds)

    known = {f"t:{name}": model for name, model in models.items()}
    await perform(wanted, conversation or asking("Why?"), known, emit, **how)
    grammar.check(events)
    return events


def calls_of(events: list[AnyEvent]) -> list[CallFinished]:
    return [event for event in events if isinstance(event, CallFinished)]


def told(events: list[AnyEvent]) -> list[tuple[int, int, str, str | None]]:
    return [
        (call.layer, call.seat, call.model, None if call.error is None else call.error.cause)
        for call in sorted(calls_of(events), key=lambda call: (call.layer, call.seat, call.started))
    ]


async def test_a_ranker_that_names_none_is_paid_and_the_last_resort_is_no_call() -> None:
    wanted = recipe(layer("a b"), aggregator="z", method="select", last_resort="best_proposal")
    events = await heard(wanted, {"a": well, "b": Speaks("Another."), "z": Speaks("I like them all.")})
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.last_resort
    assert told(events) == [(0, 0, "t:a", None), (0, 1, "t:b", None), (1, 0, "t:z", None)]
    assert [call.usage for call in calls_of(events)] == [COST] * 3
    assert end.usage == COST + COST + COST


async def test_an_aggregator_that_fails_in_mid_answer_is_a_call_with_its_tokens() -> None:
    broken = Speaks("As far as I know, it is so. ", error=ModelError("broken", "server"))
    events = await heard(recipe(layer("a"), last_resort="best_proposal"), {"a": well, "z": broken})
    end, call = events[-1], calls_of(events)[-1]
    assert isinstance(end, RunFailed)
    assert (call.layer, call.seat, call.model) == (1, 0, "t:z")
    assert call.error == end.error
    assert call.usage is not None
    assert call.usage.estimated
    assert call.usage.output_tokens > 0
    assert end.usage == COST + call.usage


@jumping
async def test_a_call_says_when_it_began_and_how_long_it_took() -> None:
    models = {"a": Speaks(before=0.1, after=0.2), "z": Speaks(before=1 / 3, after=0)}
    proposal, answer = calls_of(await heard(recipe(layer("a")), models))
    assert proposal.started == pytest.approx(0, abs=0.01)
    assert proposal.seconds == pytest.approx(0.3, abs=0.01)
    assert answer.started == pytest.approx(0.3, abs=0.02)
    assert answer.seconds == pytest.approx(1 / 3, abs=0.01)


@jumping
async def test_a_seat_that_is_cut_off_ends_its_call_with_an_estimate() -> None:
    events = await heard(recipe(layer("a b", quorum=1, grace=0.5)), {"a": well, "b": Speaks(after=60), "z": well})
    (call,) = (call for call in calls_of(events) if call.error)
    assert call.error is not None
    assert (call.model, call.error.cause) == ("t:b", "cut_off")
    assert call.seconds == pytest.approx(0.5, abs=0.01)
    assert call.usage is not None
    assert call.usage.estimated


@jumping
async def test_models_that_say_nothing_are_given_up_one_after_the_other() -> None:
    silent = Speaks("", before=1000)
    wanted = recipe(layer("a|b|c"), aggregator="x|z", deadline=20.0)
    events = await heard(wanted, {"a": silent, "b": silent, "c": well, "x": silent, "z": well})
    assert told(events) == [
        (0, 0, "t:a", "timeout"),
        (0, 0, "t:b", "timeout"),
        (0, 0, "t:c", None),
        (1, 0, "t:x", "timeout"),
        (1, 0, "t:z", None),
    ]
    assert all(call.usage is not None and call.usage.estimated for call in calls_of(events) if call.error)


@jumping
async def test_the_deadline_ends_the_aggregators_call() -> None:
    events = await heard(recipe(layer("a"), deadline=5.0), {"a": well, "z": Speaks(after=1000)})
    assert told(events) == [(0, 0, "t:a", None), (1, 0, "t:z", "timeout")]


async def test_an_open_call_ends_with_the_run_that_fails() -> None:
    models: dict[str, Model] = {"a": Speaks(error=ModelError("broken", "server")), "b": Speaks(after=60), "z": well}
    events = await heard(recipe(layer("a b"), strict=True), models)
    assert told(events) == [(0, 0, "t:a", "server"), (0, 1, "t:b", "cancelled")]


@jumping
async def test_an_open_call_ends_with_the_run_that_is_cancelled() -> None:
    events: list[AnyEvent] = []

    async def emit(event: AnyEvent) -> None:
        events.append(event)

    models = {f"t:{name}": Speaks(after=60) for name in "abz"}
    run = asyncio.create_task(perform(recipe(layer("a b")), asking("Why?"), models, emit))
    await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    grammar.check(events)
    assert told(events) == [(0, 0, "t:a", "cancelled"), (0, 1, "t:b", "cancelled")]


class Stubborn:
    """A model that does not stop when it is cancelled. Later it answers, fails, or refuses and tells its window."""

    def __init__(self, outcome: str) -> None:
        self.outcome, self.released, self.asked = outcome, asyncio.Event(), 0
        self.info = ModelInfo(window=100_000)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.asked += 1
        asyncio.get_running_loop().call_later(1000, self.released.set)
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue
        if self.outcome == "answers":
            return Answer((Text("Too late."),), usage=COST)
        self.info = ModelInfo(window=50_000)
        raise ModelError("too late", "server" if self.outcome == "fails" else "window")


@pytest.mark.parametrize("place", ["layer", "aggregator"])
@pytest.mark.parametrize("outcome", ["answers", "fails", "is too long"])
@jumping
async def test_a_seat_that_has_ended_tells_no_call_again_and_asks_nobody(outcome: str, place: str) -> None:
    late = Stubborn(outcome)
    if place == "layer":
        wanted, cause = recipe(layer("a b|a", quorum=1), deadline=5.0), "cut_off"
    else:
        wanted, cause = recipe(layer("a"), aggregator="b", deadline=5.0), "timeout"
    events = await heard(wanted, {"a": well, "b": late, "z": well})
    before = len(events)
    late.released.set()
    await asyncio.sleep(1)
    assert len(events) == before
    assert late.asked == 1
    assert [call.model for call in calls_of(events)].count("t:b") == 1
    assert next(error for _, _, model, error in told(events) if model == "t:b") == cause


async def test_an_answer_that_is_written_again_is_two_calls() -> None:
    said = iter(("No JSON.", '{"a": 1}'))

    async def twice(request: Request, send: Send | None) -> Answer:
        return Answer((Text(next(said)),), usage=COST)

    conversation = Conversation(asking("Why?").messages, response_format=b'{"type": "object"}')
    events = await heard(recipe(layer("a")), {"a": well, "z": twice}, conversation, live=False)
    assert told(events) == [(0, 0, "t:a", None), (1, 0, "t:z", None), (1, 0, "t:z", None)]
    assert isinstance(events[-1], RunFinished)


class Narrow:
    """A model whose window is learnt from its refusal."""

    def __init__(self) -> None:
        self.info = ModelInfo(window=100_000)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        if self.info.window == 100_000:
            self.info = ModelInfo(window=2000)
            raise ModelError("too long", "window", status=400, window=2000)
        return await well(request, send)


async def test_a_refused_prompt_and_the_fitted_one_are_two_calls() -> None:
    long = Speaks("word " * 5000)
    events = await heard(recipe(layer("a a")), {"a": long, "z": Narrow()})
    assert any(isinstance(event, PromptFitted) for event in events)
    assert told(events)[2:] == [(1, 0, "t:z", "window"), (1, 0, "t:z", None)]


async def test_the_steps_of_an_aggregation_are_calls() -> None:
    class Small:
        info = ModelInfo(window=4000)

        async def __call__(self, request: Request, send: Send | None) -> Answer:
            return await well(request, send)

    long = Speaks("word " * 2000)
    events = await heard(recipe(layer("a a a a"), fit="window"), {"a": long, "z": Small()})
    last = [call for call in calls_of(events) if call.layer == 1]
    assert len(last) > 1
    assert all(call.error is None for call in last)


async def test_an_answer_without_a_word_is_a_failed_call_with_its_usage() -> None:
    async def empty(request: Request, send: Send | None) -> Answer:
        return Answer((), usage=COST)

    events = await heard(recipe(layer("a b")), {"a": empty, "b": well, "z": well})
    assert told(events)[0] == (0, 0, "t:a", "empty")
    assert calls_of(events)[0].usage == COST


async def test_a_stored_answer_says_so() -> None:
    async def stored(request: Request, send: Send | None) -> Answer:
        return Answer((Text("Known."),), usage=Usage(dollars=Decimal(0)), stored=COST)

    events = await heard(recipe(layer("a")), {"a": stored, "z": well})
    assert [call.stored for call in calls_of(events)] == [True, False]
    assert [call.stored_usage for call in calls_of(events)] == [COST, None]


@pytest.mark.parametrize("grace", [0.0, 0.05, 0.15])
@jumping
async def test_a_seat_that_is_cut_off_while_its_call_waits_to_be_heard_takes_no_call_along(grace: float) -> None:
    """A slow listener: failed calls wait for their turn when the quorum's grace is over."""
    broken = Speaks(error=ModelError("broken", "server"))
    models: dict[str, Model] = {"a": well, "b": broken, "c": Speaks(before=0.1), "z": well}
    pause = {ProposalDelta: 0.1, CallFinished: 0.1, ProposalFinished: 0.1}
    for watch in (True, False):
        wanted = recipe(layer("b|c a b|c b a", quorum=1, grace=grace))
        events = await heard(wanted, models, pause=pause, watch=watch)
        assert isinstance(events[-1], RunFinished)


@pytest.mark.parametrize("strict", [False, True])
async def test_a_reader_of_a_stream_that_falls_behind_misses_no_call(strict: bool) -> None:
    async def talks(request: Request, send: Send | None) -> Answer:
        for _ in range(100):
            assert send is not None
            await send(TextDelta("word "))
        return Answer((Text("word " * 100),), usage=COST)

    async def breaks(request: Request, send: Send | None) -> Answer:
        await talks(request, send)
        raise ModelError("broken", "server")

    wanted = recipe(layer("a a b b b", quorum=1), strict=strict)
    events: list[AnyEvent] = []
    async with partsong.stream(wanted, "Why?", {"t:a": talks, "t:b": breaks, "t:z": talks}) as stream:
        async for event in stream:
            await asyncio.sleep(0.001)
            events.append(event)
    grammar.check(events)


def test_a_run_that_was_stored_before_calls_were_events_stays_readable() -> None:
    lines = (
        (
            '{"event":"run_started","recipe":{"name":"t","layers":[],"aggregator":{"model":"t:z"}},'
            '"conversation":{"messages":[{"role":"user","parts":[{"type":"text","text":"Why?"}]}]}}'
        ),
        '{"event":"aggregation_started","model":"t:z"}',
        '{"event":"run_finished","answer":{"parts":[{"type":"text","text":"So."}]},"usage":{"input_tokens":5}}',
    )
    transcript = Transcript()
    for line in lines:
        transcript.hear(from_json(line))
    assert (transcript.text, transcript.usage.input_tokens, transcript.calls) == ("So.", 5, [])


def test_a_call_goes_to_json_and_back() -> None:
    call = CallFinished(1, 0, "t:z", 0.25, 1.5, COST, stored=True)
    assert from_json(to_json(call)) == call
    refused = CallFinished(0, 0, "t:a", 0.0, 0.0, error=partsong.events.Failure("resting", "it rests"))
    assert from_json(to_json(refused)) == refused
    assert not refused.reached
    assert call.reached
