"""The room for large requests: what is sent at once is bounded, and one host never takes more than half of it."""

import asyncio
from random import Random

import pytest

from partsong.providers.sending import MIB, Place, Sending, pieces_of
from partsong.wire.blobs import Encoded


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_small_body_never_waits() -> None:
    sending = Sending(1)
    async with sending.place("a", MIB), sending.place("b", 0), sending.place("a", 0):
        assert sending.of_host.total() == MIB


async def test_one_host_takes_half_and_others_go_on() -> None:
    sending, begun = Sending(4), list[str]()

    async def send(host: str, done: asyncio.Event) -> None:
        async with sending.place(host, MIB):
            begun.append(host)
            await done.wait()

    done = asyncio.Event()
    slow = [asyncio.create_task(send("slow", done)) for _ in range(5)]
    await turns()
    other = asyncio.create_task(send("other", done))
    await turns()
    assert begun == ["slow", "slow", "other"]
    done.set()
    await asyncio.gather(*slow, other)
    assert begun.count("slow") == 5
    assert not sending.of_host


async def test_a_body_larger_than_all_the_room_is_sent_alone() -> None:
    sending = Sending(1)
    async with sending.place("a", 9 * MIB):
        waiting = asyncio.create_task(sending.place("b", 1).__aenter__())
        await turns()
        assert not waiting.done()
    place = await waiting
    assert sending.of_host == {"b": 1}
    place.release()


async def test_a_body_counts_until_its_last_piece() -> None:
    sending = Sending(1)
    async with sending.place("a", 9) as place:
        pieces = pieces_of(Encoded({"a": "b"}), place)
        assert await anext(pieces) == b'{"a":"b"}'
        assert place.taken
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert not place.taken
        assert not sending.of_host


async def test_nothing_is_lost_when_senders_leave_at_any_moment() -> None:
    chance = Random(7)
    sending = Sending(4)

    async def send(host: str, size: int) -> None:
        async with sending.place(host, size) as place:
            await asyncio.sleep(0)
            if chance.random() < 0.5:
                place.release()
            await asyncio.sleep(0)

    tasks = list[asyncio.Task[None]]()
    for _ in range(400):
        tasks.append(asyncio.create_task(send(chance.choice("abc"), chance.randrange(6) * MIB)))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        total = sending.of_host.total()
        assert total <= 4 * MIB or len([size for size in sending.of_host.values() if size]) == 1
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not sending.of_host


def test_a_place_that_was_never_taken_releases_nothing() -> None:
    sending = Sending(1)
    Place(sending, "a", 5).release()
    assert not sending.of_host
