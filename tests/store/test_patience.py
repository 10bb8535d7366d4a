"""How long a request waits for a store that is locked again and again: one patience for all its writes."""

import asyncio

import pytest

from partsong.store import Store, patient
from tests.clock import jumping

PATIENCE, HELD = 0.8, 0.5


async def write(store: Store, seconds: float) -> None:
    """Wait for a write that the database makes after some seconds."""
    written = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, written.set_result, None)
    await store._wait(written)


async def request(store: Store) -> float:
    """The seconds that a request with twenty writes takes."""
    began = asyncio.get_running_loop().time()
    with patient(PATIENCE):
        for _ in range(20):
            await write(store, HELD)
    return asyncio.get_running_loop().time() - began


@jumping
async def test_all_writes_of_a_request_wait_for_one_patience_together() -> None:
    store = Store(None, "full", PATIENCE)
    took = [await request(store) for _ in range(3)]
    assert took == [pytest.approx(PATIENCE)] * 3  # each request has a patience of its own
    took = await asyncio.gather(*(request(store) for _ in range(3)))
    assert took == [pytest.approx(PATIENCE)] * 3
    assert store.health.failing is None  # no write was late
    with patient(PATIENCE):
        await write(store, 2 * PATIENCE)
    assert store.health.failing is not None


@jumping
async def test_writes_at_the_same_time_count_once_and_tasks_count_for_their_request() -> None:
    store = Store(None, "full", PATIENCE)
    began = asyncio.get_running_loop().time()
    with patient(PATIENCE):
        await asyncio.gather(*(write(store, 0.3) for _ in range(50)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.3)
        await asyncio.gather(*(write(store, 0.3) for _ in range(50)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.6)
        await asyncio.gather(*(write(store, 0.7) for _ in range(50)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE)
    assert store.health.failing is None


@jumping
async def test_who_has_no_patience_of_a_request_waits_as_before() -> None:
    store = Store(None, "full", PATIENCE)
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        await write(store, HELD)
    assert asyncio.get_running_loop().time() - began == pytest.approx(5 * HELD)
