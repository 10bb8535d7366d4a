"""What is dropped, and in which order, when a recipe costs more than it may."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from partsong import Agent, Aggregator, Answer, Layer, Model, Recipe, Request, Send, asking, assemble, run
from partsong.errors import BudgetError, RecipeError
from partsong.middleware.price import fixed
from partsong.model import Conversation, Sampling, Tool
from partsong.model_info import ModelInfo, info_of
from partsong.money.costing import RETOLD, Costs
from partsong.money.funding import DailyFunds
from partsong.money.planning import Plan, plan
from partsong.recipe import Analyst, Fit, LastResort, Method, Otherwise, Sees, replace
from partsong.store import open_store

QUESTION = asking("Why is the sky blue?")
DOLLAR_A_THOUSAND = ModelInfo(dollars=fixed(Decimal(0), Decimal(1000)))  # of tokens written; reading is free


@dataclass(frozen=True, slots=True)
class Known:
    info: ModelInfo

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        raise AssertionError("nothing is asked while it is planned")


def known(recipe: Recipe, info: ModelInfo = DOLLAR_A_THOUSAND, **others: ModelInfo) -> dict[str, Model]:
    return {name: Known(others.get(name.partition(":")[2], info)) for name in recipe.models}


def layer(*agents: str | tuple[str, int], quorum: int | None = None) -> Layer:
    named = [agent if isinstance(agent, tuple) else (agent, 1) for agent in agents]
    return Layer(tuple(Agent(name, samples, max_tokens=1000) for name, samples in named), quorum)


def recipe(*layers: Layer) -> Recipe:
    return Recipe("r", layers, Aggregator("x:z", max_tokens=1000))


def planned(made: Recipe, dollars: int, **providers: int) -> Plan:
    """The plan where each call costs a dollar."""
    caps = {"": Decimal(dollars)} | {name: Decimal(cap) for name, cap in providers.items()}
    return plan(made, QUESTION, known(made), caps)


def shape(made: Recipe) -> list[list[tuple[str, int]]]:
    return [[(agent.model, agent.samples) for agent in each.agents] for each in made.layers]


def test_what_fits_is_left_alone() -> None:
    made = recipe(layer("x:a", "x:b"))
    plan = planned(made, 3)
    assert plan.recipe is made
    assert plan.dropped == ()
    assert plan.worst == {"": 3, "x": 3}
    assert list(plan.later) == [{"": 1, "x": 1}, {}]


def test_samples_go_first_then_seats_then_layers_then_all_but_the_aggregator() -> None:
    made = recipe(layer(("x:a", 3), "x:b", ("x:c", 3)), layer("x:d", ("x:e", 2), quorum=3))
    assert [shape(planned(made, dollars).recipe) for dollars in range(11, 0, -1)] == [
        [[("x:a", 3), ("x:b", 1), ("x:c", 3)], [("x:d", 1), ("x:e", 2)]],
        [[("x:a", 3), ("x:b", 1), ("x:c", 2)], [("x:d", 1), ("x:e", 2)]],
        [[("x:a", 2), ("x:b", 1), ("x:c", 2)], [("x:d", 1), ("x:e", 2)]],
        [[("x:a", 2), ("x:b", 1), ("x:c", 2)], [("x:d", 1), ("x:e", 1)]],
        [[("x:a", 2), ("x:b", 1), ("x:c", 1)], [("x:d", 1), ("x:e", 1)]],
        [[("x:a", 1), ("x:b", 1), ("x:c", 1)], [("x:d", 1), ("x:e", 1)]],
        [[("x:a", 1), ("x:b", 1)], [("x:d", 1), ("x:e", 1)]],
        [[("x:a", 1), ("x:b", 1)]],
        [[("x:a", 1), ("x:b", 1)]],
        [],
        [],
    ]


def test_what_is_dropped_is_told_with_its_address_in_the_recipe_that_was_asked_for() -> None:
    made = recipe(layer(("x:a", 2), "x:b", quorum=3), layer("x:c", "x:d"))
    smaller = planned(made, 5)
    assert [(loss.layer, loss.seat, loss.model, loss.kind, loss.cause) for loss in smaller.dropped] == [
        (0, 1, "x:a", "dropped", "budget")
    ]
    assert smaller.dropped[0].message == ("it was not asked: the whole recipe may cost 6 dollars, but 5 are allowed")
    assert smaller.recipe.layers[0].quorum == 2
    assert smaller.worst[""] == 5
    assert [(loss.layer, loss.seat) for loss in planned(made, 1).dropped] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_a_layer_that_loses_seats_keeps_two_as_long_as_it_is_there() -> None:
    made = recipe(layer(("x:a", 6)))
    assert shape(planned(made, 3).recipe) == [[("x:a", 2)]]
    assert shape(planned(made, 2).recipe) == []


def test_a_provider_that_cannot_pay_loses_seats_of_its_own() -> None:
    made = recipe(layer("x:a", "y:b", ("y:c", 2)), layer("y:d"))
    assert shape(planned(made, 99, y=2).recipe) == [[("x:a", 1), ("y:b", 1), ("y:c", 1)]]
    assert shape(planned(made, 99, y=0).recipe) == [[("x:a", 1)]]
    assert shape(planned(made, 2, y=2).recipe) == []
    assert planned(made, 99, y=2).worst == {"": 4, "x": 2, "y": 2}
    with pytest.raises(BudgetError, match=r"r: the aggregator alone may cost 1 dollars with x, but 0 are allowed; the"):
        planned(made, 99, x=0)


def test_a_seat_with_fallbacks_counts_its_dearest_model() -> None:
    made = Recipe("r", (), Aggregator("x:a", max_tokens=1000, fallback=("y:b", "y:c")))
    models = known(
        made,
        b=ModelInfo(dollars=fixed(Decimal(0), Decimal(3000))),
        c=ModelInfo(dollars=fixed(Decimal(0), Decimal(2000))),
    )
    assert plan(made, QUESTION, models, {}).worst == {"": 3, "x": 1, "y": 3}


def test_strict_allows_nothing_to_be_dropped() -> None:
    made = replace(recipe(layer("x:a", "x:b")), strict=True)
    assert planned(made, 3).recipe is made
    with pytest.raises(BudgetError, match="r: the whole recipe may cost 3 dollars, but 2 are allowed, and strict"):
        planned(made, 2)


def test_the_refusal_says_what_would_be_needed() -> None:
    with pytest.raises(BudgetError) as caught:
        planned(recipe(layer("x:a", "x:b")), 0)
    assert str(caught.value) == (
        "r: the aggregator alone may cost 1 dollars, but 0 are allowed; "
        "the whole recipe may cost 3 dollars, but 0 are allowed"
    )
    with pytest.raises(BudgetError, match="a shorter answer with max_tokens"):
        planned(recipe(), 0)


def test_an_unknown_price_is_refused_with_the_lines_that_would_give_it() -> None:
    made = Recipe("r", (layer("x:a", "lab:b"),), Aggregator("x:z", fallback=("lab:c",)))
    with pytest.raises(BudgetError) as caught:
        plan(made, QUESTION, known(made, b=ModelInfo(), c=ModelInfo(dollars=lambda _: None)), {"": Decimal(100)})
    assert "the price of lab:b, lab:c is unknown" in str(caught.value)
    assert '[models."lab:c"]\ninput_dollars_per_million = …\noutput_dollars_per_million = …' in str(caught.value)
    assert '[models."x:a"]' not in str(caught.value)


def test_a_layer_reads_all_that_the_layer_before_may_have_written() -> None:
    reading = ModelInfo(dollars=fixed(Decimal(1), Decimal(0)))
    made = recipe(layer(("x:a", 3)))
    plain, larger = (
        plan(each, QUESTION, known(each, reading), {}).worst[""]
        for each in (made, recipe(Layer((Agent("x:a", 3, max_tokens=2000),))))
    )
    # 3,000 tokens more, which the next vocabulary may count twice, and which are perhaps written to a cache.
    assert larger - plain == pytest.approx(Decimal("6000e-6") * Decimal("1.25"), rel=Decimal("0.02"))


def test_the_callers_own_limit_and_tools_are_the_aggregators() -> None:
    made = recipe()
    asked = Conversation(QUESTION.messages, sampling=Sampling(max_tokens=7))
    assert plan(made, asked, known(made), {}).worst[""] == Decimal("0.007")
    reading = known(made, ModelInfo(dollars=fixed(Decimal(1), Decimal(0))))
    tools = Conversation(QUESTION.messages, tools=(Tool("weather", "It tells the weather.", b"{" + b" " * 999 + b"}"),))
    assert plan(made, tools, reading, {}).worst[""] > plan(made, QUESTION, reading, {}).worst[""]


def test_an_aggregator_that_reads_in_steps_is_called_more_than_once() -> None:
    made = replace(recipe(layer(("x:a", 6))), fit="window")
    whole, narrow = (
        plan(made, QUESTION, known(made, z=ModelInfo(window=window, dollars=DOLLAR_A_THOUSAND.dollars)), {}).worst[""]
        for window in (100_000, 6_000)
    )
    assert whole == 7
    assert whole < narrow <= 12


def selecting(*layers: Layer) -> Recipe:
    return Recipe("r", layers, Aggregator("z:z", max_tokens=1000, method="select"))


def test_an_aggregator_that_selects_keeps_something_to_select_from() -> None:
    made = selecting(layer(("x:a", 3)), layer("y:b", "y:c"))
    assert [shape(planned(made, dollars).recipe) for dollars in (6, 5, 4, 3)] == [
        [[("x:a", 3)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 2)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 2)]],
        [[("x:a", 2)]],
    ]
    with pytest.raises(BudgetError) as caught:
        planned(made, 2)
    assert str(caught.value) == (
        "r: its aggregator selects one of the proposals; with 2 of them the run may cost 3 dollars, but 2 are allowed; "
        "the whole recipe may cost 6 dollars, but 2 are allowed"
    )
    # A provider that cannot pay loses its own seats; the layer of another one is then the last to go.
    assert shape(planned(made, 99, x=0).recipe) == [[("y:b", 1), ("y:c", 1)]]
    with pytest.raises(BudgetError, match="needs two, but only one proposal can be paid; the whole recipe may cost"):
        planned(made, 99, x=1, y=0)
    with pytest.raises(BudgetError, match="but no proposal can be paid; the whole recipe may cost 3 dollars with x"):
        planned(made, 99, x=0, y=0)


def comparing(*layers: Layer) -> Recipe:
    return Recipe("r", layers, Aggregator("z:z", max_tokens=1000), analyst=Analyst("w:w", max_tokens=1000))


def test_an_analyst_keeps_two_proposals_to_compare() -> None:
    made = comparing(layer(("x:a", 3)), layer("y:b", "y:c"))
    assert [shape(planned(made, dollars).recipe) for dollars in (7, 6, 5, 4)] == [
        [[("x:a", 3)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 2)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 2)]],
        [[("x:a", 2)]],
    ]
    plan = planned(made, 7)
    assert list(plan.later) == [
        {"": 4, "y": 2, "w": 1, "z": 1},
        {"": 2, "w": 1, "z": 1},
        {"": 1, "z": 1},
        {},
    ]
    with pytest.raises(BudgetError) as caught:
        planned(made, 3)
    assert str(caught.value) == (
        "r: its analyst compares the proposals; with 2 of them the run may cost 4 dollars, but 3 are allowed; "
        "the whole recipe may cost 7 dollars, but 3 are allowed"
    )
    # A provider that can pay for one of its seats only: the layer before has enough to compare.
    assert shape(planned(made, 99, y=1).recipe) == [[("x:a", 3)]]
    assert shape(planned(made, 99, x=0).recipe) == [[("y:b", 1), ("y:c", 1)]]
    with pytest.raises(
        BudgetError, match="compares the proposals and needs two, but only one proposal can be paid; the"
    ):
        planned(made, 99, x=1, y=0)
    with pytest.raises(BudgetError, match="compares the proposals and needs two, but no proposal can be paid; the"):
        planned(made, 99, x=0, y=0)


def test_the_aggregator_reads_all_that_the_analyst_may_have_written() -> None:
    reading = ModelInfo(dollars=fixed(Decimal(1), Decimal(0)))
    made = comparing(layer(("x:a", 3)))
    longer = replace(made, analyst=Analyst("w:w", max_tokens=2000))
    plain, larger = (plan(each, QUESTION, known(each, reading), {}).worst[""] for each in (made, longer))
    assert larger - plain == pytest.approx(Decimal("2000e-6") * Decimal("1.25"), rel=Decimal("0.04"))


def voting(*layers: Layer, otherwise: Otherwise = "synthesize") -> Recipe:
    return Recipe("r", layers, Aggregator("z:z", max_tokens=1000, method="vote", otherwise=otherwise))


def test_a_vote_pays_for_all_seats_and_for_the_call_that_follows_without_a_majority() -> None:
    made = layer(("x:a", 4))
    assert planned(voting(made), 99).worst[""] == 5
    assert planned(voting(made, otherwise="select"), 99).worst[""] == 5
    assert planned(voting(made, otherwise="fail"), 99).worst == {"": 4, "x": 4}
    assert shape(planned(voting(made), 3).recipe) == [[("x:a", 2)]]
    assert shape(planned(voting(made, otherwise="fail"), 2).recipe) == [[("x:a", 2)]]
    with pytest.raises(
        BudgetError, match="r: its aggregator takes a vote among the proposals; with 2 of them the run may"
    ):
        planned(voting(made), 2)
    with pytest.raises(
        BudgetError, match="takes a vote among the proposals and needs two, but only one proposal can be"
    ):
        planned(voting(layer("x:a", "y:b")), 99, y=0)


def test_seats_that_say_the_same_are_no_vote_after_a_plan() -> None:
    cold = Layer((Agent("x:a", 2, temperature=0, max_tokens=1000), Agent("x:b", max_tokens=1000)))
    assert shape(planned(voting(cold, otherwise="fail"), 2).recipe) == [[("x:a", 1), ("x:b", 1)]]
    split = Layer((Agent("x:a", 2, temperature=0, max_tokens=1000), Agent("y:b", max_tokens=1000)))
    with pytest.raises(BudgetError, match="needs two, but only seats that say the same can be paid"):
        planned(voting(split), 99, y=0)


def test_agree_is_never_lowered_by_a_plan() -> None:
    agreeing = structs.replace(layer(("x:a", 5)), agree=3)
    made = Recipe("r", (agreeing, layer("y:b", "y:c")), Aggregator("z:z", max_tokens=1000))
    plans = [planned(made, dollars).recipe for dollars in (8, 7, 6, 5, 3, 1)]
    assert [shape(each) for each in plans] == [
        [[("x:a", 5)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 4)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 3)], [("y:b", 1), ("y:c", 1)]],
        [[("x:a", 3)]],
        [],
        [],
    ]
    assert {layer.agree for each in plans for layer in each.layers if layer.agents[0].model == "x:a"} == {3}
    assert shape(planned(made, 99, x=2).recipe) == [[("y:b", 1), ("y:c", 1)]], "two seats cannot be three that agree"


def test_comments_go_with_the_proposals_that_they_are_about() -> None:
    made = recipe(layer("y:a", "y:b"), Layer((Agent("x:c", 2, max_tokens=1000),), comments=True))
    assert shape(planned(made, 4).recipe) == [[("y:a", 1), ("y:b", 1)]]
    smaller = planned(made, 99, y=0)
    assert shape(smaller.recipe) == []
    assert [(loss.layer, loss.seat) for loss in smaller.dropped] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    choosing = selecting(layer("y:a", "y:b"), Layer((Agent("x:c", 2, max_tokens=1000),), comments=True))
    assert shape(planned(choosing, 3).recipe) == [[("y:a", 1), ("y:b", 1)]]
    with pytest.raises(BudgetError, match="no proposal can be paid"):
        planned(choosing, 99, y=0)


def test_a_layer_that_becomes_the_first_has_nothing_to_see() -> None:
    made = recipe(layer("y:a", "y:b"), Layer((Agent("x:c", 2, max_tokens=1000),), sees=1), layer("x:d"))
    smaller = planned(made, 99, y=0).recipe
    assert shape(smaller) == [[("x:c", 2)], [("x:d", 1)]]
    assert [each.sees for each in smaller.layers] == ["all", "all"]


@pytest.mark.parametrize(
    ("sees", "read"), [("all", 6000), ("none", 0), ("split", 4000), (1, 2500), (2, 4000), (9, 6000)]
)
def test_a_seat_that_sees_a_part_is_planned_to_read_the_longest(sees: Sees, read: int) -> None:
    first = Layer((Agent("x:a", max_tokens=2500), Agent("x:b", 2, max_tokens=1500), Agent("x:c", max_tokens=500)))
    made = recipe(first, Layer((Agent("x:d", 2, max_tokens=1),), sees=sees, instruction="Weigh:"))
    models = known(made)
    costs = Costs(made, QUESTION, {name: info_of(models[name]) for name in made.models})
    asked = [calls.asked for calls in costs.calls([[1, 2, 1], [2]])[1]]
    bare = costs.readings[1][0].conversation
    assert [read * RETOLD <= tokens - bare <= read * RETOLD + 400 for tokens in asked] == [True]


def test_the_next_reader_pays_for_comments_too() -> None:
    first, comments = layer("x:a", "x:b"), Layer((Agent("x:c", 3, max_tokens=700),), comments=True)
    plain, commented = recipe(first, layer("x:d")), recipe(first, comments, layer("x:d"))
    asked = [
        Costs(each, QUESTION, {name: info_of(model) for name, model in known(each).items()}).calls(full)[-2][0].asked
        for each, full in ((plain, [[1, 1], [1]]), (commented, [[1, 1], [3], [1]]))
    ]
    assert 3 * 700 * RETOLD <= asked[1] - asked[0] <= 3 * 700 * RETOLD + 400


PROVIDERS = st.sampled_from("xy")


@settings(max_examples=200, deadline=None)
@given(
    layers=st.lists(
        st.lists(st.tuples(PROVIDERS, st.integers(1, 4), st.integers(1, 5000)), min_size=1, max_size=4), max_size=3
    ),
    prices=st.lists(st.decimals(0, 100, places=2), min_size=6, max_size=6),
    share=st.floats(0, 1.2),
    part=st.floats(0, 1.2),
)
def test_whatever_is_planned_fits_and_misses_only_what_is_told(
    layers: list[list[tuple[str, int, int]]], prices: list[Decimal], share: float, part: float
) -> None:
    made = Recipe(
        "r",
        tuple(
            Layer(
                tuple(
                    Agent(f"{provider}:{number}", samples, max_tokens=tokens)
                    for number, (provider, samples, tokens) in enumerate(agents)
                ),
                quorum=sum(samples for _, samples, _ in agents),
            )
            for agents in layers
        ),
        Aggregator("z:0"),
    )
    dollars = {
        name: ModelInfo(dollars=fixed(*prices[place : place + 2])) for place, name in ((0, "x"), (2, "y"), (4, "z"))
    }
    models: Mapping[str, Model] = {name: Known(dollars[name[0]]) for name in made.models}
    whole = plan(made, QUESTION, models, {}).worst
    caps = {"": whole[""] * Decimal(share), "y": whole.get("y", Decimal(0)) * Decimal(part)}
    try:
        smaller = plan(made, QUESTION, models, caps)
    except BudgetError:
        alone = plan(replace(made, layers=()), QUESTION, models, {}).worst
        assert any(alone.get(scope, 0) > cap for scope, cap in caps.items())
        return
    assert all(smaller.worst.get(scope, 0) <= cap for scope, cap in caps.items())
    assert plan(smaller.recipe, QUESTION, models, {}).worst == smaller.worst
    replace(smaller.recipe, name="checked")  # it is a recipe, with a quorum that can be reached
    assert made.calls - smaller.recipe.calls == len(smaller.dropped)
    assert bool(smaller.dropped) == any(whole.get(scope, 0) > cap for scope, cap in caps.items())
    seats = {
        (number, seat): agent.model for number, each in enumerate(made.layers) for seat, agent in enumerate(each.seats)
    }
    gone = {(loss.layer, loss.seat): loss.model for loss in smaller.dropped}
    assert gone.items() <= seats.items()
    left = [model for address, model in seats.items() if address not in gone]
    assert left == [agent.model for each in smaller.recipe.layers for agent in each.seats]


async def test_a_key_has_a_day_of_its_own(tmp_path: Path) -> None:
    alone = Recipe("t", (), Aggregator("scripted:a?output=1000", max_tokens=100))
    async with open_store(tmp_path / "s.db") as store, assemble(alone.models) as models:
        alice = DailyFunds(store, {"": Decimal(100)}, keys={"key:alice": Decimal("0.15")})
        bob = DailyFunds(store, {"": Decimal(100)}, keys={"key:bob": Decimal("0.15")})
        first = await run(alone, "Why?", models, funds=alice)
        assert first.usage.dollars == Decimal("0.02")
        assert await alice.left() == {"": Decimal("0.13")}
        assert await bob.left() == {"": Decimal("0.15")}
        assert await DailyFunds(store, {"": Decimal(100)}).left() == {"": Decimal("99.98")}
        for _ in range(2):
            await run(alone, "Why?", models, funds=alice)
        with pytest.raises(BudgetError, match=r"0\.09 are allowed"):
            await run(alone, "Why?", models, funds=alice)
        await run(alone, "Why?", models, funds=bob)


@st.composite
def any_recipes(draw: st.DrawFn) -> Recipe:
    layers = []
    method: Method = draw(st.sampled_from(["synthesize", "select", "vote"]))
    otherwise: Otherwise = draw(st.sampled_from(["synthesize", "select", "fail"]))
    for number in range(draw(st.integers(0 if method == "synthesize" else 1, 3))):
        agents = tuple(
            Agent(
                f"{draw(PROVIDERS)}:{number}-{index}",
                draw(st.integers(1, 5)),
                temperature=draw(st.sampled_from([None, None, 0])),
                max_tokens=draw(st.integers(1, 5000)),
                fallback=draw(st.sampled_from([(), ("y:spare",), ("z:spare", "y:spare")])),
            )
            for index in range(draw(st.integers(1, 4)))
        )
        quorum = draw(st.none() | st.integers(1, sum(agent.samples for agent in agents)))
        grace = None if quorum is None else draw(st.none() | st.floats(0, 60))
        comments = number > 0 and draw(st.sampled_from([False, False, True]))
        parts: list[Sees] = ["all", "split", 1, 3] if comments else ["all", "none", "split", 1, 3]
        sees = draw(st.sampled_from(parts)) if number else "all"
        rules = draw(st.none() | st.floats(0.1, 60)), None, draw(st.none() | st.just(2))
        layer = Layer(agents, quorum, grace, *rules, sees=sees, comments=comments)
        if layer.voices > 1 and not comments:
            layer = structs.replace(layer, agree=draw(st.none() | st.integers(2, len(layer.seats))))
        layers.append(layer)
    assume(method != "vote" or next(each for each in reversed(layers) if not each.comments).voices > 1)
    fits: list[Fit] = ["truncate", "window", "fail"]
    resorts: list[LastResort] = ["fail", "best_proposal"]
    made = Recipe(
        "r",
        tuple(layers),
        Aggregator(
            f"{draw(st.sampled_from('xyz'))}:last",
            max_tokens=draw(st.none() | st.just(16)),
            method=method,
            otherwise=otherwise,
        ),
        fit=draw(st.sampled_from(fits)),
        last_resort=draw(st.sampled_from(resorts)),
        strict=draw(st.sampled_from([False, False, False, True])),
        seed=draw(st.none() | st.just(3)),
    )
    if draw(st.booleans()):
        with suppress(RecipeError):  # too few seats to compare, or nothing reads the analysis
            return replace(made, analyst=Analyst(f"{draw(st.sampled_from('xyz'))}:an", fallback=("y:spare",)))
    return made


@settings(max_examples=300, deadline=None)
@given(
    made=any_recipes(),
    prices=st.lists(st.decimals(0, 100, places=2), min_size=6, max_size=6),
    share=st.floats(0, 1.2),
    parts=st.dictionaries(st.sampled_from("xyz"), st.floats(0, 1.2)),
    window=st.sampled_from([None, 4000]),
)
def test_every_plan_is_a_recipe(
    made: Recipe, prices: list[Decimal], share: float, parts: dict[str, float], window: int | None
) -> None:
    info = {
        name: ModelInfo(window, dollars=fixed(*prices[index : index + 2]))
        for index, name in ((0, "x"), (2, "y"), (4, "z"))
    }
    models: Mapping[str, Model] = {name: Known(info[name[0]]) for name in made.models}
    whole = plan(made, QUESTION, models, {}).worst
    caps = {scope: whole.get(scope, Decimal(0)) * Decimal(part) for scope, part in {"": share, **parts}.items()}
    try:
        smaller = plan(made, QUESTION, models, caps).recipe
    except BudgetError:
        return
    if smaller != made and made.aggregator.method != "synthesize":
        last = next(layer for layer in reversed(smaller.layers) if not layer.comments)
        assert len(last.seats) >= 2, "a vote and a selection need two proposals"
    agree = {agent.model: layer.agree for layer in made.layers for agent in layer.agents}
    assert all(layer.agree == agree[layer.agents[0].model] for layer in smaller.layers), "agree is never lowered"
    # Every part of it is checked anew, as one that is read from a file would be.
    assert msgspec.convert(msgspec.to_builtins(smaller), Recipe) == smaller
    assert smaller.aggregator == made.aggregator
    assert smaller.analyst == made.analyst
    assert len(smaller.layers) <= len(made.layers)
    assert smaller.last_proposers is not None or not (smaller.layers or made.aggregator.method == "select")
