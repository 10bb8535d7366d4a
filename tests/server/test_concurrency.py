"""Who may go in: nobody overtakes, nobody is forgotten, and who leaves while waiting leaves no trace."""

import asyncio
from datetime import UTC, datetime

import pytest

from partsong.keys import Key
from partsong.server.concurrency import ConcurrencyLimiter
from partsong.server.problems import ProblemError
from partsong.wire.reply import Problem
from tests.clock import jumping


def key(name: str, *, minute: int | None = None, at_once: int | None = None) -> Key:
    return Key(name, "", datetime.now(UTC), requests_per_minute=minute, at_once=at_once)


class Guests:
    """Who is inside, in the order in which they came in; each stays until `let_go`."""

    def __init__(self, concurrency: ConcurrencyLimiter) -> None:
        self.concurrency = concurrency
        self.came: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, key: Key | None = None) -> None:
        self.doors[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, key))
        await turns()

    async def _stay(self, name: str, key: Key | None) -> None:
        async with self.concurrency.enter(key):
            self.came.append(name)
            await self.doors[name].wait()

    async def let_go(self, name: str) -> None:
        self.doors[name].set()
        await self.tasks[name]
        await turns()

    async def problem(self, name: str) -> Problem:
        with pytest.raises(ProblemError) as caught:
            await self.tasks[name]
        return caught.value.problem


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def is_empty(concurrency: ConcurrencyLimiter) -> bool:
    return (concurrency.inside, concurrency.queued, concurrency.limits.at_work) == (0, 0, {})


async def test_places_are_given_in_the_order_of_coming() -> None:
    concurrency = ConcurrencyLimiter(2, 2, 60)
    guests = Guests(concurrency)
    for name in "abcd":
        await guests.come(name)
    assert guests.came == ["a", "b"]
    await guests.come("e")
    problem = await guests.problem("e")
    assert (problem.status, problem.kind) == (503, "overloaded")
    assert problem.retry_after is not None
    assert problem.retry_after >= 1
    await guests.let_go("b")
    assert guests.came == ["a", "b", "c"]
    for name in "acd":
        await guests.let_go(name)
    assert guests.came == ["a", "b", "c", "d"]
    assert is_empty(concurrency)


@jumping
async def test_who_waits_too_long_is_told_to_come_again() -> None:
    concurrency = ConcurrencyLimiter(1, 1, 30)
    guests = Guests(concurrency)
    await guests.come("a")
    await guests.come("b")
    began = asyncio.get_running_loop().time()
    assert (await guests.problem("b")).status == 503
    assert asyncio.get_running_loop().time() == began + 30
    assert concurrency.queued == 0
    await guests.let_go("a")
    assert is_empty(concurrency)


@pytest.mark.parametrize("moment", ["waiting", "its turn has come", "inside"])
async def test_who_leaves_gives_the_place_to_the_next(moment: str) -> None:
    concurrency = ConcurrencyLimiter(1, 5, 60)
    guests = Guests(concurrency)
    for name in "abc":
        await guests.come(name)
    if moment == "waiting":
        guests.tasks["b"].cancel()
        await turns()
        await guests.let_go("a")
    elif moment == "its turn has come":
        guests.doors["a"].set()
        while not any(turn.done() for turn in list(concurrency._queues[""])) and concurrency.queued == 2:
            await asyncio.sleep(0)
        guests.tasks["b"].cancel()  # the place is given to it, and it has not run since
        await turns()
    else:
        await guests.let_go("a")
        guests.tasks["b"].cancel()
        await turns()
    with pytest.raises(asyncio.CancelledError):
        await guests.tasks["b"]
    assert guests.came[-1] == "c"
    await guests.let_go("c")
    assert is_empty(concurrency)


async def test_a_key_that_asks_much_does_not_hold_up_the_others() -> None:
    guests = Guests(ConcurrencyLimiter(1, 10, 60))
    busy, calm = key("busy"), key("calm")
    for name in ("b1", "b2", "b3", "b4"):
        await guests.come(name, busy)
    await guests.come("c1", calm)
    await guests.come("c2", calm)
    for name in ("b1", "b2", "c1", "b3", "c2", "b4"):
        await guests.let_go(name)
    assert guests.came == ["b1", "b2", "c1", "b3", "c2", "b4"]


async def test_a_keys_own_limits_hold_for_it_alone() -> None:
    concurrency = ConcurrencyLimiter(10, 10, 60)
    guests = Guests(concurrency)
    narrow = key("narrow", at_once=1)
    await guests.come("a", narrow)
    await guests.come("b", narrow)
    problem = await guests.problem("b")
    assert (problem.status, problem.kind, problem.retry_after) == (429, "rate_limit", 1.0)
    assert '"narrow" may make 1 requests at once' in problem.message
    await guests.come("c", key("wide"))
    await guests.let_go("a")
    await guests.come("d", narrow)
    assert guests.came == ["a", "c", "d"]
    await guests.let_go("c")
    await guests.let_go("d")
    assert is_empty(concurrency)


@jumping
async def test_so_many_requests_a_minute() -> None:
    concurrency = ConcurrencyLimiter(10, 10, 60)
    slow = key("slow", minute=3)
    for _ in range(3):
        async with concurrency.enter(slow):
            pass
    with pytest.raises(ProblemError) as caught:
        async with concurrency.enter(slow):
            pass
    problem = caught.value.problem
    assert (problem.status, problem.kind) == (429, "rate_limit")
    assert problem.retry_after is not None
    assert 0 < problem.retry_after <= 20  # a third of a minute pays for one
    async with concurrency.enter(key("other", minute=3)):
        pass
    await asyncio.sleep(problem.retry_after)
    async with concurrency.enter(slow):
        pass
    with pytest.raises(ProblemError):
        async with concurrency.enter(slow):
            pass
    assert is_empty(concurrency)
