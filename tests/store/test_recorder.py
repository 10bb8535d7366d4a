"""Runs that are recorded while they go on: events, calls, tokens and dollars, and the share of each model."""

import asyncio
import datetime
from pathlib import Path

import pytest

import partsong
from partsong import Agent, Aggregator, Answer, Layer, Model, Recipe, Request, Send, Text, Usage
from partsong.engine import perform
from partsong.events import AnyEvent, CallFinished, Failure, ProposalDelta, RunFailed, RunFinished
from partsong.middleware.cache import Cache
from partsong.model import asking
from partsong.providers.scripted import Scripted
from partsong.store import Mode, Search, StoredRun, open_store
from tests.faults.cells import Cell, Performed, perform_all
from tests.faults.misbehaving import FAULTS
from tests.faults.test_matrix import PLACES
from tests.store.samples import recorded


async def test_a_run_comes_back_as_it_happened(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store)
    async with open_store(tmp_path / "s.db") as store:
        timed = await store.events(run)
        assert [event for _, event in timed] == events
        assert any(isinstance(event, ProposalDelta) for event in events)
        seconds = [second for second, _ in timed]
        assert seconds == sorted(seconds)
        assert seconds[0] == 0.0
        stored = await store.find_run(run)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert stored.started.tzinfo is datetime.UTC
        assert abs(datetime.datetime.now(datetime.UTC) - stored.started) < datetime.timedelta(minutes=5)
        assert stored.seconds == seconds[-1]
        assert (stored.status, stored.recipe, stored.model, stored.question) == (
            "finished",
            "duet",
            "scripted:z",
            "Why?",
        )
        assert (stored.calls, stored.stored, stored.losses, stored.cause) == (4, 0, 1, "")
        assert stored.tokens == last.usage.input_tokens + last.usage.output_tokens
        assert stored.dollars == last.usage.dollars


async def test_a_run_that_fails_or_is_left_is_recorded_as_failed(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, _ = await recorded(store, Recipe("r", (), Aggregator("scripted:z?fail=billing&after=3")))
        failed = await store.find_run(run)
        assert (failed.status, failed.cause, failed.calls) == ("failed", "billing", 1)
        hanging = asyncio.create_task(recorded(store, Recipe("r", (), Aggregator("scripted:z?first=60"))))
        while (await store.runs(1))[0].id == run:
            await asyncio.sleep(0.01)
        assert (await store.runs(1))[0].status == "open"
        hanging.cancel()
        await asyncio.wait([hanging])
        # Nobody closed that recorder: what it heard is written all the same.
        while (left := (await store.runs(1))[0]).status == "open":
            await asyncio.sleep(0.01)
        assert (left.status, left.cause) == ("failed", "cancelled")


async def test_a_run_under_way_is_there_with_all_that_was_said_until_then(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        _, events = await recorded(store)
        recorder = store.record("mine")
        for event in events[:-1]:
            await recorder.hear(event)
        while (newest := await store.find_run("last")).id != "mine" or len(await store.events("mine")) < len(
            events
        ) - 1:
            await asyncio.sleep(0.01)
        assert (newest.status, newest.calls, newest.model) == ("open", 4, "scripted:z")
        await recorder.close()
        again = store.record("mine")
        await again.hear(events[0])
        await again.close()
        assert [event for _, event in await store.events("mine")] == events[:1]


async def test_answers_from_the_store_are_no_calls(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        for _ in range(2):
            recorder = store.record()
            models = {name: Cache(Scripted(name[9:]), name, store, {}) for name in ("scripted:a", "scripted:z")}
            recipe = Recipe("r", (Layer((Agent("scripted:a", temperature=0),)),), Aggregator("scripted:z"))
            await partsong.perform(recipe, asking("Why?"), models, recorder.hear)
            await recorder.close()
        assert [(run.calls, run.stored) for run in await store.runs()] == [(1, 1), (2, 0)]


async def test_a_recorder_that_heard_of_no_beginning_writes_nothing(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        recorder = store.record()
        await recorder.hear(RunFailed(Failure("server", "no"), Usage()))
        await recorder.close()
        assert await store.runs() == []


async def test_each_model_has_its_share_of_a_run(tmp_path: Path) -> None:
    scripts = {
        "x:down": Scripted("down?fail=server"),
        "x:spare": Scripted("spare?text=one+two"),
        "x:lost": Scripted("lost?fail=auth"),
        "x:z": Scripted("z?fail=server"),
        "x:y": Scripted("y?text=end"),
    }
    agents = (Agent("x:down", fallback=("x:spare",)), Agent("x:lost"), Agent("x:spare", samples=2))
    recipe = Recipe("r", (Layer(agents),), Aggregator("x:z", fallback=("x:y",)))
    async with open_store(tmp_path / "s.db") as store:
        recorder = store.record()
        await perform(recipe, asking("Well?"), scripts, recorder.hear)
        await recorder.close()
        _, models = await store.totals("", 0)
        (run,), _ = await store.search(Search(model="x:y"))
    shares = {each.model: each for each in models}
    assert {name: (each.calls, each.lost) for name, each in shares.items()} == {
        "x:down": (1, 1),
        "x:spare": (3, 0),
        "x:lost": (1, 1),
        "x:z": (1, 1),
        "x:y": (1, 0),
    }
    assert sum(each.calls for each in models) == run.calls
    assert sum(each.tokens for each in models) == run.tokens
    assert (run.layers, run.losses) == (2, 3)


# What a run has used is the sum of its calls, whatever becomes of them


PRICED = "input=1000&output=3000"
WORDY = f"scripted:a?tokens=30&{PRICED}"
FAILURES = {
    "nothing fails": Recipe("r", (Layer((Agent(WORDY, samples=2),)),), Aggregator(f"scripted:z?{PRICED}")),
    "a ranker names none": Recipe(
        "r",
        (Layer((Agent(WORDY), Agent(f"scripted:b?{PRICED}"))),),
        Aggregator(f"scripted:z?text=I+like+them+all.&{PRICED}", method="select"),
        last_resort="best_proposal",
    ),
    "the aggregator fails before a word": Recipe(
        "r", (Layer((Agent(WORDY),)),), Aggregator(f"scripted:z?fail=server&{PRICED}"), last_resort="best_proposal"
    ),
    "the aggregator fails in mid-answer": Recipe(
        "r",
        (Layer((Agent(WORDY, samples=2),)),),
        Aggregator(f"scripted:z?fail=server&after=9&{PRICED}"),
        last_resort="best_proposal",
    ),
    "models are replaced": Recipe(
        "r",
        (Layer((Agent(f"scripted:b?fail=rate&after=4&{PRICED}", fallback=(WORDY,)), Agent("scripted:c?fail=auth"))),),
        Aggregator("scripted:y?fail=network", fallback=(f"scripted:z?{PRICED}",)),
    ),
    "models are not asked": Recipe(
        "r",
        (Layer((Agent("scripted:b?fail=resting", fallback=(WORDY,)), Agent("scripted:c?fail=budget"))),),
        Aggregator(f"scripted:z?{PRICED}"),
    ),
    "a seat is cut off": Recipe(
        "r",
        (Layer((Agent(WORDY), Agent(f"scripted:b?each=60&{PRICED}")), quorum=1, grace=0.0),),
        Aggregator(f"scripted:z?{PRICED}"),
    ),
    "a layer is lost": Recipe(
        "r", (Layer((Agent(f"scripted:b?fail=timeout&after=5&{PRICED}", samples=2),)),), Aggregator("scripted:z")
    ),
    "a price is unknown": Recipe("r", (Layer((Agent("t:free"),)),), Aggregator(f"scripted:z?{PRICED}")),
}


async def unpriced(request: Request, send: Send | None) -> Answer:
    return Answer((Text("Well."),), usage=Usage(5, 2))


@pytest.mark.parametrize("mode", ["full", "metadata"])
@pytest.mark.parametrize("what", FAILURES)
async def test_calls_tokens_and_dollars_are_those_of_the_run(tmp_path: Path, what: str, mode: Mode) -> None:
    recipe, events = FAILURES[what], list[AnyEvent]()
    models: dict[str, Model] = {
        name: unpriced if name == "t:free" else Scripted(name.removeprefix("scripted:")) for name in recipe.models
    }
    async with open_store(tmp_path / "s.db", mode) as store:
        recorder = store.record()

        async def hear(event: AnyEvent) -> None:
            events.append(event)
            await recorder.hear(event)

        await perform(recipe, asking("Why is the sky blue?"), models, hear)
        await recorder.close()
        run = await store.find_run(recorder.id)
        _, totals = await store.totals("", 0.0)
    check(run, events)
    assert {each.model for each in totals} >= set(recipe.models)
    assert sum(each.calls for each in totals) == run.calls
    assert sum(each.tokens for each in totals) == run.tokens
    assert sum(each.lost for each in totals) == run.losses
    assert (run.dollars is None) == any(each.unpriced for each in totals)
    if run.dollars is not None:
        assert sum(each.dollars for each in totals) == pytest.approx(float(run.dollars))


def check(run: StoredRun, events: list[AnyEvent]) -> None:
    """The summary of a run says what its calls and its end say."""
    end = events[-1]
    assert isinstance(end, RunFinished | RunFailed)
    assert run.tokens == end.usage.input_tokens + end.usage.output_tokens
    assert run.dollars == end.usage.dollars
    calls = [event for event in events if isinstance(event, CallFinished)]
    assert calls
    assert run.calls == sum(call.reached and not call.stored for call in calls)
    assert run.stored == sum(call.stored for call in calls)
    assert (run.status == "finished") == isinstance(end, RunFinished)


async def test_a_failed_aggregator_is_counted_with_what_it_used(tmp_path: Path) -> None:
    """Also if a proposal had to do for the answer, which is not counted twice."""
    async with open_store(tmp_path / "s.db") as store:
        for what in ("a ranker names none", "the aggregator fails in mid-answer"):
            run, events = await recorded(store, FAILURES[what])
            _, totals = await store.totals("", 0.0)
            paid = [
                event for event in events if isinstance(event, CallFinished) and event.model.startswith("scripted:z")
            ]
            assert [call.usage is not None and call.usage.input_tokens > 0 for call in paid] == [True]
            assert (await store.find_run(run)).calls == 3
            model = next(each for each in totals if each.model == paid[0].model)
            assert paid[0].usage is not None
            assert (model.calls, model.tokens) == (1, paid[0].usage.input_tokens + paid[0].usage.output_tokens)


async def test_calls_that_were_refused_before_they_were_made_do_not_count(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, events = await recorded(store, FAILURES["models are not asked"])
        assert sum(isinstance(event, CallFinished) for event in events) == 4
        assert (await store.find_run(run)).calls == 2


PLACE = "one-each-and-aggregator"
CELLS = [Cell(fault, PLACE, PLACES[PLACE]) for fault in FAULTS]


def test_over_all_faults_the_store_agrees_with_the_run(tmp_path: Path) -> None:
    outcomes = perform_all(CELLS)

    async def record() -> None:
        async with open_store(tmp_path / "s.db") as store:
            for name, outcome in outcomes.items():
                assert isinstance(outcome, Performed), name
                recorder = store.record()
                for event in outcome.events:
                    await recorder.hear(event)
                await recorder.close()
                check(await store.find_run(recorder.id), outcome.events)

    asyncio.run(record())
