"""Time arithmetic: whatever the layers' rules and the models' times, the run ends when the rules say, to the moment."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong import Agent, Aggregator, Answer, Layer, Model, ModelError, Recipe, Request, Send, Text, Usage, asking
from partsong.engine import perform
from partsong.events import (
    AggregationStarted,
    AnyEvent,
    LayerFinished,
    ProposalFailed,
    ProposalFinished,
    RunFailed,
    RunFinished,
)
from partsong.model_info import ModelInfo
from tests import grammar
from tests.clock import START, JumpingLoop

SLIP = 1e-6
NEVER = 1e6
ODD = 0.0010037  # seconds: no sum of these and of quarters is another, so that no two things happen at once


@dataclass(frozen=True)
class Timed:
    """A model that answers, or fails, after so many seconds. `needs` is how long it says that it will take."""

    seconds: float
    fails: bool = False
    needs: float | None = None

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(seconds=lambda tokens: self.needs)

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise ModelError("it failed", "server")
        return Answer((Text("Said."),), usage=Usage(1, 1))


@dataclass(frozen=True)
class Told:
    """What must come of a recipe: who answers and when each layer ends, when the aggregator begins, when the run ends.

    `lost` holds the cause of each seat that has no proposal.
    """

    layers: tuple[float, ...]
    lost: dict[tuple[int, int], str]
    aggregation: float | None
    end: float
    finished: bool


def foretell(recipe: Recipe, models: dict[str, Timed]) -> Told:
    """The rules, worked out by hand: no loop, no task, no event."""
    now, ends, lost = 0.0, list[float](), dict[tuple[int, int], str]()
    aggregator, deadline = models[recipe.aggregator.model], recipe.deadline
    for number, layer in enumerate(recipe.layers):
        until, why = NEVER * 10, "timeout"
        if deadline is not None:
            reserve = max(recipe.reserve * deadline, min(aggregator.needs or 0.0, 0.9 * deadline))
            until = now + (deadline - reserve - now) / (len(recipe.layers) - number)
        if layer.deadline is not None:
            until = min(until, now + layer.deadline)
        seats = [models[agent.model] for agent in layer.seats]
        answered = sorted(now + seat.seconds for seat in seats if not seat.fails)
        if layer.quorum is not None and len(answered) >= layer.quorum:
            patience = answered[layer.quorum - 1] + (layer.grace or 0.0)
            if patience < until:
                until, why = patience, "cut_off"
        for seat, model in enumerate(seats):
            if now + model.seconds > until:
                lost[number, seat] = why
            elif model.fails:
                lost[number, seat] = "server"
        now = min(until, now + max(seat.seconds for seat in seats))
        ends.append(now)
        if all((number, seat) in lost for seat in range(len(seats))):
            return Told(tuple(ends), lost, None, now, finished=False)
    end = now + aggregator.seconds
    if deadline is not None and end > deadline:
        return Told(tuple(ends), lost, now, deadline, finished=False)
    return Told(tuple(ends), lost, now, end, finished=not aggregator.fails)


@dataclass(frozen=True)
class Planned:
    recipe: Recipe
    models: dict[str, Timed]


@st.composite
def plans(draw: st.DrawFn) -> Planned:
    """Recipes and models. No two things of a layer fall on the same moment: each model has its `ODD` bit."""
    quarters = st.integers(0, 80).map(lambda number: number / 4)
    maybe = st.none() | quarters.map(lambda seconds: seconds + 0.25)
    models: dict[str, Timed] = {}
    layers: list[Layer] = []
    for number in range(draw(st.integers(0, 3))):
        seats = draw(st.integers(1, 4))
        for seat in range(seats):
            hangs = draw(st.integers(0, 3)) == 0
            seconds = NEVER if hangs else draw(quarters) + (number * 4 + seat + 1) * ODD
            models[f"t:{number}.{seat}"] = Timed(seconds, fails=draw(st.integers(0, 3)) == 0)
        quorum = draw(st.none() | st.integers(1, seats))
        layers.append(
            Layer(
                tuple(Agent(f"t:{number}.{seat}") for seat in range(seats)),
                quorum=quorum,
                grace=None if quorum is None else draw(maybe),
                deadline=draw(maybe),
            )
        )
    models["t:z"] = Timed(draw(quarters) + 100 * ODD, fails=draw(st.integers(0, 5)) == 0, needs=draw(maybe))
    reserve = draw(st.sampled_from([0.0, 0.1, 0.4, 0.75, 0.9]))
    recipe = Recipe("t", tuple(layers), Aggregator("t:z"), deadline=draw(maybe), reserve=reserve)
    return Planned(recipe, models)


async def heard(planned: Planned) -> list[tuple[float, AnyEvent]]:
    events: list[tuple[float, AnyEvent]] = []
    clock = asyncio.get_running_loop().time

    async def emit(event: AnyEvent) -> None:
        events.append((clock() - START, event))

    models: dict[str, Model] = dict(planned.models)
    await perform(planned.recipe, asking("Why?"), models, emit)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no seat runs on when the run is over"
    grammar.check(event for _, event in events)
    return events


@settings(max_examples=500, deadline=None)
@given(plans())
def test_a_run_takes_the_time_that_its_rules_say(planned: Planned) -> None:
    recipe, told = planned.recipe, foretell(planned.recipe, planned.models)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        events = runner.run(heard(planned))
    layers = [at for at, event in events if isinstance(event, LayerFinished)]
    begun = [at for at, event in events if isinstance(event, AggregationStarted)]
    ended, last = events[-1]
    answered = {(event.layer, event.seat) for _, event in events if isinstance(event, ProposalFinished)}
    failed = {(event.layer, event.seat) for _, event in events if isinstance(event, ProposalFailed)}

    # What is promised, whatever the rules.
    deadline = recipe.deadline
    if deadline is not None:
        assert ended <= deadline + SLIP
        needed = max(deadline * recipe.reserve, min(planned.models["t:z"].needs or 0.0, deadline * 0.9))
        assert not begun or begun[0] <= deadline - needed + SLIP
    # And what the rules say, to the moment.
    assert layers == pytest.approx(told.layers, abs=SLIP)
    assert begun == ([] if told.aggregation is None else [pytest.approx(told.aggregation, abs=SLIP)])
    assert ended == pytest.approx(told.end, abs=SLIP)
    assert isinstance(last, RunFinished if told.finished else RunFailed)
    assert failed == set(told.lost)
    assert not answered & failed
    assert isinstance(last, RunFinished | RunFailed)
    assert {(loss.layer, loss.seat): loss.cause for loss in last.losses} == told.lost
    assert all((loss.kind == "cut_off") == (loss.cause in ("cut_off", "timeout")) for loss in last.losses)
    assert last.answered == len(answered)
    assert last.planned == sum(len(layer.seats) for layer in recipe.layers)
