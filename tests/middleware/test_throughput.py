"""How fast a model has been: what is learnt from streams and plain calls, and what is told ahead."""

import asyncio

import pytest

from partsong import Answer, Delta, ModelError, Request, Send, Text, TextDelta, Usage, asking
from partsong.middleware.throughput import Speed, Throughput
from partsong.providers.scripted import Scripted
from tests.clock import jumping

REQUEST = Request(asking("Why?").messages)


async def listen(delta: Delta) -> None:
    pass


async def dawdle(delta: Delta) -> None:
    await asyncio.sleep(7)


def test_before_it_was_ever_asked_nothing_is_known() -> None:
    assert Speed().seconds(None) is None
    assert Speed().seconds(100) is None


@jumping
async def test_a_streamed_call_tells_the_first_token_from_the_rest() -> None:
    speed = Speed()
    pace = Throughput(Scripted("a?first=2&each=0.1&tokens=101"), speed)
    for _ in range(40):
        await pace(REQUEST, listen)
    assert speed.seconds(101) == pytest.approx(12.0, rel=0.01)
    assert speed.seconds(1001) == pytest.approx(102.0, rel=0.01)
    assert speed.seconds(1) == pytest.approx(2.0, rel=0.01)
    assert speed.seconds(None) == pytest.approx(12.0, rel=0.01)


@jumping
async def test_a_slow_listener_does_not_count() -> None:
    speed = Speed()
    pace = Throughput(Scripted("a?first=2&each=0.1&tokens=11"), speed)
    for _ in range(40):
        await pace(REQUEST, dawdle)
    assert speed.seconds(11) == pytest.approx(3.0, rel=0.01)


@jumping
async def test_of_a_plain_call_only_the_whole_is_known() -> None:
    speed = Speed()
    pace = Throughput(Scripted("a?first=2&each=0.1&tokens=101"), speed)
    for _ in range(40):
        await pace(REQUEST, None)
    assert speed.seconds(101) == pytest.approx(12.0, rel=0.01)
    assert speed.seconds(10) == pytest.approx(12.0, rel=0.01)  # it may all have been waiting
    assert speed.seconds(202) == pytest.approx(24.0, rel=0.01)  # it may all have been writing


@jumping
async def test_what_comes_in_one_piece_is_no_stream() -> None:
    async def model(request: Request, send: Send | None) -> Answer:
        await asyncio.sleep(10)
        if send is not None:
            await send(TextDelta("all of it"))
        return Answer((Text("all of it"),), usage=Usage(5, 100))

    speed = Speed()
    await Throughput(model, speed)(REQUEST, listen)
    told = speed.seconds(200)
    assert told is not None
    assert told >= 20


@jumping
async def test_it_errs_high_and_more_so_where_times_vary() -> None:
    even, uneven = Speed(), Speed()
    for number in range(60):
        even.hear(1.0, 11.0, 101)
        uneven.hear(1.0, 6.0 if number % 2 else 16.0, 101)
    assert even.seconds(101) == pytest.approx(11.0, rel=0.01)
    told = uneven.seconds(101)
    assert told is not None
    assert 14.5 < told < 18


def test_the_first_answer_is_not_taken_at_its_word() -> None:
    speed = Speed()
    speed.hear(2.0, 12.0, 101)
    assert speed.seconds(101) == pytest.approx(18.0)


def test_what_is_recent_counts_more() -> None:
    speed = Speed()
    for _ in range(50):
        speed.hear(1.0, 2.0, 11)
    for _ in range(15):
        speed.hear(10.0, 20.0, 11)
    told = speed.seconds(11)
    assert told is not None
    assert told > 18


def test_earlier_values_can_be_given() -> None:
    speed = Speed(first=2.0, each=0.1, typical=100.0)
    assert speed.seconds(101) == pytest.approx(1.5 * 12.0)
    assert speed.seconds(None) == pytest.approx(1.5 * (2.0 + 0.1 * 149))
    assert Speed(typical=50.0).seconds(None) is None


async def test_a_call_that_fails_tells_nothing() -> None:
    speed = Speed()
    with pytest.raises(ModelError):
        await Throughput(Scripted("a?fail=server&after=5"), speed)(REQUEST, listen)
    assert speed.seconds(10) is None
