"""A run that is begun again: what the earlier one has is found and costs nothing, and what depends on news is asked."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from partsong import Agent, Aggregator, Conversation, InputError, Layer, Model, ModelError, Recipe, asking
from partsong.engine.again import Changes, begin_again, models_asked, stored_analysis, to_compare
from partsong.engine.analyst import compare
from partsong.engine.recalled import Unasked
from partsong.errors import BudgetError
from partsong.events import AnyEvent, CallFinished, ProposalFinished, RunFailed, RunFinished, RunStarted
from partsong.middleware.price import fixed
from partsong.model import Sampling
from partsong.model_info import ModelInfo
from partsong.recipe import Analyst
from partsong.transcript import Transcript
from tests import grammar
from tests.engine.test_analyst import Says, heard, models

DOWN = ModelError("it is down", "server")
PRICED = ModelInfo(dollars=fixed(Decimal(0), Decimal(1000)))


def two_layers(**fields: Any) -> Recipe:
    first, second = Layer((Agent("m:a"), Agent("m:b"), Agent("m:c"))), Layer((Agent("m:d"), Agent("m:e", 2)))
    return Recipe("r", (first, second), Aggregator("m:z", fallback=("m:y",)), **fields)


def known(**others: Says) -> dict[str, Says]:
    made = {name: Says(f"{name} says that it is so.") for name in "abcdeyz"} | others
    return {f"m:{name}": model for name, model in made.items()}


async def again(
    earlier: Transcript, changes: Changes, every: Mapping[str, Model], **fields: Any
) -> tuple[list[AnyEvent], Transcript]:
    """Perform the new run with the models that it may ask, and with nothing else."""
    recipe, conversation, found = begin_again("earlier", earlier, changes)
    recipe = replace(recipe, **fields)
    asked = models_asked(recipe, found)
    offered = {name: every[name] if name in asked else Unasked() for name in recipe.models}
    events, transcript = await heard(recipe, offered, conversation, again=found)
    assert isinstance(events[0], RunStarted)
    assert events[0].again == "earlier"
    return events, transcript


def stored(events: list[AnyEvent]) -> dict[tuple[int, int], bool]:
    return {(event.layer, event.seat): event.stored for event in events if isinstance(event, CallFinished)}


async def test_an_aggregator_that_failed_is_asked_again_and_nobody_else() -> None:
    every = known(z=Says(error=DOWN), y=Says(error=DOWN))
    _, earlier = await heard(two_layers(), every)
    assert earlier.error is not None
    asked = {name: len(model.asked) for name, model in every.items()}
    every["m:new"] = Says("The new end.")
    events, transcript = await again(earlier, Changes(aggregator="m:new"), every)
    assert transcript.text == "The new end."
    assert {name: len(model.asked) for name, model in every.items()} == {**asked, "m:new": 1}
    assert stored(events) == {**{(layer, seat): True for layer in (0, 1) for seat in range(3)}, (2, 0): False}
    assert transcript.usage.dollars == 1
    before = [[seat.text for seat in layer] for layer in earlier.layers]
    assert [[seat.text for seat in layer] for layer in transcript.layers] == before
    for event in events:
        if isinstance(event, ProposalFinished):
            assert event.answer.stored is not None
            assert event.answer.usage.dollars == 0
    # And once more, from the new run.
    _, third = await again(transcript, Changes(method="select"), every | {"m:new": Says("2")})
    assert third.text == earlier.layers[1][1].text


async def test_a_lost_seat_is_asked_again_with_what_depends_on_it() -> None:
    every = known(b=Says(error=DOWN))
    events, earlier = await heard(two_layers(), every)
    losses = earlier.losses
    assert [(loss.layer, loss.seat) for loss in losses] == [(0, 1)]
    # Without being asked again it stays lost, and this is told.
    events, transcript = await again(earlier, Changes(), every)
    assert transcript.losses == losses
    assert len(every["m:b"].asked) == 1
    every["m:b"] = Says("b says that it is well.")
    events, transcript = await again(earlier, Changes(retry=((0, 1),)), every)
    assert transcript.losses == ()
    assert stored(events) == {
        (0, 0): True,
        (0, 1): False,
        (0, 2): True,
        **{(1, seat): False for seat in range(3)},
        (2, 0): False,
    }
    assert "b says that it is well." in every["m:d"].asked[-1].messages[-1].text


async def test_a_seat_that_is_left_out_is_read_by_nobody() -> None:
    every = known()
    _, earlier = await heard(two_layers(), every)
    events, transcript = await again(earlier, Changes(without=((1, 1),)), every)
    assert [len(layer) for layer in transcript.layers] == [3, 2]
    assert all(stored(events)[layer, seat] for layer in (0, 1) for seat in range(len(transcript.layers[layer])))
    assert transcript.layers[1][1].text == earlier.layers[1][2].text
    events, transcript = await again(earlier, Changes(without=((0, 0),)), every)
    assert [len(layer) for layer in transcript.layers] == [2, 3]
    assert "a says" not in every["m:d"].asked[-1].messages[-1].text
    assert not stored(events)[1, 0]


async def test_an_answer_of_a_fallback_is_found_with_its_model_and_its_loss() -> None:
    made = Recipe("r", (Layer((Agent("m:b", fallback=("m:c",)), Agent("m:a"))),), Aggregator("m:z"))
    every = known(b=Says(error=DOWN))
    _, earlier = await heard(made, every)
    events, transcript = await again(earlier, Changes(), every)
    assert transcript.losses == earlier.losses
    assert [(loss.kind, loss.replaced_by) for loss in transcript.losses] == [("replaced", "m:c")]
    assert [event.model for event in events if isinstance(event, ProposalFinished)] == ["m:c", "m:a"]
    assert [seat.model for seat in transcript.layers[0]] == ["m:c", "m:a"]


async def test_a_quorum_does_not_cut_off_what_is_asked_again() -> None:
    made = Recipe("r", (Layer((Agent("m:a"), Agent("m:b"), Agent("m:c")), quorum=2, grace=0),), Aggregator("m:z"))
    every = known(c=Says("late", seconds=5))
    _, earlier = await heard(made, every)
    assert earlier.layers[0][2].answer is None
    every["m:c"] = Says("c is in time.", seconds=0.01)
    _, transcript = await again(earlier, Changes(retry=((0, 2),)), every)
    assert transcript.layers[0][2].text == "c is in time."
    assert transcript.losses == ()


async def test_an_analysis_is_found_as_long_as_its_proposals_are_the_same() -> None:
    made = Recipe("r", (Layer((Agent("m:a"), Agent("m:b"), Agent("m:c"))),), Aggregator("m:z"), analyst=Analyst("m:an"))
    every = models(c=Says("Nothing."))
    _, earlier = await heard(made, every)
    events, transcript = await again(earlier, Changes(aggregator="m:a"), every)
    assert transcript.analysis == earlier.analysis
    assert stored(events)[1, 1]
    assert len(every["m:an"].asked) == 1
    events, transcript = await again(earlier, Changes(without=((0, 2),)), every)
    assert len(every["m:an"].asked) == 2
    assert not stored(events)[1, 1]
    with pytest.raises(InputError, match="analyst compares at least 2 proposals"):
        begin_again("earlier", earlier, Changes(without=((0, 1), (0, 2))))


async def test_a_plan_counts_only_what_is_new() -> None:
    every = known(**{name: Says(f"{name} says so.", info=PRICED) for name in "abcdeyz"})
    made = Recipe(
        "r",
        tuple(Layer(tuple(Agent(f"m:{name}", max_tokens=1000) for name in names)) for names in ("abc", "de")),
        Aggregator("m:z", max_tokens=1000),
    )
    _, earlier = await heard(made, every)
    events, _ = await again(earlier, Changes(), every, max_dollars=Decimal(1))
    assert isinstance(events[-1], RunFinished)
    with pytest.raises(BudgetError, match=r"what is asked again may cost 1 dollars, but 0\.5 are allowed"):
        await again(earlier, Changes(), every, max_dollars=Decimal("0.5"))
    earlier.layers[0][1].answer, earlier.layers[0][1].error = None, earlier.layers[0][1].error
    with pytest.raises(BudgetError, match="what is asked again may cost 4 dollars"):
        await again(earlier, Changes(), every, max_dollars=Decimal(3))
    _, transcript = await again(earlier, Changes(), every, max_dollars=Decimal(4))
    assert transcript.error is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (Changes(retry=((0, 0),)), "has a proposal"),
        (Changes(retry=((0, 9),)), r"no seat \(0, 9\); known seats: \(0, 0-2\), \(1, 0-2\)"),
        (Changes(without=((5, 0),)), "no seat"),
        (Changes(without=((-1, 0),)), "no seat"),
        (Changes(without=((0, 1),), retry=((0, 1),)), "named twice"),
        (Changes(without=((0, 0), (0, 1), (0, 2))), "no seat left"),
        (Changes(aggregator="nonsense"), "the aggregator: model is"),
    ],
)
async def test_what_makes_no_run_is_refused_in_words(changes: Changes, why: str) -> None:
    _, earlier = await heard(two_layers(), known(b=Says(error=DOWN)))
    with pytest.raises(InputError, match=why):
        begin_again("earlier", earlier, changes)


async def test_a_layer_that_was_lost_as_a_whole_must_be_asked_again() -> None:
    every = known(d=Says(error=DOWN), e=Says(error=DOWN))
    _, earlier = await heard(two_layers(), every)
    with pytest.raises(InputError, match="every seat of layer 1 was lost"):
        begin_again("earlier", earlier, Changes())
    every["m:e"] = Says("e is well.")
    events, transcript = await again(earlier, Changes(retry=((1, 1),)), every)
    assert transcript.error is None
    assert [seat.answer is not None for seat in transcript.layers[1]] == [False, True, False]
    assert stored(events)[0, 2]


async def test_a_run_without_layers_asks_its_aggregator_again() -> None:
    _, earlier = await heard(Recipe("r", (), Aggregator("m:z")), known())
    every = known(z=Says("Another end."))
    assert (await again(earlier, Changes(), every))[1].text == "Another end."
    assert (await again(earlier, Changes(aggregator="m:a"), every))[1].text == "a says that it is so."


@settings(max_examples=60, deadline=None)
@given(
    lost=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=4),
    retried=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=3),
    left=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=3),
    stop=st.integers(0, 60),
)
def test_whatever_is_changed_nothing_is_asked_that_is_there(
    lost: set[tuple[int, int]], retried: set[tuple[int, int]], left: set[tuple[int, int]], stop: int
) -> None:
    names = [[f"m:{layer}{seat}" for seat in range(3)] for layer in (0, 1)]
    made = Recipe("r", tuple(Layer(tuple(map(Agent, layer))) for layer in names), Aggregator("m:z"), strict=False)

    async def go() -> None:
        every = {
            name: Says(f"{name} says so.", error=DOWN if (layer, seat) in lost else None)
            for layer, each in enumerate(names)
            for seat, name in enumerate(each)
        } | {"m:z": Says("The end.")}
        events, _ = await heard(made, every)
        earlier = Transcript()
        for event in events[: max(1, stop)]:  # the process of the earlier run may have died at any time
            earlier.hear(event)
        changes = Changes(without=tuple(left), retry=tuple(retried))
        try:
            recipe, conversation, found = begin_again("earlier", earlier, changes)
        except InputError:
            return
        before = {name: len(model.asked) for name, model in every.items()}
        events, transcript = await heard(recipe, every, conversation, again=found)
        grammar.check(events)
        asked = {name for name, model in every.items() if len(model.asked) > before[name]}
        assert asked <= set(models_asked(recipe, found))
        new = min((layer for layer, _ in (*left, *retried)), default=2)
        for layer, each in enumerate(earlier.layers):
            for seat, known_seat in enumerate(each):
                if layer <= new and known_seat.answer is not None and (layer, seat) not in left:
                    new = new if all(s.answer or s.error for s in each) else min(new, layer)
                    assert names[layer][seat] not in asked
        assert isinstance(events[-1], RunFinished | RunFailed)
        left_out = {names[layer][seat] for layer, seat in left}
        assert not left_out & {seat.model for layer in transcript.layers for seat in layer}

    asyncio.run(go())


async def test_a_stored_run_is_compared_once_it_has_ended() -> None:
    every = models()
    made = Recipe("r", (Layer((Agent("m:a"), Agent("m:b"))),), Aggregator("m:an"))
    _, earlier = await heard(made, every, Conversation(asking("When?").messages, sampling=Sampling(max_tokens=9)))
    assert stored_analysis(earlier) is None
    asked = to_compare("earlier", earlier)
    assert asked.analyst == Analyst("m:an")
    assert to_compare("earlier", earlier, "m:other").analyst == Analyst("m:other")
    found = await compare(asked.recipe, asked.analyst, asked.conversation, asked.proposals, {"m:an": every["m:an"]})
    assert sorted(found.analysis.agreements[0].seats) == [0, 1]
    assert (found.model, found.usage.dollars, found.stored) == ("m:an", Decimal(1), False)
    broken = {"m:an": Says("I cannot.")}
    with pytest.raises(ModelError, match="was to write an analysis") as caught:
        await compare(asked.recipe, asked.analyst, asked.conversation, asked.proposals, broken)
    assert caught.value.cause == "invalid"
    priced = {"m:an": Says("{}", info=PRICED)}
    capped = replace(asked.recipe, max_dollars=Decimal("0.01"))
    with pytest.raises(BudgetError, match="the analysis may cost"):
        await compare(capped, asked.analyst, asked.conversation, asked.proposals, priced)
    assert priced["m:an"].asked == []
    _, compared = await heard(replace(made, analyst=Analyst("m:an")), models())
    known_analysis = stored_analysis(compared)
    assert known_analysis is not None
    assert (known_analysis[0], known_analysis[1].stored) == (0, True)
    assert stored_analysis(compared, "m:other") is None


async def test_of_a_run_that_has_no_two_proposals_there_is_nothing_to_compare() -> None:
    every = known(b=Says(error=DOWN), c=Says(error=DOWN))
    _, earlier = await heard(Recipe("r", (Layer((Agent("m:a"), Agent("m:b"))),), Aggregator("m:z")), every)
    with pytest.raises(InputError, match="no layer of run earlier has two proposals"):
        to_compare("earlier", earlier)
    with pytest.raises(InputError, match="the model of the analyst"):
        to_compare("earlier", earlier, "nonsense")


async def test_the_best_proposal_is_taken_and_nobody_is_asked() -> None:
    every = known(z=Says(error=DOWN), y=Says(error=DOWN))
    _, earlier = await heard(two_layers(strict=True), every)
    assert earlier.error is not None
    events, transcript = await again(earlier, Changes(best=True), known())
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.last_resort, end.layer, end.usage.dollars) == (True, 1, Decimal(0))
    assert end.answer.text == earlier.layers[1][end.seat or 0].text
    assert transcript.aggregator == ""
    assert [(loss.layer, loss.seat, loss.message) for loss in end.losses] == [(2, 0, earlier.error.message)]
    assert all(stored(events).values())
    # Of a run that has an answer, too, and with a seat that is asked again.
    _, whole = await heard(two_layers(), known(c=Says(error=DOWN)))
    every = known()
    events, transcript = await again(whole, Changes(retry=((0, 2),), best=True), every)
    assert transcript.last_resort
    assert not every["m:z"].asked
    assert every["m:c"].asked
    assert transcript.losses[-1].message == "the best proposal was taken in place of an aggregation"


async def test_the_best_proposal_is_refused_where_it_would_be_no_answer() -> None:
    _, earlier = await heard(two_layers(), known())
    for changes in (Changes("m:y", best=True), Changes(method="select", best=True)):
        with pytest.raises(InputError, match="without an aggregator"):
            begin_again("r", earlier, changes)
    _, alone = await heard(Recipe("r", (), Aggregator("m:z")), known())
    with pytest.raises(InputError, match="no proposers"):
        begin_again("r", alone, Changes(best=True))
    asked = Conversation(asking("Why?").messages, response_format=b'{"type":"object"}')
    _, told = await heard(two_layers(), known(z=Says("{}")), asked)
    with pytest.raises(InputError, match="advice about an answer"):
        begin_again("r", told, Changes(best=True))
