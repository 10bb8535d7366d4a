"""Runs: saved piece by piece, found, searched, added up and pruned."""

import datetime
from decimal import Decimal
from typing import Any

from partsong import Agent, Aggregator, Answer, Layer, Recipe, Text, Usage
from partsong.events import (
    AggregationDelta,
    AggregationStarted,
    AnyEvent,
    CallFinished,
    RunFinished,
    RunStarted,
)
from partsong.model import TextDelta, asking
from partsong.store import DayTotal, Deleted, ModelTotal, Search, StoredRun, Timed
from partsong.store.shares import Share
from tests.store.contract.backends import Opening
from tests.store.samples import made

NOON = datetime.datetime(2026, 5, 31, 12, tzinfo=datetime.UTC)
SOLO = Recipe("solo", (Layer((Agent("lab:a"),)),), Aggregator("lab:z"))
USED = Usage(7, 3, dollars=Decimal("0.001"))
EVENTS: list[Timed] = [
    (0.0, RunStarted(SOLO, asking("Why \x00?"))),
    (0.5, AggregationStarted("lab:z")),
    (0.75, AggregationDelta(TextDelta("Say: “so”"))),
    (1.0, CallFinished(1, 0, "lab:z", 0.5, 0.5, USED)),
    (1.0, RunFinished(Answer((Text("So."),), usage=USED), USED, model="lab:z")),
]


def summary(run: str, minutes: float = 0.0, **changes: Any) -> StoredRun:
    fields: dict[str, Any] = {
        "id": run, "mode": "full", "started": NOON + datetime.timedelta(minutes=minutes), "seconds": 1.0,
        "recipe": "solo", "model": "lab:z", "question": "Why?", "status": "finished", "cause": "", "calls": 1,
        "stored": 0, "tokens": 10, "dollars": Decimal("0.001"), "losses": 0, "layers": 2,
    }  # fmt: skip
    return StoredRun(**{**fields, **changes})


async def test_a_run_comes_back_as_it_was_saved(opening: Opening) -> None:
    run = summary("k7abc", caller="alice", labels={"who": "Größe \x00"}, dollars=Decimal("0.000000000001"))
    async with opening() as backend:
        assert await backend.find_run("k7abc") is None
        assert await backend.read_events("k7abc") is None
        for index, event in enumerate(EVENTS):
            await backend.save_run(run, index, [event], [Share("lab:z", 1, 10, Decimal("0.001"))] if index else [])
            assert await backend.read_events("k7abc") == ("full", EVENTS[: index + 1])
    async with opening() as backend:
        assert await backend.find_run("k7abc") == run
        await backend.join_events("k7abc")
        assert await backend.read_events("k7abc") == ("full", EVENTS)
        assert await backend.find_run("k7") is None
        await backend.save_run(summary("k7abc", status="open"), 0, EVENTS[:1], [])  # begun anew
        assert await backend.read_events("k7abc") == ("full", EVENTS[:1])
        assert await backend.model_totals("", 0.0) == []


async def test_a_run_without_words_has_no_events(opening: Opening) -> None:
    async with opening() as backend:
        await backend.save_run(summary("m1", mode="metadata"), 0, [], [])
        assert await backend.read_events("m1") == ("metadata", [])


async def test_ids_and_runs_are_listed_newest_first(opening: Opening) -> None:
    async with opening() as backend:
        for minutes, run in enumerate(("k7abc", "k7abd", "m1", "K7")):
            await backend.save_run(summary(run, minutes), 0, [], [])
        await backend.save_run(summary("m0", 2), 0, [], [])  # began in the same moment as m1
        assert await backend.run_ids("k7") == ["k7abd", "k7abc"]
        assert await backend.run_ids("") == ["K7", "m1", "m0", "k7abd", "k7abc"]
        assert await backend.run_ids("", 2) == ["K7", "m1"]
        assert await backend.run_ids("%") == []
        assert [run.id for run in await backend.latest_runs(3)] == ["K7", "m1", "m0"]


async def test_each_field_of_a_search_restricts_it(opening: Opening) -> None:
    async with opening() as backend:
        await backend.save_run(summary("a", 0, question="Grüße aus Köln"), 0, [], [Share("lab:x")])
        await backend.save_run(summary("b", 1, question="100% sure?", recipe="duet", losses=1), 0, [], [])
        await backend.save_run(summary("c", 2, question="", dollars=Decimal("1.5"), model="lab:y"), 0, [], [])
        await backend.save_run(summary("d", 3, dollars=None, caller="alice"), 0, [], [])

        async def found(**fields: Any) -> str:
            runs, _ = await backend.search_runs(Search(**fields))
            return "".join(run.id for run in runs)

        assert await found() == "cba"
        assert await found(caller="alice") == "d"
        assert await found(text="köln GRÜSSE") == "a"
        assert await found(text="100%") == "b"
        assert await found(text="_") == ""
        assert await found(text="'; DROP TABLE runs; --") == ""
        assert await found(recipe="duet") == "b"
        assert await found(model="lab:x") == "a"
        assert await found(model="lab:y") == "c"
        assert await found(min_dollars=0.5) == "c"
        assert await found(lost=True) == "b"
        assert await found(after=NOON.timestamp() + 60) == "cb"
        assert await found(before="c", after=NOON.timestamp() + 60) == "b"
        await backend.save_run(summary("e", 4, source="batch"), 0, [], [])
        assert await found() == "cba"
        assert await found(apart=True) == "ecba"
        assert await found(before="c", model="lab:z", recipe="solo", text="aus") == "a"


async def test_a_page_goes_on_where_the_one_before_ended(opening: Opening) -> None:
    async with opening() as backend:
        for index in range(5):
            await backend.save_run(summary(f"r{index}", index // 2), 0, [], [])  # some began in the same moment
        first, more = await backend.search_runs(Search(limit=2))
        await backend.save_run(summary("new", 10), 0, [], [])
        second, still_more = await backend.search_runs(Search(limit=2, before=first[-1].id))
        third, no_more = await backend.search_runs(Search(limit=2, before=second[-1].id))
        assert [run.id for run in first + second + third] == ["r4", "r3", "r2", "r1", "r0"]
        assert (more, still_more, no_more) == (True, True, False)


async def test_totals_leave_unknown_prices_out_and_count_them(opening: Opening) -> None:
    async with opening() as backend:
        day = 24 * 60
        half = [Share("lab:a", 2, 10, Decimal("0.5")), Share("lab:b", 1, 5, None, losses=1)]
        await backend.save_run(summary("a", 0, dollars=None, tokens=15, losses=1), 0, [], half)
        await backend.save_run(summary("b", 1, dollars=Decimal("0.25")), 0, [], [Share("lab:b", 1, 7, Decimal("0.25"))])
        await backend.save_run(summary("c", day, status="open", dollars=None), 0, [], [Share("lab:c")])
        await backend.save_run(summary("d", 2, caller="alice"), 0, [], [Share("lab:a", 9, 9)])
        assert await backend.day_totals("", 0.0) == [
            DayTotal("2026-05-31", 2, 0.25, 25, 1, unpriced=1),
            DayTotal("2026-06-01", 1, 0.0, 10, 0, unpriced=0),
        ]
        assert await backend.model_totals("", 0.0) == [
            ModelTotal("lab:a", 2, 0.5, 10, 0, unpriced=0),
            ModelTotal("lab:b", 2, 0.25, 12, 1, unpriced=1),
            ModelTotal("lab:c", 0, 0.0, 0, 0, unpriced=0),
        ]
        since = NOON.timestamp() + 3600
        assert [each.day for each in await backend.day_totals("", since)] == ["2026-06-01"]
        assert [each.model for each in await backend.model_totals("", since)] == ["lab:c"]


async def test_a_run_is_deleted_with_its_events_and_shares(opening: Opening) -> None:
    async with opening() as backend:
        for index, run in enumerate(("a", "b")):
            await backend.save_run(summary(run, index), 0, EVENTS, [Share("lab:a", 1)])
        await backend.delete_run("a")
        await backend.delete_run("nobody")
        assert await backend.find_run("a") is None
        assert await backend.read_events("a") is None
        assert await backend.run_ids("") == ["b"]
        assert [each.calls for each in await backend.model_totals("", 0.0)] == [1]
        assert await backend.read_events("b") == ("full", EVENTS)


async def test_a_run_is_deleted_with_its_calls_and_later_pieces_are_dropped(opening: Opening) -> None:
    async with opening() as backend:
        await backend.save_run(summary("a", status="open"), 0, EVENTS[:1], [Share("lab:a", 1)])
        await backend.keep_call(made(run="a"), words=True)
        other = made(text="Another.", model="lab:b", run="b")
        await backend.keep_call(other, words=True)
        await backend.keep_call(made(text="Nobody's.", model="lab:c"), words=True)
        assert await backend.delete_run("a") == Deleted(1, 1)
        assert await backend.delete_run("a") == Deleted(0, 0)
        assert await backend.delete_run("") == Deleted(0, 0)
        assert await backend.find_answer(made().key) is None
        assert await backend.find_answer(other.key) == other.answer
        await backend.save_run(summary("a"), 1, EVENTS[1:], [Share("lab:a", 1)])
        assert await backend.find_run("a") is None
        assert await backend.read_events("a") is None
        assert await backend.day_totals("", 0.0) == []
        assert await backend.model_totals("", 0.0) == []
        await backend.save_run(summary("a"), 0, EVENTS, [])  # begun anew
        assert await backend.read_events("a") == ("full", EVENTS)


async def test_a_conversation_an_age_or_everything_of_a_caller_is_deleted(opening: Opening) -> None:
    def in_it(first: str) -> dict[str, str]:
        return {"conversation": first}

    async with opening() as backend:
        for minutes, (run, caller, labels) in enumerate(
            [
                ("a1", "alice", {}),
                ("a2", "alice", in_it("a1")),
                ("a3", "alice", in_it("a1")),
                ("a4", "alice", {}),
                ("b1", "bob", in_it("a1")),
                ("b2", "bob", {}),
            ]
        ):
            await backend.save_run(summary(run, minutes, caller=caller, labels=labels), 0, EVENTS, [])
            await backend.keep_call(made(model=f"lab:{run}", run=run), words=True)
        assert await backend.delete_runs("bob", conversation="a4") == Deleted(0, 0)
        assert await backend.delete_runs("alice", conversation="a1") == Deleted(3, 3)
        assert sorted(await backend.run_ids("")) == ["a4", "b1", "b2"]
        assert await backend.delete_runs("bob", before=NOON.timestamp() + 5 * 60) == Deleted(1, 1)
        assert sorted(await backend.run_ids("")) == ["a4", "b2"]
        for index in range(600):  # more than are deleted in one step
            backend.save_run(summary(f"many{index}", index, caller="bob"), 0, [], [])
        assert await backend.delete_runs("bob") == Deleted(601, 1)
        assert await backend.run_ids("") == ["a4"]
        assert await backend.find_answer(made(model="lab:a4").key) is not None


async def test_pruning_deletes_what_is_older(opening: Opening) -> None:
    async with opening() as backend:
        for index in range(1200):  # more than are deleted in one step
            backend.save_run(summary(f"old{index:04}", -1), 0, [], [Share("lab:a", 1)])
        for event_index, event in enumerate(EVENTS):
            await backend.save_run(summary("young", 1), event_index, [event], [])
        await backend.keep_call(made(started=NOON.timestamp() - 1), words=True)
        await backend.keep_call(made(text="Later.", started=NOON.timestamp() + 1), words=True)
        pruned = await backend.prune(NOON.timestamp())
        assert (pruned.runs, pruned.calls) == (1200, 1)
        assert await backend.run_ids("") == ["young"]
        assert await backend.read_events("young") == ("full", EVENTS)
        assert await backend.model_totals("", 0.0) == []
        answer = await backend.find_answer(made().key)
        assert answer is not None
        assert answer.text == "Later."
        assert (await backend.prune(NOON.timestamp())).runs == 0


def test_the_events_of_these_tests_are_whole() -> None:
    kinds: list[type[AnyEvent]] = [type(event) for _, event in EVENTS]
    assert CallFinished in kinds  # a run without calls would be taken for one of an earlier version
