"""What a recipe says about faults, over real HTTP: quorum, deadlines, fallbacks, the last resort, all or nothing."""

import asyncio
from typing import Any

import pytest

import partsong
from partsong import Agent, Aggregator, Configuration, Layer, Recipe, asking
from partsong.engine import perform
from partsong.engine.performance import ANALYST_SHARE
from partsong.events import (
    AggregationReplaced,
    AggregationStarted,
    AnalysisFailed,
    Loss,
    ProposalFailed,
    ProposalFinished,
    ProposalReplaced,
    RunFailed,
    RunFinished,
)
from partsong.recipe import Analyst, Otherwise, replace
from tests import grammar
from tests.clock import jumping
from tests.faults.cells import DEADLINE, LISTEN, Performed, listen, providers
from tests.faults.misbehaving import CANARY, FAULTS, SAID, TARDY, Stage, words_of
from tests.upstream import Server

SLIP = 0.01
WORDLESS = [name for name, fault in FAULTS.items() if not fault.speaks and not fault.passes]
SPEAKING = [name for name, fault in FAULTS.items() if fault.speaks]


def at(name: str) -> str:
    """The id of a model: each has a provider of its own."""
    return f"{name.replace('.', '-')}:{name}"


def agent(*names: str) -> Agent:
    """An agent with fallbacks: `agent("hung.c.0.0", "well.c.0.0")`."""
    return Agent(at(names[0]), fallback=tuple(map(at, names[1:])))


def layer(*agents: str, **rules: Any) -> Layer:
    return Layer(tuple(agent(*names.split("|")) for names in agents), **rules)


def recipe(*layers: Layer, aggregator: str = "well.c.9.0", **rules: Any) -> Recipe:
    first, *others = aggregator.split("|")
    return Recipe("t", layers, Aggregator(at(first), fallback=tuple(map(at, others))), **{"deadline": DEADLINE} | rules)


async def performed(wanted: Recipe, watch: bool = True, **limits: float) -> Performed:
    """Perform the recipe; every call that the server has not ended must have been closed when the run is over."""
    stage = Stage()
    async with Server(stage) as server:
        known = providers({name.partition(":")[0]: server.url for name in wanted.models}, **limits)
        outcome = Performed({}, stage.calls["c"])
        clock = asyncio.get_running_loop().time
        async with partsong.assemble(wanted.models, Configuration(providers=known)) as models:
            outcome.started = clock()
            await perform(wanted, asking("Why?"), models, listen(outcome), watch=watch)
            outcome.ended = clock()
            async with asyncio.timeout(1):
                for exchange in server.exchanges:
                    if exchange.json["model"].split(".")[0] in ("hung", "silent", "slow"):
                        await exchange.left.wait()
    grammar.check(outcome.events)
    assert outcome.ended <= outcome.started + (wanted.deadline or 0) + SLIP
    assert all(CANARY not in call.body for call in outcome.calls)
    return outcome


def finished(outcome: Performed) -> RunFinished:
    last = outcome.events[-1]
    assert isinstance(last, RunFinished), last
    return last


def failed(outcome: Performed) -> RunFailed:
    last = outcome.events[-1]
    assert isinstance(last, RunFailed), last
    return last


def losses(outcome: Performed) -> list[tuple[int, int, str, str]]:
    told: tuple[Loss, ...] = outcome.transcript.losses
    return [(loss.layer, loss.seat, loss.kind, loss.cause) for loss in told]


def when(outcome: Performed, kind: type[object]) -> float:
    """Seconds from the run's start to the first event of this kind."""
    number = next(number for number, event in enumerate(outcome.events) if isinstance(event, kind))
    return outcome.times[number] - outcome.started


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("fault", ["hung", "silent", "slow"])
@jumping(settle=LISTEN)
async def test_one_that_hangs_is_waited_for_as_long_as_grace_says(fault: str, watch: bool) -> None:
    wanted = recipe(layer("well.c.0.0", f"{fault}.c.0.1", "tardy.c.0.2", quorum=2, grace=5.0))
    outcome = await performed(wanted, watch)
    assert when(outcome, AggregationStarted) == pytest.approx(TARDY + 5, abs=SLIP)
    assert losses(outcome) == [(0, 1, "cut_off", "cut_off")]
    assert finished(outcome).answered == 2
    used = finished(outcome).usage
    assert used.input_tokens > 3 * 11, "what was cut off has cost something"
    assert used.estimated


@jumping(settle=LISTEN)
async def test_within_the_grace_everybody_is_heard() -> None:
    outcome = await performed(recipe(layer("well.c.0.0", "tardy.c.0.1", "well.c.0.2", quorum=1, grace=TARDY + 1)))
    assert losses(outcome) == []
    assert when(outcome, AggregationStarted) == pytest.approx(TARDY, abs=SLIP)
    (call,) = (call for call in outcome.calls if call.name == "well.c.9.0")
    assert words_of("tardy.c.0.1") in call.body


@jumping(settle=LISTEN)
async def test_failures_are_no_quorum() -> None:
    outcome = await performed(recipe(layer("well.c.0.0", "500.c.0.1", "401.c.0.2", "hung.c.0.3", quorum=2, grace=1.0)))
    assert when(outcome, AggregationStarted) == pytest.approx(DEADLINE * 0.6, abs=SLIP)
    assert sorted(losses(outcome)) == [
        (0, 1, "failed", "server"),
        (0, 2, "failed", "auth"),
        (0, 3, "cut_off", "timeout"),
    ]


@jumping(settle=LISTEN)
async def test_a_layers_deadline_ends_it_whatever_the_run_would_allow() -> None:
    outcome = await performed(recipe(layer("well.c.0.0", "hung.c.0.1", deadline=10.0), layer("tardy.c.1.0")))
    assert losses(outcome) == [(0, 1, "cut_off", "timeout")]
    assert when(outcome, AggregationStarted) == pytest.approx(10 + TARDY, abs=SLIP)


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
@jumping(settle=LISTEN)
async def test_whatever_befalls_the_analyst_there_is_an_answer(fault: str, fallback: bool) -> None:
    names = (f"{fault}.c.2.1", "hung.c.2.2") if fallback else (f"{fault}.c.2.1",)
    models = tuple(map(at, names))
    wanted = recipe(layer("well.c.0.0", "well.c.0.1"), analyst=Analyst(models[0], fallback=models[1:]))
    outcome = await performed(wanted)
    assert finished(outcome).answer.text == words_of("well.c.9.0")
    # What passes is answered in the end, but in words that are no analysis.
    causes = FAULTS[fault].causes or ("invalid",)
    assert [(layer, seat, cause in causes) for layer, seat, _, cause in losses(outcome)] == [(1, 1, True)]
    assert when(outcome, AggregationStarted) <= DEADLINE * ANALYST_SHARE + SLIP
    assert any(isinstance(event, AnalysisFailed) for event in outcome.events)


@pytest.mark.parametrize("fault", [*WORDLESS, *SPEAKING])
@pytest.mark.parametrize("sees", ["none", "split", 2])
@jumping(settle=LISTEN)
async def test_what_was_lost_is_in_no_view(fault: str, sees: Any) -> None:
    first = [at(f"{name}.c.0.{seat}") for seat, name in enumerate(["well", fault, "well", "well"])]
    second = [at(f"well.c.1.{seat}") for seat in range(2)]
    layers = (Layer(tuple(map(Agent, first))), Layer(tuple(map(Agent, second)), sees=sees))
    outcome = await performed(recipe(*layers))
    assert [(layer, seat) for layer, seat, *_ in losses(outcome)] == [(0, 1)]
    for seat in range(2):
        (call,) = (call for call in outcome.calls if call.name == f"well.c.1.{seat}")
        saw = outcome.transcript.layers[1][seat].saw
        assert saw is not None
        read = [
            number for number in range(4) if words_of(f"{'well' if number != 1 else fault}.c.0.{number}") in call.body
        ]
        assert [(0, number) for number in read] == list(saw)
        assert 1 not in read


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("fault", [*WORDLESS, *SPEAKING])
@jumping(settle=LISTEN)
async def test_a_seats_fallback_answers_in_its_place(fault: str, watch: bool) -> None:
    outcome = await performed(
        recipe(layer(f"{fault}.c.0.0|well.c.0.0", "well.c.0.1")), watch, first_token=10.0, silence=5.0
    )
    causes = FAULTS[fault].causes
    (replaced,) = (event for event in outcome.events if isinstance(event, ProposalReplaced))
    assert (replaced.seat, replaced.model) == (0, at("well.c.0.0"))
    assert replaced.error.cause in causes
    (loss,) = finished(outcome).losses
    assert (loss.layer, loss.seat, loss.kind) == (0, 0, "replaced")
    assert (loss.model, loss.replaced_by) == (at(f"{fault}.c.0.0"), at("well.c.0.0"))
    assert loss.cause in causes
    (answered,) = (event for event in outcome.events if isinstance(event, ProposalFinished) and event.seat == 0)
    assert answered.model == at("well.c.0.0")
    assert outcome.transcript.layers[0][0].text == words_of("well.c.0.0"), "what failed is no part of it"
    assert finished(outcome).answered == 2


@jumping(settle=LISTEN)
async def test_a_seat_whose_models_all_fail_is_lost_for_the_first_ones_cause() -> None:
    outcome = await performed(recipe(layer("402.c.0.0|401.c.0.0|hung.c.0.0", "well.c.0.1")))
    assert losses(outcome) == [(0, 0, "failed", "billing")]
    assert [event.error.cause for event in outcome.events if isinstance(event, ProposalReplaced)] == ["billing", "auth"]
    (event,) = (event for event in outcome.events if isinstance(event, ProposalFailed))
    assert event.error.cause == "timeout"
    assert when(outcome, AggregationStarted) == pytest.approx(DEADLINE * 0.6, abs=SLIP)


@pytest.mark.parametrize("fault", WORDLESS)
@jumping(settle=LISTEN)
async def test_the_aggregators_fallback_writes_the_answer_and_is_named(fault: str) -> None:
    outcome = await performed(recipe(layer("well.c.0.0", "hung.c.0.1"), aggregator=f"{fault}.c.1.0|well.c.1.0"))
    (replaced,) = (event for event in outcome.events if isinstance(event, AggregationReplaced))
    assert replaced.error.cause in FAULTS[fault].causes
    last = finished(outcome)
    assert last.answer.text == outcome.transcript.text == words_of("well.c.1.0")
    assert last.model == replaced.model == at("well.c.1.0")
    assert (1, 0, "replaced", replaced.error.cause) in losses(outcome)


@pytest.mark.parametrize("rules", [{"aggregator": "|well.c.1.0"}, {"last_resort": "best_proposal"}])
@pytest.mark.parametrize("fault", SPEAKING)
@jumping(settle=LISTEN)
async def test_after_its_first_word_nobody_stands_in_for_the_aggregator(fault: str, rules: dict[str, str]) -> None:
    aggregator = f"{fault}.c.1.0{rules.get('aggregator', '')}"
    outcome = await performed(recipe(layer("well.c.0.0"), **rules | {"aggregator": aggregator}))
    last = failed(outcome)
    assert last.error.cause in FAULTS[fault].causes
    assert last.text == outcome.transcript.text == SAID
    assert sum(call.name.endswith("c.1.0") for call in outcome.calls) == 1


@pytest.mark.parametrize("fault", WORDLESS)
@jumping(settle=LISTEN)
async def test_the_last_resort_is_a_proposal_and_says_so(fault: str) -> None:
    other = "401" if fault != "401" else "402"
    wanted = recipe(
        layer("well.c.0.0", "well.c.0.1"), aggregator=f"{fault}.c.1.0|{other}.c.1.0", last_resort="best_proposal"
    )
    last = finished(await performed(wanted))
    assert last.last_resort
    assert last.answer.text in (words_of("well.c.0.0"), words_of("well.c.0.1"))
    assert last.model in (at("well.c.0.0"), at("well.c.0.1"))
    assert [(loss.layer, loss.seat) for loss in last.losses] == [(1, 0)]


@jumping(settle=LISTEN)
async def test_without_a_last_resort_the_run_fails_when_all_aggregators_have() -> None:
    last = failed(await performed(recipe(layer("well.c.0.0"), aggregator="401.c.1.0|503.c.1.0")))
    assert last.error.cause in ("auth", "server")
    assert last.text == ""


@pytest.mark.parametrize("fault", [*WORDLESS, *SPEAKING])
@jumping(settle=LISTEN)
async def test_all_or_nothing_ends_with_the_first_loss(fault: str) -> None:
    outcome = await performed(recipe(layer("well.c.0.0", f"{fault}.c.0.1"), layer("well.c.1.0"), strict=True))
    last = failed(outcome)
    assert last.error.cause in FAULTS[fault].causes
    assert [(loss.layer, loss.seat) for loss in last.losses] == [(0, 1)]
    assert {call.name for call in outcome.calls} == {"well.c.0.0", f"{fault}.c.0.1"}, "nobody is asked after that"


@pytest.mark.parametrize("strict", [False, True])
@jumping(settle=LISTEN)
async def test_a_proposal_that_ends_at_its_limit_is_a_loss_and_marked(strict: bool) -> None:
    outcome = await performed(recipe(layer("cut.c.0.0", "well.c.0.1"), strict=strict))
    assert losses(outcome) == [(0, 0, "truncated", "truncated")]
    if strict:
        assert failed(outcome).error.cause == "truncated"
        return
    assert finished(outcome).answered == 2
    (call,) = (call for call in outcome.calls if call.name == "well.c.9.0")
    assert words_of("cut.c.0.0") in call.body
    assert call.body.count("truncated=") == 1


@pytest.mark.parametrize(
    ("fault", "cause"), [("503", "resting"), ("hung", "resting"), ("401", "auth"), ("429", "rate")]
)
@jumping(settle=LISTEN)
async def test_a_provider_that_keeps_failing_is_rested_and_its_seats_are_lost_at_once(fault: str, cause: str) -> None:
    stage, clock = Stage(), asyncio.get_running_loop().time
    async with Server(stage) as server:
        known = providers({"bad": server.url, "good": server.url}, first_token=2.0)
        proposers = Layer((Agent(f"bad:{fault}.c.0.0"), Agent("good:well.c.0.1")))
        wanted = Recipe("t", (proposers,), Aggregator("good:well.c.9.0"), deadline=DEADLINE)
        async with partsong.assemble(wanted.models, Configuration(providers=known)) as models:
            for _ in range(6):
                await perform(wanted, asking("Why?"), models, listen(Performed({}, [])))
                await asyncio.sleep(2)
            asked, last = len(stage.calls["c"]), Performed({}, [])
            last.started = clock()
            await perform(wanted, asking("Why?"), models, listen(last))
            assert losses(last) == [(0, 0, "failed", cause)]
            if cause == "resting":
                assert len(stage.calls["c"]) - asked == 2, "who rests is not asked"
                assert when(last, AggregationStarted) <= SLIP
                await asyncio.sleep(300)
                await perform(wanted, asking("Why?"), models, listen(Performed({}, [])))
                assert len(stage.calls["c"]) - asked > 4, "after its rest it is"


# ---- votes


def voting(*agents: Agent, otherwise: Otherwise = "fail", model: str = "", **rules: Any) -> Recipe:
    aggregator = Aggregator(model and at(model), method="vote", otherwise=otherwise)
    return Recipe("t", (Layer(agents, **rules),), aggregator, deadline=DEADLINE, same="text")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if not fault.passes])
@jumping(settle=LISTEN)
async def test_a_vote_that_is_won_needs_no_seat_that_fails(fault: str, strict: bool) -> None:
    """The seat that fails is begun last, so the others have won by then, or it is lost and told."""
    wanted = voting(Agent(at("well.c.0.0"), samples=2), Agent(at(f"{fault}.c.0.2")), at_once=2 if strict else None)
    outcome = await performed(replace(wanted, strict=strict))
    end = finished(outcome)
    assert (end.answer.text, end.layer, end.seat) == (words_of("well.c.0.0"), 0, 0)
    if strict:
        assert (losses(outcome), end.spared, end.answered) == ([], 1, 2)
    assert {(layer, seat) for layer, seat, _, _ in losses(outcome)} <= {(0, 2)}
    assert len(end.losses) + end.spared == 1
    assert not any(isinstance(event, AggregationStarted) for event in outcome.events)


@pytest.mark.parametrize("otherwise", ["fail", "synthesize"])
@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if not fault.passes])
@jumping(settle=LISTEN)
async def test_lost_seats_count_against_a_majority(fault: str, otherwise: Otherwise) -> None:
    faulty = [Agent(at(f"{fault}.c.0.{seat}")) for seat in (0, 1)]
    outcome = await performed(voting(*faulty, Agent(at("well.c.0.2")), otherwise=otherwise, model="well.c.9.0"))
    (count,) = outcome.transcript.votes
    assert count.seat is None
    assert [group.seats for group in count.groups] in ([(2,)], [])
    if otherwise == "fail":
        assert failed(outcome).error.cause == "no_majority"
        assert not any(call.name == "well.c.9.0" for call in outcome.calls)
    else:
        assert finished(outcome).answer.text == words_of("well.c.9.0")
        assert {(layer, seat) for layer, seat, _, _ in losses(outcome)} == {(0, 0), (0, 1)}


@pytest.mark.parametrize("fault", ["hung", "silent", "slow", "401", "500"])
@jumping(settle=LISTEN)
async def test_seats_that_begin_one_after_the_other_go_on_after_a_fault(fault: str) -> None:
    """At the layer's deadline, the seats that have not begun are lost."""
    wanted = recipe(layer(f"{fault}.c.0.0", "well.c.0.1", "well.c.0.2", deadline=20.0, at_once=1))
    outcome = await performed(wanted)
    if fault in ("hung", "silent", "slow"):
        assert failed(outcome).error.cause == "no_proposals"
        assert [(seat, kind) for _, seat, kind, _ in losses(outcome)] == [(seat, "cut_off") for seat in range(3)]
        assert [call.name for call in outcome.calls] == [f"{fault}.c.0.0"]
    else:
        assert finished(outcome).answered == 2
        assert [(seat, kind) for _, seat, kind, _ in losses(outcome)] == [(0, "failed")]
