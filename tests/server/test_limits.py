"""A key's limits where processes share a store: they hold, they come free, and a broken store locks nobody out."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from partsong.errors import StoreError
from partsong.keys import Key
from partsong.server.limits import HOLD, RENEWED, Limits
from partsong.server.problems import ProblemError
from partsong.store import Refusal, Store, open_store, owed
from tests.clock import jumping


def key(*, minute: int | None = None, at_once: int | None = None, name: str = "alice") -> Key:
    return Key(name, "", datetime.now(UTC), requests_per_minute=minute, at_once=at_once)


async def refused(limits: Limits, key: Key) -> float:
    """Seconds to wait, as the refusal says."""
    with pytest.raises(ProblemError) as caught:
        async with limits.within(key):
            pass
    problem = caught.value.problem
    assert (problem.status, problem.kind) == (429, "rate_limit")
    assert f'"{key.name}" may make' in problem.message
    assert problem.retry_after is not None
    return problem.retry_after


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


async def test_requests_at_once_are_those_of_all_processes(path: Path) -> None:
    two = key(at_once=2)
    async with open_store(path) as one_store, open_store(path) as other_store:
        one, other = Limits(one_store, 2), Limits(other_store, 2)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(one.within(two))
            async with other.within(two):
                await refused(one, two)
                await refused(other, two)
                async with one.within(key(at_once=1, name="bob")):
                    pass
            await stack.enter_async_context(one.within(two))  # the place that was left is free at once
        assert (one.held, one.at_work, other.held, other.at_work) == ({}, {}, {}, {})
        for _ in range(20):  # one after the other, wherever: none is taken for two
            for each in (one, other):
                async with each.within(key(at_once=1)):
                    pass


async def test_requests_a_minute_are_those_of_all_processes(path: Path) -> None:
    async with open_store(path) as one_store, open_store(path) as other_store:
        one, other = Limits(one_store, 2), Limits(other_store, 2)
        for each in (one, other, one):
            async with each.within(key(minute=3)):
                pass
        for each in (one, other):
            assert 15 < await refused(each, key(minute=3)) <= 20
        async with other.within(key(minute=3, name="bob")):
            pass


async def test_who_leaves_while_it_is_let_in_holds_nothing(path: Path) -> None:
    async with open_store(path) as store:
        here = Limits(store, 2)
        for turns in range(6):
            entering = here.within(key(at_once=1))
            coming = asyncio.create_task(entering.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            coming.cancel()
            await asyncio.wait([coming])
            if not coming.cancelled():  # it was in already
                await entering.__aexit__(None, None, None)
        async with here.within(key(at_once=1)):
            pass


class Written(dict[int, float]):
    """A register that only writes down until when places are held, by the loop's clock."""

    async def take(
        self, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
    ) -> Refusal | None:
        self[place] = asyncio.get_running_loop().time() + hold
        return None

    async def keep_places(self, places: Iterable[tuple[int, str]], hold: float) -> None:
        self.update((place, asyncio.get_running_loop().time() + hold) for place, _ in places)

    def leave(self, place: int) -> None:
        del self[place]


@jumping
async def test_a_place_is_held_for_as_long_as_the_request_takes() -> None:
    register = Written()
    here = Limits(register, 2)
    async with here.within(key(at_once=1)):
        for _ in range(10):
            await asyncio.sleep(RENEWED * 1.5)
            assert all(until > asyncio.get_running_loop().time() for until in register.values())
        assert len(register) == 1
    assert register == {}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from partsong.store import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        assert await store.take(7, "alice", at_once=1, per_minute=None, hold=1.0) is None
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_the_place_of_a_process_that_was_killed_comes_free(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    async with open_store(path) as store:
        here = Limits(store, 2)
        await refused(here, key(at_once=1))
        await asyncio.sleep(1.0)
        async with here.within(key(at_once=1)):
            pass


async def test_a_place_that_came_free_too_early_is_taken_again(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.take(1, "alice", at_once=1, per_minute=None, hold=0.0) is None
        assert await store.take(2, "alice", at_once=1, per_minute=None, hold=HOLD) is None  # the first did not renew
        await store.keep_places([(1, "alice")], HOLD)
        store.leave(2)
        assert await store.take(3, "alice", at_once=1, per_minute=None, hold=HOLD) == Refusal("at_once", 1.0)


async def test_where_the_store_is_off_each_process_gives_its_part() -> None:
    here = Limits(None, 2)
    async with here.within(key(at_once=4)), here.within(key(at_once=4)):
        await refused(here, key(at_once=4))
    for _ in range(2):
        async with here.within(key(minute=5, name="bob")):
            pass
    assert await refused(here, key(minute=5, name="bob")) > 20  # a part of two a minute
    async with here.within(key(at_once=1, name="carol")):  # and one at least
        pass
    assert (here.at_work, here.held) == ({}, {})


async def test_while_the_store_fails_a_limit_that_cannot_be_checked_lets_nobody_in(path: Path) -> None:
    async with open_store(path, lock=0.05) as store:
        lock = sqlite3.connect(path)
        lock.execute("BEGIN IMMEDIATE")
        here = Limits(store, 2)
        for each in (key(at_once=4), key(minute=5, name="bob")):
            with pytest.raises(StoreError, match="keeps the store locked"):
                async with here.within(each):
                    pytest.fail("let in")
        assert (here.at_work, here.held) == ({}, {})
        lock.close()
        await until_it_works(store)
        for _ in range(4):  # nothing that was refused is counted
            async with here.within(key(at_once=1)):
                pass


async def until_it_works(store: Store) -> None:
    async with asyncio.timeout(20):
        while store.health.failing is not None:
            await asyncio.sleep(0.05)


async def test_a_clock_that_went_back_does_not_lock_a_key_out(path: Path) -> None:
    assert owed(10_000.0, 0.0, 60) == (61.0, 1.0)
    assert owed(0.0, 10_000.0, 60) == (10_001.0, 0.0)


async def test_a_store_that_is_off_keeps_no_places() -> None:
    store = Store(None, "off")
    store.leave(1)
    with pytest.raises(StoreError, match="the store is off, but a limit of a key needs it"):
        await store.take(1, "alice", at_once=1, per_minute=None, hold=HOLD)
