"""Runs that are recorded while they go on: events, calls, tokens and dollars, and the share of each model."""

import asyncio
import datetime
from pathlib import Path

import partsong
from partsong import Agent, Aggregator, Layer, Recipe, Usage
from partsong.engine import perform
from partsong.events import Failure, ProposalDelta, RunFailed, RunFinished
from partsong.middleware.cache import Cache
from partsong.model import asking
from partsong.providers.scripted import Scripted
from partsong.store import Search, open_store
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
        assert (newest.status, newest.calls, newest.model) == ("open", 3, "scripted:z")
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
