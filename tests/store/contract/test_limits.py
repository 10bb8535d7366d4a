"""The requests of keys, counted over all processes that share a database."""

from partsong.store import Refusal
from tests.store.contract.backends import Opening

HOLD = 60.0  # seconds: longer than any of these tests


async def test_places_are_those_of_all_processes(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        assert await one.take_place(1, "alice", at_once=2, per_minute=None, hold=HOLD) is None
        assert await other.take_place(2, "alice", at_once=2, per_minute=None, hold=HOLD) is None
        for backend in (one, other):
            refusal = await backend.take_place(3, "alice", at_once=2, per_minute=None, hold=HOLD)
            assert refusal == Refusal("at_once", 1.0)
        assert await one.take_place(4, "bob", at_once=1, per_minute=None, hold=HOLD) is None
        await other.leave_place(2)
        assert await one.take_place(3, "alice", at_once=2, per_minute=None, hold=HOLD) is None


async def test_requests_a_minute_are_those_of_all_processes(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        for place, backend in enumerate((one, other, one)):
            assert await backend.take_place(place, "alice", at_once=None, per_minute=3, hold=HOLD) is None
        for backend in (one, other):
            refusal = await backend.take_place(9, "alice", at_once=None, per_minute=3, hold=HOLD)
            assert refusal is not None
            assert refusal.limit == "requests_per_minute"
            assert 0 < refusal.wait <= 20
        assert await other.take_place(9, "bob", at_once=None, per_minute=3, hold=HOLD) is None


async def test_a_refused_request_takes_and_counts_nothing(opening: Opening) -> None:
    async with opening() as backend:
        assert await backend.take_place(1, "alice", at_once=1, per_minute=2, hold=HOLD) is None
        for place in (2, 3, 4):
            refusal = await backend.take_place(place, "alice", at_once=1, per_minute=2, hold=HOLD)
            assert refusal == Refusal("at_once", 1.0)
        await backend.leave_place(1)
        assert await backend.take_place(5, "alice", at_once=1, per_minute=2, hold=HOLD) is None


async def test_a_place_that_came_free_is_kept_again_by_its_holder(opening: Opening) -> None:
    async with opening() as backend:
        assert await backend.take_place(1, "alice", at_once=1, per_minute=None, hold=0.0) is None
        assert await backend.take_place(2, "alice", at_once=1, per_minute=None, hold=HOLD) is None
        await backend.keep_places([(1, "alice")], HOLD)
        await backend.leave_place(2)
        refusal = await backend.take_place(3, "alice", at_once=1, per_minute=None, hold=HOLD)
        assert refusal == Refusal("at_once", 1.0)
