"""A store is copied from an SQLite file into a real PostgreSQL database: everything once, however often it is begun."""

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from partsong.errors import ConfigurationError, StoreError
from partsong.keys import Keys
from partsong.store import Change, ConversationSearch, Mode, Search, Store, Vote, call_key, open_store
from partsong.store.copying import Copied, copy_store
from partsong.store.sqlite.schema import MIGRATIONS
from tests.postgres import Cluster
from tests.store.samples import REQUEST, made, recorded

pytest.importorskip("psycopg", reason="psycopg is not installed, so PostgreSQL is not tested")

CAP = {"": Decimal(500), "key:alice": Decimal(100)}
ODD = "nul \0, \u202e, é, 🜁, and ' quotes"


@pytest.fixture
def address(postgres: Cluster) -> str:
    """The address of an empty database."""
    return postgres.database(f"copy{uuid.uuid4().hex}")


async def filled(path: Path, mode: Mode = "full", runs: int = 3) -> list[str]:
    """Fill a store with runs, calls, votes and money; the ids of its runs."""
    async with open_store(path, mode) as store:
        ids = [(await recorded(store, question=f"Why {number}? {ODD}", begins=True))[0] for number in range(runs)]
        if ids and mode == "full":
            assert await store.change_conversation("", ids[0], Change("Named", True, False))
        for number in range(5):
            await store.keep_call(made(text=f"{number} {ODD}", started=1e9 + number, run=ids[0]))
        await store.keep_call(made(text="again", started=2e9, run=ids[0]))  # the same call, a little later
        await store.vote(Vote("alice", 1e9, "Why?", "duet", ids[0], "other", ids[-1], "a", True))
        hold = await store.hold({"": Decimal(2), "key:alice": Decimal(2)}, CAP)
        assert hold is not None
        await store.settle(hold, {"": Decimal("1.25"), "key:alice": Decimal("1.25")})
    return ids


async def whole(store: Store) -> dict[str, Any]:
    """All that a store says of itself."""
    found: dict[str, Any] = {"runs": (await store.search(Search(limit=1000)))[0]}
    found["events"] = {run.id: await store.events(run.id) for run in found["runs"] if run.mode == "full"}
    found["conversations"] = [await store.conversations(ConversationSearch(text=text)) for text in ("", "why rayleigh")]
    found["totals"] = await store.totals("", 0)
    found["votes"] = await store.tally("alice")
    found["answer"] = await store.find_call(call_key("lab:a", REQUEST))
    found["left"] = await store.left(CAP)
    found["throughputs"] = await store.throughputs(["lab:a", "scripted:a"])
    return found


async def said(place: Path | str) -> dict[str, Any]:
    async with open_store(place, "full") as store:
        return await whole(store)


async def copied(source: Path, address: str) -> Copied:
    told = Copied()
    await copy_store(source, address, told)
    return told


@pytest.mark.parametrize("mode", ["full", "metadata"])
async def test_a_copy_says_what_the_file_says(tmp_path: Path, address: str, mode: Mode) -> None:
    source = tmp_path / "s.db"
    await filled(source, mode)
    before = await said(source)
    first = await copied(source, address)
    assert (first.runs, first.new_runs, first.all_runs) == (3, 3, 3)
    assert first.new_calls == first.calls == first.all_calls > 5
    assert await said(address) == before
    again = await copied(source, address)
    assert (again.runs, again.new_runs, again.calls, again.new_calls) == (3, 0, first.calls, 0)
    assert await said(address) == await said(source) == before


async def test_what_is_new_in_the_file_is_added_and_the_databases_own_stays(tmp_path: Path, address: str) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    ids = await filled(one)
    await copied(one, address)
    async with open_store(address, "full") as store:
        own, _ = await recorded(store)
        hold = await store.hold({"": Decimal(3)}, CAP)
        assert hold is not None
        await store.settle(hold, {"": Decimal(3)})
        # The vote on the same runs is newer here.
        await store.vote(Vote("alice", 2e9, "Why?", "duet", ids[0], "other", ids[-1], "b", True))
    more = await filled(one, runs=2)
    await filled(other, runs=1)
    for source in (one, other, one, other):
        await copied(source, address)
    async with open_store(address, "full") as store:
        found, _ = await store.search(Search(limit=100))
        assert {own, *ids, *more} <= {run.id for run in found}
        assert len(found) == 1 + 3 + 2 + 1
        assert sum(day.runs for day in (await store.totals("", 0))[0]) == len(found)
        assert await store.left(CAP) == {"": Decimal(500) - 3 - 3 * Decimal("1.25"), "key:alice": Decimal("96.25")}
        (tally,) = await store.tally("alice")
        assert (tally.a_wins, tally.b_wins) == (2, 1)


async def test_a_run_that_was_under_way_is_replaced_once_it_has_ended(tmp_path: Path, address: str) -> None:
    source = tmp_path / "s.db"
    run = await begun(source)
    await copied(source, address)
    async with open_store(address, "full") as store:
        assert (await store.find_run(run)).status == "open"
    connection = sqlite3.connect(source)
    connection.execute("UPDATE runs SET status = 'finished', tokens = 99")
    connection.commit()
    connection.close()
    assert (await copied(source, address)).new_runs == 1
    async with open_store(address, "full") as store:
        found = await store.find_run(run)
        assert (found.status, found.tokens) == ("finished", 99)
        assert [day.tokens for day in (await store.totals("", 0))[0]] == [99]
    connection = sqlite3.connect(source)
    connection.execute("UPDATE runs SET status = 'open'")  # an older copy of the file
    connection.commit()
    connection.close()
    assert (await copied(source, address)).new_runs == 0


async def begun(source: Path) -> str:
    """A file with one run that goes on."""
    async with open_store(source, "full") as store:
        run, _ = await recorded(store)
    connection = sqlite3.connect(source)
    connection.execute("UPDATE runs SET status = 'open'")
    connection.commit()
    connection.close()
    return run


async def test_money_that_a_living_process_holds_forbids_the_copy(tmp_path: Path, address: str) -> None:
    source = tmp_path / "s.db"
    await filled(source)
    async with open_store(source, "full") as store:
        hold = await store.hold({"": Decimal(4)}, CAP)
        assert hold is not None
        with pytest.raises(StoreError, match="spends money; stop it"):
            await copied(source, address)
        assert await store.begin(hold, {"": Decimal(1)}, CAP)
    connection = sqlite3.connect(source)
    connection.execute("UPDATE holds SET until = 0")  # its process has died
    connection.commit()
    connection.close()
    await copied(source, address)
    async with open_store(address, "full") as store:
        assert (await store.left(CAP))[""] == Decimal(500) - Decimal("2.25")


def test_a_copy_that_is_killed_goes_on(tmp_path: Path, address: str) -> None:
    source = tmp_path / "s.db"
    asyncio.run(filled(source, runs=120))
    before = asyncio.run(said(source))
    command = [sys.executable, "-c", KILLED, str(source), address]
    chance = random.Random(19)
    for _ in range(6):
        process = subprocess.Popen(command)
        try:
            process.wait(timeout=chance.uniform(0.3, 1.2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    asyncio.run(copied(source, address))
    assert asyncio.run(said(address)) == before


# Few rows a transaction, so that a signal comes in between.
KILLED = """
import asyncio, sys
from pathlib import Path
from partsong.store import copying
copying.ROWS = 3
asyncio.run(copying.copy_store(Path(sys.argv[1]), sys.argv[2], copying.Copied()))
"""


async def test_sources_that_cannot_be_copied_are_told(tmp_path: Path, address: str) -> None:
    with pytest.raises(StoreError, match="there is no such store"):
        await copied(tmp_path / "none.db", address)
    assert not (tmp_path / "none.db").exists()
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="another program's database"):
        await copied(other, address)
    (tmp_path / "noise.db").write_bytes(random.Random(1).randbytes(9000))
    with pytest.raises(StoreError, match="damaged"):
        await copied(tmp_path / "noise.db", address)
    newer = tmp_path / "newer.db"
    await filled(newer)
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="newer partsong"):
        await copied(newer, address)
    with pytest.raises(ConfigurationError, match="the address is not of the form"):
        await copied(newer, "postgresql://a b")


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "partsong", "store", "copy", *arguments], capture_output=True, text=True, cwd=folder
    )


def test_the_command_copies_store_and_keys(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    source = tmp_path / "state" / "journal.db"
    asyncio.run(filled(source))
    Keys(tmp_path / "state" / "keys.json").add("alice", at_once=3)
    done = command(folder=tmp_path)
    assert done.returncode == 2
    assert "needs the address of a database" in done.stderr
    (tmp_path / "partsong.toml").write_text(f'store = "{address}"\n', encoding="utf-8")
    done = command(folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("copied 3 of 3 runs, ")
    assert ", 1 vote, 1 key to postgresql://" in done.stdout
    assert "pass" not in done.stdout.partition("postgresql://")[2].partition("@")[0]
    done = command("--from", str(source), "--to", address, folder=tmp_path)
    assert "copied 0 of 3 runs, 0 of " in done.stdout
    Keys(tmp_path / "state" / "keys.json").remove("alice")
    Keys(tmp_path / "state" / "keys.json").add("alice")
    done = command(folder=tmp_path)
    assert done.returncode == 1
    assert "the key 'alice' was not copied" in done.stderr
    assert command("--without-keys", folder=tmp_path).returncode == 0
