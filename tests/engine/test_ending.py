"""A run ends properly, whatever its models and its listener do: will not be cancelled, raise, are slow, are late."""

import asyncio

import pytest

from partsong import Agent, Aggregator, Answer, Layer, Model, Recipe, Request, Send, Text, TextDelta, Usage, asking
from partsong.engine import perform
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    LayerStarted,
    ProposalDelta,
    RunFailed,
    RunFinished,
    RunStarted,
)
from tests import grammar
from tests.clock import jumping

DEADLINE = 10.0
FOR_EVER = 10_000.0
SLIP = 0.01


class Stubborn:
    """A model that does not stop when it is told to: only `end` ends it."""

    def __init__(self, word: str = "") -> None:
        self.word, self.stop, self.told = word, asyncio.Event(), 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        asyncio.get_running_loop().call_later(FOR_EVER, self.stop.set)
        if self.word and send is not None:
            await send(TextDelta(self.word))
        while not self.stop.is_set():
            try:
                await self.stop.wait()
            except asyncio.CancelledError:
                self.told += 1
        return Answer((Text("Too late."),), usage=Usage(1, 1))

    async def end(self) -> None:
        self.stop.set()
        await asyncio.sleep(0.1)


async def well(request: Request, send: Send | None) -> Answer:
    if send is not None:
        await send(TextDelta("Well "))
        await send(TextDelta("said."))
    return Answer((Text("Well said."),), usage=Usage(1, 2))


class Hung:
    """A model that never answers; `open` counts its calls that nobody has closed."""

    def __init__(self) -> None:
        self.open = 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.open += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
        raise AssertionError


class Listener:
    """Keeps events and their times; takes `seconds` for each kind of event that is named."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.events, self.times = seconds, list[AnyEvent](), list[float]()
        self.started = asyncio.get_running_loop().time()

    async def __call__(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.times.append(asyncio.get_running_loop().time() - self.started)
        if pause := self.seconds.get(type(event).__name__):
            await asyncio.sleep(pause)

    def when(self, kind: type[object]) -> float:
        return next(at for event, at in zip(self.events, self.times, strict=True) if isinstance(event, kind))


def mixture(proposers: str, aggregator: str = "z", **rules: float | None) -> Recipe:
    quorum = {"quorum": int(rules.pop("quorum") or 1), "grace": 0.0} if "quorum" in rules else {}
    agents = tuple(Agent(f"t:{name}") for name in proposers.split())
    layers = (Layer(agents, **quorum),) if agents else ()  # type: ignore[arg-type]
    settings = {"deadline": DEADLINE} | rules
    return Recipe("t", layers, Aggregator(f"t:{aggregator}"), **settings)  # type: ignore[arg-type]


async def performed(recipe: Recipe, models: dict[str, Model], hear: Listener | None = None) -> Listener:
    hear = hear or Listener()
    await perform(recipe, asking("Why?"), {f"t:{name}": model for name, model in models.items()}, hear)
    grammar.check(hear.events)
    return hear


@pytest.mark.parametrize("word", ["", "A word"])
@pytest.mark.parametrize("deadline", [2.0, 10.0, 600.0])
@jumping
async def test_a_proposer_that_will_not_stop_takes_nothing_from_the_aggregators_reserve(
    deadline: float, word: str
) -> None:
    stubborn = Stubborn(word)
    heard = await performed(mixture("a b", deadline=deadline), {"a": well, "b": stubborn, "z": well})
    assert isinstance(heard.events[-1], RunFinished)
    assert heard.when(AggregationStarted) <= deadline * 0.6 + SLIP
    assert stubborn.told
    await stubborn.end()
    assert isinstance(heard.events[-1], RunFinished), "what comes too late is not heard"


@jumping
async def test_a_proposer_that_will_not_stop_does_not_delay_what_comes_after_the_grace() -> None:
    stubborn = Stubborn()
    heard = await performed(mixture("a b", quorum=1), {"a": well, "b": stubborn, "z": well})
    assert heard.when(AggregationStarted) <= SLIP
    await stubborn.end()


@pytest.mark.parametrize("word", ["", "A word"])
@jumping
async def test_an_aggregator_that_will_not_stop_does_not_outlast_the_deadline(word: str) -> None:
    stubborn = Stubborn(word)
    run = asyncio.create_task(performed(mixture("a"), {"a": well, "z": stubborn}))
    await asyncio.wait([run], timeout=DEADLINE + 2)
    ended = run.done()
    await stubborn.end()
    await asyncio.wait([run])
    assert ended, "the run outlasts its deadline"
    last = run.result().events[-1]
    assert isinstance(last, RunFailed)
    assert last.error.cause == "timeout"
    assert last.text == word


@pytest.mark.parametrize("who", ["a", "z"])
@jumping
async def test_a_run_that_is_cancelled_ends_though_a_model_does_not(who: str) -> None:
    stubborn = Stubborn()
    models: dict[str, Model] = {"a": well, "z": well, who: stubborn}
    heard = Listener()
    run = asyncio.create_task(performed(mixture("a", deadline=None), models, heard))
    await asyncio.sleep(1)
    run.cancel()
    await asyncio.wait([run], timeout=3)
    ended = run.done()
    await stubborn.end()
    await asyncio.wait([run])
    assert ended
    assert run.cancelled()
    ends = [event for event in heard.events if isinstance(event, RunFailed)]
    assert [end.error.cause for end in ends] == ["cancelled"]
    assert heard.events[-1] is ends[0], "nothing is said after the end"


@pytest.mark.parametrize("kind", [RunStarted, LayerStarted, ProposalDelta, AggregationStarted, AggregationDelta])
@jumping
async def test_a_listener_that_raises_ends_the_run_with_its_own_error(kind: type[AnyEvent]) -> None:
    class Broken(Listener):
        async def __call__(self, event: AnyEvent) -> None:
            if isinstance(event, kind):
                raise LookupError("the listener is broken")
            await super().__call__(event)

    hung = Hung()
    with pytest.raises(LookupError, match="the listener is broken"):
        await performed(mixture("a b", quorum=1), {"a": well, "b": hung, "z": well}, Broken())
    assert not hung.open, "every call is closed"


@jumping
async def test_a_slow_listener_slows_the_run_but_loses_nothing() -> None:
    hear = Listener(ProposalDelta=0.2, AggregationDelta=0.3, ProposalStarted=0.1)
    heard = await performed(mixture("a b c"), {"a": well, "b": well, "c": well, "z": well}, hear)
    last = heard.events[-1]
    assert isinstance(last, RunFinished)
    assert last.losses == ()
    assert last.answered == 3
    assert last.answer.text == "Well said."


@jumping
async def test_a_listener_that_takes_longer_than_the_deadline_leaves_a_failed_run_and_no_call() -> None:
    hung = Hung()
    heard = await performed(mixture("a b"), {"a": hung, "b": hung, "z": well}, Listener(ProposalStarted=DEADLINE))
    last = heard.events[-1]
    assert isinstance(last, RunFailed)
    assert last.error.cause == "no_proposals"
    assert {loss.cause for loss in last.losses} == {"timeout"}
    assert heard.times[-1] <= 2 * DEADLINE + SLIP, "the listener's own time, and nothing more"
    assert not hung.open


@pytest.mark.parametrize("deadline", [5e-324, 1e-9, 0.001])
@pytest.mark.parametrize("proposers", ["", "a b"])
@jumping
async def test_a_deadline_that_is_over_at_once_ends_the_run_at_once(proposers: str, deadline: float) -> None:
    hung = Hung()
    heard = await performed(mixture(proposers, deadline=deadline), {"a": hung, "b": hung, "z": hung})
    last = heard.events[-1]
    assert isinstance(last, RunFailed)
    assert last.error.cause == ("no_proposals" if proposers else "timeout")
    assert heard.times[-1] <= SLIP
    assert not hung.open


@jumping
async def test_a_run_that_began_too_late_says_so() -> None:
    hear = Listener(RunStarted=DEADLINE + 1)
    hung = Hung()
    heard = await performed(mixture("a"), {"a": hung, "z": well}, hear)
    last = heard.events[-1]
    assert isinstance(last, RunFailed)
    assert heard.times[-1] <= DEADLINE + 1 + SLIP
    assert not hung.open
