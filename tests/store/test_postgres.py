"""What only PostgreSQL's back end can do wrong: races between replicas, lost connections, and the secrets of addresses.

What both back ends must do is in `contract/`.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong import Request
from partsong.errors import StoreError
from partsong.store import Store
from partsong.store.shares import Share
from tests import postgres as postgresql
from tests.postgres import PASSWORD, Cluster
from tests.store.contract.test_runs import EVENTS, summary
from tests.store.samples import REQUEST, made

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed, so PostgreSQL is not tested")

from partsong.store.postgres import database, recipes, schema  # noqa: E402
from partsong.store.postgres.backend import Postgres  # noqa: E402
from partsong.store.postgres.transaction import Transaction  # noqa: E402

CAP = {"": Decimal(500)}
ONE = {"": Decimal(1)}


@pytest.fixture
def address(postgres: Cluster) -> str:
    """The address of an empty database."""
    return postgres.database(f"own{uuid.uuid4().hex}")


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server that the test may stop."""
    if (why := postgresql.missing()) is not None:
        pytest.skip(why)
    with postgresql.cluster() as cluster:
        yield cluster


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[Postgres]:
    backend = Postgres(address, **options)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.close()


def asked(address: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(address, autocommit=True) as connection:
        return list(connection.execute(query).fetchall())


def do(address: str, query: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(query)


# Money


async def test_replicas_that_hold_at_the_same_time_never_overdraw_a_cap(address: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(opened(address)) for _ in range(4)]
        held = await asyncio.gather(*(backends[index % 4].hold(ONE, CAP, 3600.0) for index in range(800)))
        granted = [hold for hold in held if hold is not None]
        assert len(granted) == len(set(granted)) == 500
        assert await backends[0].left(CAP) == {"": Decimal(0)}
        settled = [backends[index % 4].settle(hold, {"": Decimal("0.5")}) for index, hold in enumerate(granted)]
        again = [backend.hold(ONE, CAP, 3600.0) for _ in range(100) for backend in backends]
        await asyncio.gather(*settled)
        second = [hold for hold in await asyncio.gather(*again) if hold is not None]
        assert (await backends[0].left(CAP))[""] == 250 - len(second) >= 0


async def test_holds_over_several_scopes_in_any_order_neither_wait_in_a_circle_nor_overdraw(address: str) -> None:
    scopes = ["", "lab", "key:alice", "key:bob"]
    caps = {scope: Decimal(60) for scope in scopes}
    async with opened(address) as one, opened(address) as other:

        async def work(backend: Postgres, turn: int) -> int:
            order = scopes[turn % 4 :] + scopes[: turn % 4]
            amounts = {scope: Decimal(1) for scope in order}
            hold = await backend.hold(amounts, {scope: caps[scope] for scope in reversed(order)})
            if hold is None:
                return 0
            assert await backend.begin(hold, amounts, caps)
            await backend.settle(hold, amounts)
            return 1

        done = await asyncio.gather(*(work((one, other)[turn % 2], turn) for turn in range(200)))
        assert sum(done) == 60
        assert set((await one.left(caps)).values()) == {Decimal(0)}
    deadlocks = asked(address, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == [(0,)]


async def test_a_cap_holds_to_the_last_digit(address: str) -> None:
    cap = {"": Decimal("0.000000000001")}
    async with opened(address) as backend:
        assert await backend.hold({"": Decimal("0.0000000000011")}, cap) is None
        assert await backend.hold(cap, cap) is not None
        assert await backend.hold({"": Decimal("1e-30")}, cap) is None


# Runs


async def test_replicas_write_and_delete_runs_at_the_same_time_and_the_totals_are_right(address: str) -> None:
    async with opened(address) as one, opened(address) as other:

        async def write(backend: Postgres, name: str) -> None:
            for index in range(3):
                share = [Share("lab:a", index, index, Decimal("0.001"), 0)]
                await backend.save_run(summary(name, caller="x" if name < "m" else "y"), index, EVENTS[:1], share)
            await backend.keep_call(made(Request(REQUEST.messages, sample=ord(name[0])), run=name), words=True)

        names = [f"{letter}{number}" for letter in "anbo" for number in range(10)]
        await asyncio.gather(*(write((one, other)[index % 2], name) for index, name in enumerate(names)))
        gone = names[::3]
        rest = [name for name in names if name not in gone]
        await asyncio.gather(
            *((one, other)[index % 2].delete_run(name) for index, name in enumerate(gone + gone[::-1])),
            *(write((other, one)[index % 2], name) for index, name in enumerate(rest)),
        )
        for caller in "xy":
            mine = [name for name in rest if (name < "m") == (caller == "x")]
            assert [day.runs for day in await one.day_totals(caller, 0.0)] == [len(mine)]
            models = await other.model_totals(caller, 0.0)
            assert [(total.model, total.calls, total.tokens) for total in models] == [
                ("lab:a", 2 * len(mine), 2 * len(mine))
            ]
    assert asked(address, "SELECT count(*) FROM partsong.runs") == [(len(rest),)]
    assert asked(address, "SELECT count(*) FROM partsong.pieces WHERE run NOT IN (SELECT id FROM partsong.runs)") == [
        (0,)
    ]


async def test_a_prompt_is_kept_while_a_call_of_another_replica_needs_it(address: str) -> None:
    async with opened(address) as one, opened(address) as other:
        for turn in range(20):
            await one.save_run(summary(f"r{turn}"), 0, [], [])
            await one.keep_call(made(run=f"r{turn}"), words=True)
            await asyncio.gather(one.delete_run(f"r{turn}"), other.keep_call(made(run=f"s{turn}"), words=True))
    lost = "SELECT count(*) FROM partsong.calls WHERE prompt NOT IN (SELECT digest FROM partsong.prompts)"
    assert asked(address, lost) == [(0,)]


async def test_text_that_postgresql_refuses_is_kept(address: str) -> None:
    name = "half \ud800 and NUL \x00"
    async with opened(address) as backend:
        await backend.save_run(summary("a", recipe=name, question=name, model=name, cause=name), 0, [], [Share(name)])
        found = await backend.find_run("a")
        assert found is not None
        assert (found.recipe, found.question, found.model, found.cause) == (name,) * 4
        assert [total.model for total in await backend.model_totals("", 0.0)] == [name]
        hold = await backend.hold({name: Decimal(1)}, {name: Decimal(2)})
        assert hold is not None
        assert await backend.left({name: Decimal(2)}) == {name: Decimal(1)}
        assert await backend.take_place(1, name, at_once=1, per_minute=1, hold=60.0) is None
        assert await backend.find_run(name) is None
        assert await backend.run_ids("\x00") == []


# Transactions


class OnceFailing:
    """A job that the database ends for another one, the first few times."""

    def __init__(self, times: int, error: type[Exception]) -> None:
        self.times, self.error = times, error

    def __call__(self, transaction: Transaction) -> str:
        self.times -= 1
        if self.times >= 0:
            raise self.error("ended")
        return "done"


@pytest.mark.parametrize("error", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected])
async def test_a_transaction_that_is_ended_for_another_one_is_done_again(address: str, error: type[Exception]) -> None:
    async with opened(address) as backend:
        kept = backend.keep_call(made(), words=True)
        assert await backend.database.write(OnceFailing(3, error)) == "done"
        await kept
        with pytest.raises(StoreError, match="the store"):
            await backend.database.write(OnceFailing(99, error))
    assert asked(address, "SELECT count(*) FROM partsong.calls") == [(1,)]


def cut(address: str) -> None:
    """End the connections of all others to the database."""
    asked(
        address,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid != pg_backend_pid()",
    )


async def test_a_connection_that_broke_is_made_anew(address: str) -> None:
    async with opened(address) as backend:
        await backend.keep_call(made(), words=True)
        assert await backend.find_answer(made().key) == made().answer
        cut(address)
        assert await backend.find_answer(made().key) == made().answer
        cut(address)
        await backend.keep_call(made(text="again"), words=True)
    assert asked(address, "SELECT count(*) FROM partsong.calls") == [(2,)]


@pytest.mark.parametrize("after", [True, False])
async def test_a_write_whose_connection_breaks_at_its_commit_is_made_once(
    address: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks before the commit arrives, or after it was made and before the answer comes."""
    execute: Callable[..., Any] = Transaction.execute
    broken: list[str] = []

    def breaking(self: Transaction, query: str, values: Any = ()) -> Any:
        if query == "COMMIT" and not broken:
            broken.append(query)
            if after:
                execute(self, query, values)
            self.connection.close()
            raise psycopg.OperationalError("the connection broke")
        return execute(self, query, values)

    async with opened(address) as backend:
        monkeypatch.setattr(Transaction, "execute", breaking)
        hold = await backend.hold(ONE, CAP)
        assert broken == ["COMMIT"]
        assert hold is not None
        await backend.settle(hold, ONE)
        assert await backend.left(CAP) == {"": Decimal(499)}
    assert asked(address, "SELECT count(*) FROM partsong.holds") == [(0,)]


async def test_nothing_needs_a_session(address: str) -> None:
    """Behind a pooler, transactions of one client run on several connections: here each has a new one."""
    async with opened(address) as backend:
        for index in range(12):  # psycopg would prepare a statement at its fifth execution
            call = made(Request(REQUEST.messages, sample=index))
            await backend.keep_call(call, words=True)
            assert await backend.find_answer(call.key) == call.answer
        for line in (backend.database._writer, backend.database._reader):
            assert line._connection is not None
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            for query in ("SELECT count(*) FROM pg_prepared_statements", locks):
                found = line._connection.execute(query.encode()).fetchone()
                assert found == (0,)
            shown = line._connection.execute(b"SHOW search_path").fetchone()
            assert shown == ('"$user", public',)
        tables = ("calls", "runs", "holds")
        assert all(asked(address, f"SELECT to_regclass('public.{table}')") == [(None,)] for table in tables)


async def test_a_lock_that_another_holds_is_waited_for_and_no_longer(address: str) -> None:
    async with opened(address, lock=0.2) as backend:
        with psycopg.connect(address) as connection:
            connection.execute("LOCK TABLE partsong.calls")
            with pytest.raises(StoreError, match="another process keeps the store locked") as caught:
                await backend.keep_call(made(), words=True)
            assert PASSWORD not in str(caught.value)
        await backend.keep_call(made(), words=True)


# What servers share


async def test_a_claim_is_one_processs_until_it_is_given_back_or_its_process_has_died(address: str) -> None:
    async with opened(address) as one, opened(address) as other:
        claims = [(one, other)[number % 2].claim(b"key", number, 60.0) for number in range(20)]
        assert sum(await asyncio.gather(*claims)) == 1
        assert await other.claim(b"another", 7, 0.0)
        assert await one.claim(b"another", 8, 60.0)  # its time was over
        await other.renew_claims([b"another"], 7, 60.0)
        await other.release(b"another", 7)  # no longer its own
        assert not await other.claim(b"another", 7, 60.0)
        await one.release(b"another", 8)
        assert await other.claim(b"another", 7, 60.0)


async def test_claims_of_many_calls_in_any_order_do_not_wait_in_a_circle(address: str) -> None:
    keys = [bytes([number]) for number in range(50)]
    async with opened(address) as one, opened(address) as other:

        async def work(backend: Postgres, claimant: int, order: list[bytes]) -> list[bytes]:
            got = await asyncio.gather(*(backend.claim(key, claimant, 60.0) for key in order))
            return [key for key, mine in zip(order, got, strict=True) if mine]

        mine, theirs = await asyncio.gather(work(one, 1, keys), work(other, 2, keys[::-1]))
        assert sorted(mine + theirs) == keys
        await asyncio.gather(*(one.release(key, 1) for key in mine), *(other.release(key, 2) for key in theirs[::-1]))
        assert sorted(await work(one, 1, keys)) == keys
    deadlocks = asked(address, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == [(0,)]


async def test_keys_and_wishes_are_those_of_all(address: str) -> None:
    async with opened(address) as one, opened(address) as other:
        assert await one.add_key("b", b"first")
        assert await other.add_key("a", b"second")
        assert not await other.add_key("b", b"third")
        assert await one.read_keys() == await other.read_keys() == [b"first", b"second"]
        assert await other.remove_key("b")
        assert not await one.remove_key("b")
        assert await one.read_keys() == [b"second"]
        assert await one.asked_to_stop(["run", "another"]) == []
        await other.ask_to_stop("run")
        await other.ask_to_stop("run")
        assert await one.asked_to_stop(["run", "another"]) == ["run"]


async def test_saved_recipes_are_those_of_all_and_no_more_than_fit(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(address) as one, opened(address) as other:
        assert await one.keep_recipe("mine", "text \ud800", False) == "saved"
        assert await other.keep_recipe("mine", "other text", False) == "taken"
        assert await other.read_recipes(["mine", "none"]) == {"mine": "text \ud800"}
        before = await other.recipe_digests()
        assert await other.keep_recipe("mine", "other text", True) == "saved"
        after = await one.recipe_digests()
        assert before.keys() == after.keys() == {"mine"}
        assert before != after
        monkeypatch.setattr(recipes, "MOST", 3)
        names = [f"r{number}" for number in range(6)]
        done = await asyncio.gather(*((one, other)[n % 2].keep_recipe(name, "", False) for n, name in enumerate(names)))
        assert sorted(done) == ["full"] * 4 + ["saved"] * 2
        assert await one.keep_recipe("mine", "again", True) == "saved"
        assert await one.remove_recipe("mine")
        assert not await other.remove_recipe("mine")
        assert len(await other.recipe_digests()) == 2


# Opening


async def test_replicas_that_open_an_empty_database_at_the_same_time_make_one_schema(address: str) -> None:
    backends = [Postgres(address) for _ in range(6)]
    await asyncio.gather(*(backend.open() for backend in backends))
    await backends[3].keep_call(made(), words=True)
    assert await backends[5].find_answer(made().key) == made().answer
    await asyncio.gather(*(backend.close() for backend in backends))
    assert asked(address, "SELECT number, least FROM partsong.version") == [(len(schema.MIGRATIONS), schema.LEAST[-1])]


async def test_a_newer_schema_is_used_if_it_says_that_this_version_may(address: str) -> None:
    async with opened(address):
        pass
    newer = len(schema.MIGRATIONS) + 1
    asked(address, f"UPDATE partsong.version SET number = {newer} RETURNING number")
    async with opened(address) as backend:
        await backend.keep_call(made(), words=True)
    asked(address, f"UPDATE partsong.version SET number = {newer}, least = {newer} RETURNING number")
    with pytest.raises(StoreError, match="was made by a newer partsong"):
        async with opened(address):
            pass


async def test_no_error_has_the_password(postgres: Cluster) -> None:
    missing = postgres.address("nobody")
    stranger = postgres.address(user="stranger")
    elsewhere = postgres.address(port=1)
    options = f"{postgres.address()}?nonsense=1&password=pass%2Fw%40rd"
    for address in (missing, stranger, elsewhere, options):
        with pytest.raises(StoreError) as caught:
            async with opened(address):
                pass
        said = [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
        assert not [text for text in said if PASSWORD in text or "pass%2Fw%40rd" in text]
        assert str(caught.value).startswith("postgresql://")


async def test_a_user_may_own_the_schema_and_nothing_else(postgres: Cluster, address: str) -> None:
    name = f"owner{uuid.uuid4().hex}"
    database_name = address.rpartition("/")[2]
    do(address, f"CREATE ROLE {name} LOGIN PASSWORD 'pass/w@rd'; CREATE SCHEMA partsong AUTHORIZATION {name}")
    async with opened(postgres.address(database_name, user=name)) as backend:
        await backend.keep_call(made(), words=True)
        await backend.prune(0.0)
    other = f"other{uuid.uuid4().hex}"
    do(address, f"CREATE ROLE {other} LOGIN PASSWORD 'pass/w@rd'")
    with pytest.raises(StoreError, match="let the user own the schema partsong"):
        async with opened(postgres.address(database_name, user=other)):
            pass


# The server goes and comes


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_what_was_told_to_be_written_is_there_after_the_server_was_gone(
    own: Cluster, how: signal.Signals
) -> None:
    address = own.database("gone")
    async with opened(address) as backend:
        store = Store(backend, "full", patience=5.0)
        kept = 0
        stopping = asyncio.create_task(asyncio.sleep(0.3))
        stopped = False
        hold = await store.hold(ONE, CAP)
        assert hold is not None
        while not stopped:
            try:
                await store.keep_call(made(Request(REQUEST.messages, sample=kept)))
                kept += 1
            except StoreError:
                stopped = True
            if stopping.done() and not stopped:
                await asyncio.to_thread(own.stop, how)
        assert kept
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            await store.hold(ONE, CAP)
        assert PASSWORD not in str(caught.value)
        await store.settle(hold, {"": Decimal("0.25")})  # made up for later
        own.start()
        while store.health.writes is not None:
            await asyncio.sleep(0.05)
        assert await store.left(CAP) == {"": Decimal("499.75")}
        await store.keep_call(made(Request(REQUEST.messages, sample=kept)))
        await store.close()
    assert asked(address, "SELECT count(*) FROM partsong.calls") == [(kept + 1,)]


def test_without_the_extra_the_error_says_what_to_install() -> None:
    code = (
        "import sys, asyncio; sys.modules['psycopg'] = None\n"
        "from partsong import open_store\n"
        "async def main():\n"
        "    async with open_store('postgresql://me:s3cr3t@db/team'): pass\n"
        "try: asyncio.run(main())\n"
        "except Exception as problem: print(type(problem).__name__, problem)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == (
        "ConfigurationError postgresql://me@db/team: needs the extra `postgres`: pip install 'partsong[postgres]'\n"
    )


def test_the_waits_for_a_host_that_vanished_are_bounded() -> None:
    assert {"connect_timeout", "tcp_user_timeout", "keepalives_idle"} <= database.DEFAULTS.keys()
    assert len(schema.LEAST) == len(schema.MIGRATIONS)


async def doctor(folder: Path, address: str) -> tuple[int | None, str]:
    """The exit code of `partsong doctor`, and what it says about the store."""
    (folder / "partsong.toml").write_text(f'store = "{address}"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "partsong", "doctor"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert PASSWORD.encode() not in said
    assert b"pass%2Fw%40rd" not in said
    return process.returncode, " ".join(said.decode().split())


async def test_the_doctor_says_whether_the_database_can_be_used(
    postgres: Cluster, address: str, tmp_path: Path
) -> None:
    code, said = await doctor(tmp_path, address)
    assert code == 0, said
    assert "can be written" in said
    code, said = await doctor(tmp_path, postgres.address("nobody"))
    assert code == 1
    assert 'database "nobody" does not exist' in said
