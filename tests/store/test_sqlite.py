"""SQLite's back end: its file, its schema, its indexes, and what happens if the file is locked, damaged or full."""

import asyncio
import datetime
import os
import re
import resource
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import partsong
from partsong import Agent, Aggregator, InputError, Layer, Recipe, Request
from partsong.configuration import Configuration, Provider
from partsong.engine import perform
from partsong.errors import StoreError
from partsong.events import RunFinished
from partsong.middleware.cache import Cache
from partsong.model import Terms, asking
from partsong.providers.scripted import Scripted
from partsong.store import Search, Store, Vote, open_store
from partsong.store.sqlite.backend import SQLite
from partsong.store.sqlite.database import Database, _check
from partsong.store.sqlite.schema import MIGRATIONS
from tests.store.samples import REQUEST, made, recorded, stored_call
from tests.upstream import Server, chat


def contents(path: Path) -> bytes:
    """Every value in the file, with what is deflated in plain; and the file's own bytes."""
    connection = sqlite3.connect(path)
    found = [file.read_bytes() for file in path.parent.iterdir()]
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():
            for value in row:
                found.append(value if isinstance(value, bytes) else str(value).encode())
                if isinstance(value, bytes):
                    try:
                        found.append(zlib.decompress(value))
                    except zlib.error:
                        continue
    connection.close()
    return b"\n".join(found)


async def test_everything_that_is_known_of_a_call_is_stored(tmp_path: Path) -> None:
    call = made(Request(REQUEST.messages, sample=2, terms=Terms(until=9.0)), first=0.5)
    async with open_store(tmp_path / "s.db") as store:
        await store.keep_call(call)
    found = stored_call(tmp_path / "s.db", call.key)
    assert found.request == Request(REQUEST.messages, sample=2)
    assert found.answer == call.answer
    assert (found.model, found.started, found.seconds, found.first) == ("lab:a", 1e9, 2.5, 0.5)


async def test_equal_prompts_are_stored_once(tmp_path: Path) -> None:
    messages = asking("word " * 20_000).messages
    async with open_store(tmp_path / "s.db") as store:
        await asyncio.gather(*(store.keep_call(made(Request(messages, sample=number))) for number in range(6)))
    assert contents(tmp_path / "s.db").count(b"word " * 20_000) == 1


async def test_the_file_is_this_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "s.db"
    async with open_store(path) as store:
        await store.keep_call(made())
        files = list(path.parent.iterdir())
        assert len(files) > 1  # the log, too
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)} == {0o700}


async def test_a_file_has_the_newest_schema_and_can_shrink(tmp_path: Path) -> None:
    for _ in range(2):
        async with open_store(tmp_path / "s.db"):
            pass
    connection = sqlite3.connect(tmp_path / "s.db")
    asked = ("user_version", "auto_vacuum", "journal_mode")
    found = [connection.execute(f"PRAGMA {what}").fetchone()[0] for what in asked]
    connection.close()
    assert found == [len(MIGRATIONS), 2, "wal"]


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (name)")
    connection.close()


def no_database(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (newer, "was written by a newer partsong .* use that one, or another file"),
        (foreign, "is another program's database"),
        (no_database, "is damaged .* move the file away"),
        (folder, "cannot be opened for writing"),
    ],
)
async def test_a_file_that_will_not_do_is_refused(tmp_path: Path, spoil: object, said: str) -> None:
    path = tmp_path / "s.db"
    async with open_store(path):
        pass
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=f"s.db: .*{said}"):
        async with open_store(path):
            pass
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened for writing: Not a directory"):
        async with open_store(tmp_path / "file" / "s.db"):
            pass


async def test_a_file_that_is_damaged_later_is_a_store_error(tmp_path: Path) -> None:
    path, call = tmp_path / "s.db", made(text="x" * 100_000)
    async with open_store(path) as store:
        await store.keep_call(call)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 60_000)  # within the answer, and behind the schema: the file can be opened
        file.write(b"\xff" * 60_000)
    async with open_store(path) as store:
        with pytest.raises(StoreError, match=r"s\.db: the store is damaged"):
            await store.find_call(call.key)
        assert "damaged" in str(store.problem)


async def test_a_store_that_another_process_locks_is_left_alone_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path, lock=0.05) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"s\.db: another process keeps the store locked"):
            await store.keep_call(made())
        first = store.problem
        assert first is not None
        other.execute("ROLLBACK")
        other.close()
        with pytest.raises(StoreError) as caught:  # at once, though it would work now
            await store.keep_call(made())
        assert caught.value is first
        recorder = store.record()
        assert await store.runs() == []
        await recorder.close()


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file of this process may grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (320 * 1024, before[1]))  # the tables alone take most of it
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_without_room_never_breaks_a_run(tmp_path: Path, no_room: None) -> None:
    path = tmp_path / "s.db"
    async with open_store(path) as store:
        with pytest.raises(StoreError, match=r"s\.db: the store failed"):
            await store.keep_call(made(text=os.urandom(200_000).hex()))
        _, events = await recorded(store, question=os.urandom(200_000).hex())
        assert isinstance(events[-1], RunFinished)
        assert isinstance(store.problem, StoreError)


async def test_metadata_has_no_words(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_store(path, "metadata") as store:
        await store.keep_call(made(text="SECRET"))
        assert await store.find_call(made().key) is None
        run, events = await recorded(store, question="Why SECRET?")
        stored = (await store.runs())[0]
        assert (stored.id, stored.mode, stored.question, stored.calls, stored.losses) == (run, "metadata", "", 4, 1)
        assert stored.recipe == "duet"
        with pytest.raises(InputError, match=r'without its words \(store = "metadata"\)'):
            await store.events(run)
        assert (await store.throughputs(["lab:a"]))["lab:a"].tokens == 3
    everything = contents(path)
    assert b"lab:a" in everything
    answer = events[-1]
    assert isinstance(answer, RunFinished)
    for words in (b"SECRET", b"Why", b"Rayleigh", answer.answer.text[:20].encode(), made().key):
        assert words not in everything


async def test_a_key_never_reaches_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-never-to-be-written-down"
    monkeypatch.setenv("PARTSONG_TEST_KEY", key)
    path = tmp_path / "s.db"
    recipe = Recipe("r", (Layer((Agent("lab:a"), Agent("lab:b"))),), Aggregator("lab:z"))
    async with Server(chat("Because of Rayleigh.")) as server, open_store(path) as store:
        lab = Provider("openai", f"{server.url}/v1", "PARTSONG_TEST_KEY")
        async with partsong.assemble(recipe.models, Configuration(providers={"lab": lab})) as models:
            recorder = store.record()
            cached = {name: Cache(model, name, store, {}) for name, model in models.items()}
            await partsong.perform(recipe, asking("Why?"), cached, recorder.hear)
            await recorder.close()
        assert {exchange.headers["Authorization"] for exchange in server.exchanges} == {f"Bearer {key}"}
        everything = contents(path)
    assert everything.count(b"Because of Rayleigh.") >= 4  # each call, and the run
    assert key.encode() not in everything
    assert b"Bearer" not in everything


async def test_pruning_forgets_what_is_old_and_gives_the_room_back(tmp_path: Path) -> None:
    path, month = tmp_path / "s.db", datetime.timedelta(days=30)
    now = time.time()
    async with open_store(path) as store:
        big = asking(os.urandom(300_000).hex()).messages
        old, young = made(Request(big), started=0.0), made(started=now)
        both = made(Request(REQUEST.messages, sample=1), started=0.0)  # its prompt is young's as well
        for call in (old, young, both):
            await store.keep_call(call)
        run, _ = await recorded(store)
        assert (await store.prune(month)).calls == 2
        assert await store.find_call(old.key) is None
        assert await store.find_call(both.key) is None
        assert stored_call(path, young.key).request == young.request
        assert (await store.find_run(run)).status == "finished"
        before = path.stat().st_size
        await store.keep_call(old)
        pruned = await store.prune(month)
        assert (pruned.runs, pruned.calls) == (0, 1)
        assert pruned.bytes > 250_000
        assert path.stat().st_size <= before
        everything = await store.prune(datetime.timedelta(seconds=-1))
        assert (everything.runs, everything.calls) == (1, 1)
        assert await store.runs() == []
        with pytest.raises(InputError):
            await store.events(run)
        await store.prune(datetime.timedelta(days=999_999_999))


def database_of(store: Store) -> Database:
    """The file behind a store, to look into it."""
    assert isinstance(store._backend, SQLite)
    return store._backend.database


async def test_ten_thousand_runs_are_searched_by_their_indexes(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        database = database_of(store)
        recorder = store.record("first")
        recipe = Recipe("r", (Layer((Agent("x:a"),)),), Aggregator("x:z"))
        await perform(recipe, asking("A needle"), {"x:a": Scripted("a"), "x:z": Scripted("z")}, recorder.hear)
        await recorder.close()
        columns = "mode, seconds, recipe, model, status, cause, calls, stored, tokens, dollars, losses, caller, labels"
        copies = (
            f"INSERT INTO runs (id, started, question, layers, {columns}) WITH RECURSIVE n(i) AS "
            f"(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT 'run' || i, started + i, 'hay ' || i, 2, "
            f"{columns} FROM runs, n WHERE id = 'first'"
        )
        await database.write(lambda connection: connection.execute(copies).rowcount)
        found, more = await store.search(Search(text="needle"))
        assert ([run.id for run in found], more) == (["first"], False)
        page, more = await store.search(Search(before="run5000", limit=3))
        assert ([run.id for run in page], more) == (["run4999", "run4998", "run4997"], True)

        asked: list[str] = []
        await database.read(lambda connection: connection.set_trace_callback(asked.append))
        await store.search(Search(text="needle", model="x:a", before="run5000", after=1.0))
        await database.read(lambda connection: connection.set_trace_callback(None))
        searches = [query for query in asked if "ORDER BY" in query and "FROM runs" in query]
        assert len(searches) == 2  # where the search ends, and the search

        def plan(connection: Any) -> list[str]:
            return [connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchone()[3] for query in searches]

        for step in await database.read(plan):
            assert "INDEX runs_asked (caller=? AND " in step


async def test_what_is_pruned_leaves_no_words_and_no_shares(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.db") as store:
        recorder = store.record()
        recipe = Recipe("r", (), Aggregator("x:z"))
        await perform(recipe, asking("A secret"), {"x:z": Scripted("z")}, recorder.hear)
        await recorder.close()
        await store.vote(Vote("", 1.0, "A secret", "r", recorder.id, "s", "other", "a", True))
        await store.prune(datetime.timedelta(0))
        assert await store.totals("", 0) == ([], [])
        assert (await store.tally_of("", "s", "r")).b_wins == 1
    connection = sqlite3.connect(tmp_path / "s.db")
    for table in ("runs", "pieces", "shares"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    connection.close()
    assert b"A secret" not in contents(tmp_path / "s.db")


async def test_a_store_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "s.db")
    for statement in (statement for migration in MIGRATIONS[:2] for statement in migration):
        connection.execute(statement)
    old = "('old', 'full', 1.7e9, 1.0, 'r', 'x:m', 'Old?', 'finished', '', 1, 0, 5, '0.1', 0, '', '{}')"
    connection.execute(f"INSERT INTO runs VALUES {old}")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    async with open_store(tmp_path / "s.db") as store:
        (run,), more = await store.search(Search(text="old", model="x:m"))
        assert (run.id, run.layers, more) == ("old", 0, False)
        days, models = await store.totals("", 0)
        assert ([(day.day, day.dollars) for day in days], models) == ([("2023-11-14", 0.1)], [])


async def test_a_store_without_limits_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    connection = sqlite3.connect(path)
    for statement in (statement for migration in MIGRATIONS[:3] for statement in migration):
        connection.execute(statement)
    connection.execute("INSERT INTO spent VALUES ('2026-11-24', '', '0.5')")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()
    connection.close()
    async with open_store(path) as store:
        assert await store.take(1, "alice", at_once=1, per_minute=1, hold=60.0) is None
        assert await store.take(2, "alice", at_once=1, per_minute=1, hold=60.0) is not None
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT dollars FROM spent").fetchall() == [("0.5",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


@pytest.mark.parametrize("before", range(3))
async def test_a_new_file_may_be_opened_by_another_process_between_any_two_statements(
    tmp_path: Path, before: int
) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    seen: list[str] = []

    def open_too(statement: str) -> None:
        """Open the store as another process does, before the statement with this number is carried out."""
        if len(seen) == before:
            other = Database(path)._open()
            assert other.execute("SELECT count(*) FROM runs").fetchone() == (0,)
            other.close()
        seen.append(statement)

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.set_trace_callback(open_too)
        first = _check(connection, path)
        connection.set_trace_callback(None)
        assert first in (0, len(MIGRATIONS))
        assert len(seen) == 3
        assert _check(connection, path) == len(MIGRATIONS)


def test_no_statement_numbers_its_parameters() -> None:
    """From Python 3.12 on, sqlite3 takes `?1` for a named parameter, and warns of each tuple of values for one."""
    folder = Path(partsong.__file__).parent / "store" / "sqlite"
    numbered = {path.name: re.findall(r"\?\d", path.read_text()) for path in folder.glob("*.py")}
    assert "totals.py" in numbered
    assert not any(numbered.values()), numbered
