"""No query of a server grows with the table: each finds its rows by an index, and searches look at so many at most."""

import asyncio
import datetime
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong import InputError
from partsong.store import Change, ConversationSearch, Search, StoredRun, Vote, open_store
from partsong.store.shares import Share
from partsong.store.sqlite import runs
from partsong.store.sqlite.backend import SQLite
from partsong.store.sqlite.database import Database
from tests.store.contract.test_runs import EVENTS, summary
from tests.store.samples import made, recorded

TABLES = "conversations|words|runs|calls|pieces|prompts|shares|votes|spent|holds|places|day_totals|model_totals"


async def everything(backend: SQLite) -> None:
    """Do everything that a server does with its store, once."""
    share = Share("lab:a", 1, 10, Decimal("0.001"))
    for index, event in enumerate(EVENTS):
        await backend.save_run(summary("a"), index, [event], [share])
    await backend.save_run(summary("b", 1, labels={"conversation": "c"}), 0, EVENTS, [share])
    for text in ("", "so why"):
        await backend.conversations(ConversationSearch(text=text, before="c"))
    await backend.change_conversation("", "c", Change(title="C"))
    await backend.find_conversation("", "c")
    await backend.runs_in("", "c", 9)
    await backend.join_events("a")
    await backend.keep_call(made(), words=True)
    await backend.find_answer(made().key)
    await backend.throughputs(["lab:a"])
    await backend.find_run("a")
    await backend.read_events("a")
    await backend.run_ids("a")
    for search in (
        Search(),
        Search(before="b"),
        Search("", "why", "solo", "lab:a", 0.0, True, 1.0, "b"),
        Search(apart=True),
    ):
        await backend.search_runs(search)
    await backend.day_totals("", 0.0)
    await backend.model_totals("", 0.0)
    await backend.keep_vote(Vote("", 1.0, "Why?", "x", "a", "y", "b", "a", True))
    await backend.vote_tallies("")
    await backend.vote_tally("", "x", "y")
    caps = {"": Decimal(1)}
    await backend.left(caps)
    hold = await backend.hold(caps, caps)
    assert hold is not None
    await backend.take_place(1, "a", at_once=1, per_minute=1, hold=1.0)
    await backend.keep_places([(1, "a")], 1.0)
    await backend.leave_place(1)
    await backend.probe()
    await backend.renew([hold])
    await backend.begin(hold, caps, caps, 0.0)
    await backend.begin(hold, {"": Decimal("1.5")}, caps)
    await backend.settle(hold, caps)
    await backend.delete_run("a")
    await backend.delete_runs("x", conversation="a")
    await backend.delete_runs("x", before=1.0)
    await backend.delete_votes("x")
    await backend.prune(1e10)


async def asked_of(database: Database, work: Any) -> set[str]:
    """The statements that both connections are sent meanwhile."""
    asked: set[str] = set()
    await database.read(lambda connection: connection.set_trace_callback(asked.add))
    await database.write(lambda connection: connection.set_trace_callback(asked.add))
    await work
    await database.read(lambda connection: connection.set_trace_callback(None))
    await database.write(lambda connection: connection.set_trace_callback(None))
    return {query for query in asked if re.match(r"SELECT|INSERT|UPDATE|DELETE", query)}


async def test_every_query_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    backend = SQLite(tmp_path / "s.db")
    await backend.open()
    try:
        asked = await asked_of(backend.database, everything(backend))
        assert len(asked) > 40
        for table in TABLES.split("|"):
            assert any(table in query for query in asked), table
        for query in sorted(asked):

            def plan(connection: Any, query: str = query) -> list[tuple[Any, ...]]:
                rows: list[tuple[Any, ...]] = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
                return rows

            steps = [step[3] for step in await backend.database.read(plan)]
            assert not [step for step in steps if re.match(rf"SCAN ({TABLES})\b", step)], (query, steps)
    finally:
        await backend.close()


async def test_a_search_ends_after_so_many_runs_wherever_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "EXAMINED", 10)
    backend = SQLite(tmp_path / "s.db")
    await backend.open()
    try:
        for index in range(25):
            question = "A needle" if index in (3, 12, 20) else "hay"
            await backend.save_run(summary(f"r{index:02}", index, question=question), 0, [], [])

        async def found(**fields: Any) -> list[str]:
            listed, _ = await backend.search_runs(Search(**fields))
            return [run.id for run in listed]

        assert await found(text="needle") == ["r20"]
        assert await found(text="needle", before="r20") == ["r12"]
        assert await found(text="needle", before="r12") == ["r03"]
        assert len(await found()) == 25  # without conditions an index decides
    finally:
        await backend.close()


async def test_the_totals_follow_the_runs_whatever_comes_in_which_order(tmp_path: Path) -> None:
    """Against adding up all runs anew, which is how the totals were made before."""
    chance = random.Random(7)
    day = datetime.timedelta(days=1)
    kept: dict[str, tuple[StoredRun, dict[str, Share]]] = {}
    backend = SQLite(tmp_path / "s.db")
    await backend.open()
    try:
        for _ in range(400):
            name = f"r{chance.randrange(30)}"
            if chance.random() < 0.2:
                await backend.delete_run(name)
                kept.pop(name, None)
                continue
            index = chance.randrange(2) if name in kept else 0
            before, shares = kept.get(name, (summary(name), {})) if index else (summary(name), {})
            dollars = None if chance.random() < 0.2 else Decimal(chance.randrange(10**13)) / 10**12
            started = before.started if index else before.started + day * chance.randrange(3)
            run = summary(
                name, tokens=chance.randrange(99), losses=chance.randrange(3), dollars=dollars,
                status=chance.choice(["open", "finished"]), caller=before.caller if index else chance.choice("xy"),
            )  # fmt: skip
            run = StoredRun(**{field: getattr(run, field) for field in run.__struct_fields__} | {"started": started})
            new = [Share(f"m{each}", 1, chance.randrange(9), dollars, 1) for each in range(chance.randrange(3))]
            kept[name] = run, shares | {share.model: share for share in new}
            await backend.save_run(run, index, [], new)
        for caller in "xy":
            own = [run for run, _ in kept.values() if run.caller == caller]
            for total in await backend.day_totals(caller, 0.0):
                of_day = [run for run in own if run.started.date().isoformat() == total.day]
                assert total.runs == len(of_day)
                assert total.dollars == round(float(sum(run.dollars or 0 for run in of_day)), 9)
                assert total.tokens == sum(run.tokens for run in of_day)
                assert total.unpriced == sum(run.dollars is None and run.status != "open" for run in of_day)
            models = await backend.model_totals(caller, 0.0)
            every = [share for run, shares in kept.values() if run.caller == caller for share in shares.values()]
            assert {each.model for each in models} == {share.model for share in every}
            for each in models:
                assert each.tokens == sum(share.tokens for share in every if share.model == each.model)
                assert each.calls == sum(share.model == each.model for share in every)
    finally:
        await backend.close()


async def test_a_run_is_looked_up_by_its_whole_id_where_nobody_types_it(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        run, _ = await recorded(store)
        assert await store.run(run[:4]) is None
        found = await store.run(run)
        assert found is not None
        assert found.id == run
        assert (await store.find_run(run[:4])).id == run
        with pytest.raises(InputError):
            await store.find_run("nobody")
        await asyncio.sleep(0)
