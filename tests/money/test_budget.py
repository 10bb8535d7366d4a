"""Money: whatever fails, is given up or is asked again, no run costs more than it may."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from partsong import (
    Agent,
    Aggregator,
    Answer,
    Layer,
    Model,
    ModelError,
    Recipe,
    Request,
    Send,
    Text,
    Usage,
    asking,
)
from partsong.engine import perform
from partsong.errors import CAUSES, BudgetError
from partsong.events import (
    AggregationReplaced,
    AggregationStep,
    AnalysisFailed,
    AnalysisFinished,
    AnalysisReplaced,
    AnyEvent,
    CallFinished,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    ProposalSpared,
    RunFailed,
    RunFinished,
    RunStarted,
)
from partsong.middleware.price import Price, Pricing, fixed
from partsong.middleware.retry import Retry
from partsong.model import Sampling, TextDelta, billed
from partsong.model_info import ModelInfo
from partsong.money.budget import MAX_TOKENS, Budget, Purse, worst_case
from partsong.money.funding import DailyFunds, Funded, fund
from partsong.money.planning import plan
from partsong.recipe import ANALYST_SEAT, Analyst, Sees, replace
from partsong.store import open_store
from partsong.wire.tokens import estimate_tokens
from tests import grammar
from tests.clock import jumping

QUESTION = asking("Why is the sky blue?")
RUNS = 10_000
AT_ONCE = 250


# ---- ten thousand runs


@dataclass(slots=True)
class Bill:
    """What providers really charge, by scope."""

    dollars: Counter[str] = field(default_factory=Counter)
    day: "Day | None" = None

    def add(self, provider: str, dollars: Decimal) -> None:
        for scope in ("", provider):
            self.dollars[scope] += dollars  # type: ignore[assignment]
            # Whenever the process dies, no less counts than the bill says.
            assert self.day is None or self.day.spent or self.dollars[scope] <= self.day.begun[scope]


@dataclass(frozen=True, slots=True)
class Simulated:
    """A provider's model that does its worst within its contract, and writes all of it on the bill.

    It never counts more tokens than were sent, by our estimate, nor writes more than it was allowed to. It says what it
    has used or does not, fails in every way, hangs, and charges for what was cancelled.
    """

    provider: str
    pricing: Pricing
    chance: random.Random
    bill: Bill
    reliable: bool

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        chance = self.chance
        allowed = request.sampling.max_tokens
        assert allowed is not None
        asked, said = chance.randint(0, estimate_tokens(request)), chance.randint(0, allowed)
        cached, written = (chance.randint(0, asked // 2) if chance.random() < 0.3 else 0 for _ in range(2))
        usage = Usage(asked, said, cached, chance.randint(0, said), cache_write_tokens=written)
        fate = "" if self.reliable or chance.random() < 0.5 else chance.choice((*CAUSES, "hangs", "hangs"))
        told = chance.random() < 0.5
        failure = ModelError("it failed", fate, status=chance.choice((None, 500)))  # type: ignore[arg-type]
        charged = not fate or fate == "hangs" or told or not failure.unpaid
        try:
            if send is not None and chance.random() < 0.5:
                await send(TextDelta("Because "))
            await asyncio.sleep(chance.choice((0, 0, 0.5, 3)))
            if fate == "hangs":
                await asyncio.sleep(10_000)
        finally:
            if charged:
                price = self.pricing(usage)
                assert price is not None
                self.bill.add(self.provider, price)
        if fate:
            failure.usage = usage if told else None
            raise failure
        if request.response_format is not None and chance.random() < 0.5:  # an analyst that finds something
            return Answer((Text('{"gaps": ["one"]}'),), usage=usage)
        return Answer((Text("word " * chance.randint(1, min(40, allowed))),), usage=usage)


@dataclass(frozen=True, slots=True)
class Known:
    """A model that shows what is known of it."""

    model: Model
    info: ModelInfo

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        return await self.model(request, send)


def some_price(chance: random.Random) -> Pricing:
    def dollars() -> Decimal:
        return Decimal(chance.choice((0, 0.01, 0.15, 1, 2.5, 75))) + Decimal(chance.randrange(10**9)) / 10**11

    given = fixed(dollars(), dollars(), chance.choice((None, dollars())))
    if chance.random() < 0.7:
        return given
    steps = chance.randrange(50, 3000)

    def in_steps(usage: Usage) -> Decimal:
        price = given(usage)
        assert price is not None
        return price if usage.input_tokens <= steps else price * 2

    return in_steps


def some_recipe(chance: random.Random) -> Recipe:
    names = [f"{provider}:{number}" for provider in "pqr" for number in range(2)]

    def agent(*, last: bool = False) -> Agent:
        model, *others = chance.sample(names, chance.choice((1, 1, 1, 2, 3)))
        samples = 1 if last else chance.choice((1, 1, 1, 2, 4))
        return Agent(model, samples, max_tokens=chance.choice((None, 1, 50, 700)), fallback=tuple(others))

    layers: list[Layer] = []
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        agents = tuple(agent() for _ in range(chance.randint(1, 4)))
        seats = sum(each.samples for each in agents)
        quorum = chance.randint(1, seats) if chance.random() < 0.5 else None
        grace = None if quorum is None else chance.choice((0.0, 1.0))
        comments = bool(layers) and chance.random() < 0.25
        sees: Sees = "all"
        if layers:
            sees = chance.choice(("all", "split", 1, 2) if comments else ("all", "split", 1, 2, "none"))
        agree = chance.randint(2, seats) if seats > 1 and not comments and chance.random() < 0.3 else None
        at_once = chance.randint(1, 3) if chance.random() < 0.3 else None
        deadline = chance.choice((None, 5.0))
        layers.append(Layer(agents, quorum, grace, deadline, agree, at_once, sees, comments))
    last = agent(last=True)
    aggregator = Aggregator(last.model, max_tokens=last.max_tokens, fallback=last.fallback)
    proposing = [layer for layer in layers if not layer.comments]
    if proposing and len(proposing[-1].seats) > 1 and chance.random() < 0.5:
        otherwise = chance.choice(("synthesize", "synthesize", "select", "fail"))
        aggregator = structs.replace(
            aggregator, method="vote", otherwise=otherwise, majority=chance.choice((0, 0.3, 0.5))
        )
    deadline, strict = chance.choice((None, 8.0, 60.0)), chance.random() < 0.1
    made = Recipe("random", tuple(layers), aggregator, instruction="Unite.", deadline=deadline, strict=strict)
    dice = random.Random(repr(made))  # of its own, so that the other recipes stay what they were
    if proposing and len(proposing[-1].seats) > 1 and dice.random() < 0.3:
        model, *others = dice.sample(names, dice.choice((1, 1, 2)))
        made = replace(made, analyst=Analyst(model, max_tokens=dice.choice((None, 50)), fallback=tuple(others)))
    return made


@dataclass(slots=True)
class Day:
    """What a day may cost, for one run."""

    caps: Mapping[str, Decimal]
    spent: Mapping[str, Decimal] | None = None
    begun: Mapping[str, Decimal] = field(default_factory=dict)

    async def left(self) -> Mapping[str, Decimal]:
        return self.caps

    async def hold(self, amounts: Mapping[str, Decimal]) -> "Day":
        assert all(amounts.get(scope, 0) <= cap for scope, cap in self.caps.items())
        return self

    async def begin(self, amounts: Mapping[str, Decimal]) -> bool:
        await asyncio.sleep(0)
        assert all(amounts.get(scope, 0) <= cap for scope, cap in self.caps.items())
        self.begun = amounts
        return True

    def lower(self, amounts: Mapping[str, Decimal]) -> None:
        assert all(amount <= self.begun[scope] for scope, amount in amounts.items())
        self.begun = amounts

    async def settle(self, amounts: Mapping[str, Decimal]) -> None:
        # What counts if the process dies is never less than what was spent.
        assert all(amount <= self.begun[scope] for scope, amount in amounts.items())
        assert self.spent is None
        self.spent = amounts


async def perform_one(number: int, seen: Counter[str]) -> None:
    chance = random.Random(number)
    recipe = some_recipe(chance)
    bill = Bill()
    models: dict[str, Model] = {}
    for name in recipe.models:
        pricing = some_price(chance)
        simulated = Simulated(name[0], pricing, random.Random(chance.random()), bill, chance.random() < 0.3)
        models[name] = Known(
            Retry(Price(simulated, pricing)), ModelInfo(max_tokens=chance.choice((None, 300)), dollars=pricing)
        )
    whole = plan(recipe, QUESTION, models, {}).worst
    cap = billed(whole[""] * Decimal(chance.choice((0, 0.1, 0.3, 0.6, 0.9, 1, 1.5, 3))))
    part = billed(whole.get("q", Decimal(0)) * Decimal(chance.choice((0.3, 0.8, 2))))
    day = {"q": part} if chance.random() < 0.4 else {}
    funds = Day(day)
    planned = chance.random() < 0.6
    if planned:
        recipe = replace(recipe, max_dollars=cap)
        bill.day = funds if day else None
    else:  # a purse holds by itself, too, whatever is asked of it
        purse = Purse({"": cap, **day})
        models = {name: Budget(model, purse, name[0]) for name, model in models.items()}
    events: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        events.append(event)

    run = asyncio.ensure_future(
        perform(recipe, QUESTION, models, hear, watch=chance.random() < 0.3, funds=funds if planned else None)
    )
    if chance.random() < 0.2:
        seen["cancelled"] += 1
        asyncio.get_running_loop().call_later(chance.random() * 5, run.cancel)
    await asyncio.wait([run])
    await asyncio.sleep(1)  # what is given up may end a moment later, and be billed
    assert all(bill.dollars[scope] <= most for scope, most in {"": cap, **day}.items())
    refused = None if run.cancelled() else run.exception()
    if isinstance(refused, BudgetError):
        seen["refused"] += 1
        assert not bill.dollars
        assert cap < whole[""] or part < whole["q"]
        return
    assert refused is None
    if spent := funds.spent if planned else purse.close():
        assert all(bill.dollars[scope] <= spent[scope] for scope in bill.dollars)
        assert all(spent.get(scope, 0) <= most for scope, most in {"": cap, **day}.items())
    assert not (planned and day) or funds.spent is not None
    check(events, seen, planned=planned)


def check(events: list[AnyEvent], seen: Counter[str], *, planned: bool) -> None:
    grammar.check(events)
    end = events[-1]
    assert isinstance(end, RunFinished | RunFailed)
    assert isinstance(events[0], RunStarted)
    seen["dropped"] += bool(events[0].dropped)
    told = Decimal(0)
    replaced: set[tuple[int, int]] = set()
    aggregator_replaced = analyst_replaced = False
    analyst = None if events[0].recipe.analyst is None else (len(events[0].recipe.layers), ANALYST_SEAT)
    for event in events:
        match event:
            case CallFinished(layer=layer, seat=seat, usage=usage) if (layer, seat) == analyst:
                told += (usage and usage.dollars) or 0
            case AnalysisReplaced():
                analyst_replaced = True
            case AnalysisFinished():
                seen["compared"] += 1
            case AnalysisFailed(error=error):
                seen["not compared"] += 1
                if error.message.startswith("it may cost"):
                    assert analyst_replaced or not planned
            case ProposalFinished(answer=answer) | AggregationStep(answer=answer):
                assert answer.usage.dollars is not None
                told += answer.usage.dollars
            case ProposalReplaced(layer=layer, seat=seat, usage=usage):
                replaced.add((layer, seat))
                told += (usage and usage.dollars) or 0
            case AggregationReplaced(usage=usage):
                aggregator_replaced = True
                told += (usage and usage.dollars) or 0
            case ProposalFailed(layer=layer, seat=seat, error=error, usage=usage):
                told += (usage and usage.dollars) or 0
                if error.cause == "budget" and error.message.startswith("it may cost"):
                    # The first call of every seat can be paid: only a second one, which nobody planned, may not be.
                    seen["no money"] += 1
                    assert (layer, seat) in replaced or not planned
                seen[error.cause] += 1
            case ProposalSpared(usage=usage):
                told += (usage and usage.dollars) or 0
                seen["spared"] += 1
    if isinstance(end, RunFinished):
        seen["finished"] += 1
        seen["elected"] += end.seat is not None
        assert end.answer.usage.dollars is not None
        assert end.usage.dollars == told + end.answer.usage.dollars
    elif end.error.cause == "no_majority":
        seen["no_majority"] += 1
    elif end.error.message.startswith("it may cost"):
        assert aggregator_replaced or not planned


@jumping
async def test_ten_thousand_runs_never_cost_more_than_they_may() -> None:
    seen: Counter[str] = Counter()
    for start in range(0, RUNS, AT_ONCE):
        await asyncio.gather(*(perform_one(number, seen) for number in range(start, start + AT_ONCE)))
    assert seen["finished"] > RUNS // 4
    for what in (
        "compared",
        "not compared",
        "refused",
        "cancelled",
        "dropped",
        "cut_off",
        "timeout",
        "no money",
        "spared",
        "elected",
        "no_majority",
    ):
        assert seen[what], what


# ---- one call


DEAR = ModelInfo(dollars=fixed(Decimal(1), Decimal(10)))
ASKED = Request(QUESTION.messages)


def answering(usage: Usage | ModelError, heard: list[Request] | None = None) -> Model:
    async def model(request: Request, send: Send | None) -> Answer:
        if heard is not None:
            heard.append(request)
        if isinstance(usage, ModelError):
            raise usage
        return Answer((Text("Because."),), usage=usage)

    return Known(model, DEAR)


async def test_a_call_gets_a_limit_and_is_settled_at_what_it_has_cost() -> None:
    heard: list[Request] = []
    purse = Purse({"": Decimal(1)})
    model = Budget(answering(Usage(9, 5, dollars=Decimal("0.01")), heard), purse, "lab")
    await model(ASKED, None)
    assert heard[0].sampling.max_tokens == MAX_TOKENS
    assert heard[0].terms.once
    assert heard[0].messages == ASKED.messages
    assert purse.spent == {"": Decimal("0.01"), "lab": Decimal("0.01")}
    assert not any(purse.held.values())
    assert model.info is DEAR
    assert worst_case(DEAR, ASKED) == (estimate_tokens(ASKED) * Decimal("1.25") + 10 * MAX_TOKENS) / 10**6
    assert worst_case(DEAR, Request((), sampling=Sampling(max_tokens=7))) == Decimal("7e-5")
    assert worst_case(ModelInfo(max_tokens=3, dollars=DEAR.dollars), Request(())) == Decimal("3e-5")
    assert worst_case(ModelInfo(), ASKED) is None


def test_the_worst_case_is_of_the_dearest_kind_of_tokens() -> None:
    def odd(usage: Usage) -> Decimal:
        return Decimal(usage.reasoning_tokens or usage.cache_write_tokens * 2 or usage.cached_input_tokens * 3)

    request = Request((), sampling=Sampling(max_tokens=5))
    assert worst_case(ModelInfo(dollars=odd), request) == 5
    written = worst_case(ModelInfo(dollars=fixed(Decimal(1), Decimal(0))), ASKED)
    assert written == billed(estimate_tokens(ASKED) * Decimal("1.25e-6"))


@pytest.mark.parametrize(
    ("error", "share"),
    [
        (ModelError("key", "auth"), 0),
        (ModelError("broken", "server", status=500), 0),
        (ModelError("not there", "network"), 0),
        (ModelError("counted", "empty", usage=Usage(9, 9, dollars=Decimal(0))), 0),
        (ModelError("slow", "timeout"), 1),
        (ModelError("gateway", "timeout", status=504), 1),
        (ModelError("gone", "network", sent=True), 1),
        (ModelError("unreadable", "server"), 1),
        (ModelError("half", "truncated", usage=Usage(1, 1, dollars=Decimal("1e-5"), estimated=True)), 1),
        (ModelError("priceless", "empty", usage=Usage(1, 1)), 1),
        (ModelError("filter", "content_filter", status=400), 1),
    ],
)
async def test_a_failure_counts_in_full_unless_it_has_certainly_cost_nothing(error: ModelError, share: int) -> None:
    purse = Purse({"": Decimal(1)})
    with pytest.raises(ModelError):
        await Budget(answering(error), purse, "lab")(ASKED, None)
    worst = worst_case(DEAR, ASKED)
    assert worst is not None
    assert purse.spent[""] == share * worst


async def test_what_is_cancelled_counts_in_full() -> None:
    async def hanging(request: Request, send: Send | None) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    purse = Purse({"": Decimal(1)})
    task = asyncio.ensure_future(Budget(Known(hanging, DEAR), purse, "lab")(ASKED, None))
    await asyncio.sleep(0)
    worst = worst_case(DEAR, ASKED)
    assert purse.held[""] == worst
    task.cancel()
    await asyncio.wait([task])
    assert purse.spent[""] == worst


async def test_seats_at_the_same_time_cannot_overdraw_a_purse() -> None:
    worst = worst_case(DEAR, ASKED)
    assert worst is not None
    purse = Purse({"": worst * 2, "lab": worst})
    models = [Budget(answering(Usage(1, 1, dollars=worst)), purse, provider) for provider in ("lab", "lab", "b", "b")]
    answers = await asyncio.gather(*(model(ASKED, None) for model in models), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Answer, ModelError, Answer, ModelError]
    assert purse.spent == {"": worst * 2, "lab": worst, "b": worst}
    with pytest.raises(ModelError, match=r"may cost 0\.0409\d+ dollars, but 0 are left") as caught:
        purse.reserve(worst)
    assert caught.value.cause == "budget"


async def test_what_later_layers_need_is_left_to_them() -> None:
    purse = Purse({"": Decimal("0.1")})
    free = answering(Usage(0, 0, dollars=Decimal(0)))
    with pytest.raises(ModelError, match="are left"):
        await Budget(free, purse, "lab", {"": Decimal("0.099")})(ASKED, None)
    assert (await Budget(free, purse, "lab", {"": Decimal("0.05")})(ASKED, None)).text


async def test_where_less_is_left_the_answer_may_only_be_shorter() -> None:
    heard: list[Request] = []
    usage = Usage(1, 1, dollars=Decimal(0))
    await Budget(answering(usage, heard), Purse({"": Decimal("0.01")}), "lab")(ASKED, None)
    limit = heard[0].sampling.max_tokens
    assert limit is not None
    assert 900 < limit < 1000
    lower = worst_case(DEAR, heard[0])
    assert lower is not None
    assert lower <= Decimal("0.01")
    with pytest.raises(ModelError, match="may cost") as caught:  # too short to be of use
        await Budget(answering(usage), Purse({"": Decimal("0.002")}), "lab")(ASKED, None)
    assert caught.value.cause == "budget"
    with pytest.raises(ModelError, match="price is unknown"):
        await Budget(Known(answering(usage), ModelInfo()), Purse({}), "lab")(ASKED, None)


def test_a_purse_that_is_closed_counts_what_is_open_and_gives_no_more() -> None:
    purse = Purse({"": Decimal(3)})
    first, second = purse.reserve(Decimal(1), "a"), purse.reserve(Decimal(1), "a")
    purse.settle(first, Decimal("0.5"))
    purse.settle(first, Decimal(1))  # once only
    assert purse.close() == {"": Decimal("1.5"), "a": Decimal("1.5")}
    purse.settle(second, Decimal(0))
    assert purse.spent[""] == Decimal("1.5")
    with pytest.raises(ModelError, match="over"):
        purse.reserve(Decimal(0))


@given(st.lists(st.decimals(0, 1000, allow_nan=False, allow_infinity=False), max_size=50), st.randoms())
def test_the_dollars_of_calls_are_added_exactly(calls: list[Decimal], chance: random.Random) -> None:
    usages = [Usage(dollars=billed(dollars / 7)) for dollars in calls]
    for usage, dollars in zip(usages, calls, strict=True):
        assert usage.dollars is not None
        assert 0 <= usage.dollars - dollars / 7 < Decimal("1.1e-12")
    chance.shuffle(usages)
    total = sum(usages, Usage(dollars=Decimal(0)))
    assert total.dollars is not None
    assert int(total.dollars * 10**12) == sum(int((usage.dollars or 0) * 10**12) for usage in usages)


# ---- a day


async def test_runs_at_the_same_time_cannot_overdraw_a_day_together(tmp_path: Path) -> None:
    recipe = Recipe("t", (), Aggregator("lab:a", max_tokens=1000))
    models = {"lab:a": answering(Usage(1, 1, dollars=Decimal("0.001")))}
    worst = plan(recipe, QUESTION, models, {}).worst[""]
    async with open_store(tmp_path / "journal.db") as store:
        funds = DailyFunds(store, {"": worst * 2, "lab": worst * 5})
        outcomes = await asyncio.gather(
            *(fund(recipe, QUESTION, models, funds) for _ in range(3)), return_exceptions=True
        )
        held = [funded for funded in outcomes if isinstance(funded, Funded)]
        assert len(held) == 2
        assert sum(isinstance(outcome, BudgetError) for outcome in outcomes) == 1
        for funded in held:
            await funded.models(0)["lab:a"](ASKED, None)
            await funded.settle()
        assert await funds.left() == {"": worst * 2 - Decimal("0.002"), "lab": worst * 5 - Decimal("0.002")}
        # What was held of the day is all that a run may take of it, though its own cap is higher.
        another = await fund(replace(recipe, max_dollars=Decimal(9)), QUESTION, models, funds)
        assert another is not None
        assert another.purse.caps == {"": worst, "lab": worst}


async def test_without_a_cap_there_is_no_purse() -> None:
    recipe = Recipe("t", (), Aggregator("lab:a"))
    assert await fund(recipe, QUESTION, {"lab:a": answering(Usage())}) is None
    assert await fund(recipe, QUESTION, {"lab:a": answering(Usage())}, Day({})) is None


async def test_a_fallback_cannot_spend_what_the_aggregator_needs() -> None:
    worst = worst_case(DEAR, Request((), sampling=Sampling(max_tokens=1000)))
    assert worst is not None
    recipe = Recipe(
        "t",
        (Layer((Agent("lab:good", max_tokens=1000), Agent("lab:slow", max_tokens=1000, fallback=("lab:spare",)))),),
        Aggregator("lab:last", max_tokens=1000),
        instruction="Unite.",
    )
    models = {name: answering(Usage(1, 1, dollars=worst)) for name in recipe.models}
    models["lab:slow"] = answering(ModelError("it took too long", "timeout"))
    needed = plan(recipe, QUESTION, models, {}).worst[""]
    events: list[AnyEvent] = []

    async def hear(event: AnyEvent) -> None:
        events.append(event)

    await perform(replace(recipe, max_dollars=needed), QUESTION, models, hear)
    (failed,) = (event for event in events if isinstance(event, ProposalFailed))
    assert failed.error.cause == "budget"
    assert isinstance(events[-1], RunFinished)
    assert [(loss.seat, loss.kind, loss.cause) for loss in events[-1].losses] == [(1, "failed", "timeout")]
