"""A provider that keeps failing is left in peace: when that begins, what it says, and how it ends."""

import asyncio

import pytest

from partsong import Answer, ModelError, Request, Send, Text, asking
from partsong.errors import CAUSES, Cause
from partsong.middleware.breaker import DOWN, FAILURES, FIRST_REST, LONGEST_REST, SPREAD, Breaker, Health
from partsong.middleware.retry import Retry
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.clock import jumping
from tests.upstream import Server, chat, status

REQUEST = Request(asking("Why?").messages)


class Model:
    """A model that fails for the cause that it is told, and notes how often it was asked. `busy` holds it up."""

    def __init__(self, cause: Cause | None = "server") -> None:
        self.cause, self.calls = cause, 0
        self.busy: asyncio.Event | None = None

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.calls += 1
        cause = self.cause
        if self.busy is not None:
            await self.busy.wait()
        if cause is not None:
            raise ModelError(f"HTTP 503: no. {self.calls}", cause)
        return Answer((Text("Because."),))


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def ask(breaker: Breaker) -> Cause | None:
    """How a call ends: the cause of its failure, or `None`."""
    try:
        await breaker(REQUEST, None)
    except ModelError as error:
        return error.cause
    return None


async def wear_out(breaker: Breaker, time: Time) -> None:
    """Fail until the provider rests."""
    for _ in range(FAILURES):
        time.now += SPREAD / (FAILURES - 1)
        assert await ask(breaker) == "server"


def made(cause: Cause | None = "server") -> tuple[Model, Time, Breaker]:
    model, time = Model(cause), Time()
    return model, time, Breaker(model, Health("lab", time))


async def test_a_provider_that_keeps_failing_is_not_asked() -> None:
    model, time, breaker = made()
    await wear_out(breaker, time)
    time.now += 12
    other = Breaker(Model(None), breaker.health)  # another model of the same provider
    for resting in (breaker, other):
        with pytest.raises(ModelError) as caught:
            await resting(REQUEST, None)
        assert caught.value.cause == "resting"
        assert str(caught.value) == (
            "lab has failed too often, so it has been left to rest for 12 s and will be for 18 s more; "
            "the last time: HTTP 503: no. 5"
        )
    assert model.calls == FAILURES


async def test_a_rest_is_not_tried_again() -> None:
    model, time, breaker = made()
    await wear_out(breaker, time)
    with pytest.raises(ModelError) as caught:
        await Retry(breaker)(REQUEST, None)
    assert caught.value.cause == "resting"
    assert model.calls == FAILURES


async def test_one_bad_moment_of_many_seats_is_no_reason() -> None:
    model, time, breaker = made()
    assert {await ask(breaker) for _ in range(100)} == {"server"}
    time.now += SPREAD - 0.1
    assert await ask(breaker) == "server"
    assert await ask(breaker) == "server"
    assert model.calls == 102
    time.now += 0.1
    assert await ask(breaker) == "server"
    assert await ask(breaker) == "resting"


async def test_few_failures_are_no_reason_however_long_they_last() -> None:
    model, time, breaker = made()
    for _ in range(FAILURES - 1):
        time.now += SPREAD
        assert await ask(breaker) == "server"
    model.cause = None
    assert await ask(breaker) is None  # and everything before is forgotten
    model.cause = "server"
    for _ in range(FAILURES - 1):
        time.now += SPREAD
        assert await ask(breaker) == "server"


@pytest.mark.parametrize("cause", CAUSES)
async def test_only_what_says_that_the_provider_is_down_counts(cause: Cause) -> None:
    _, time, breaker = made(cause)
    for _ in range(FAILURES):
        time.now += SPREAD
        assert await ask(breaker) == cause
    assert await ask(breaker) == ("resting" if cause in DOWN else cause)


async def test_after_the_rest_one_call_decides() -> None:
    model, time, breaker = made()
    await wear_out(breaker, time)
    rest = FIRST_REST
    for _ in range(6):  # each failure renews the rest, for twice as long
        time.now += rest - 0.1
        assert await ask(breaker) == "resting"
        time.now += 0.1
        assert await ask(breaker) == "server"
        assert await ask(breaker) == "resting"
        rest = min(rest * 2, LONGEST_REST)
    assert rest == LONGEST_REST
    model.cause = None
    time.now += rest
    assert [await ask(breaker) for _ in range(3)] == [None] * 3
    model.cause = "server"
    await wear_out(breaker, time)  # from here on it begins anew
    time.now += FIRST_REST
    assert await ask(breaker) == "server"


async def test_while_one_tries_the_others_still_fail_at_once() -> None:
    model, time, breaker = made()
    await wear_out(breaker, time)
    time.now += FIRST_REST
    model.busy, model.cause = asyncio.Event(), None
    trial = asyncio.create_task(ask(breaker))
    await asyncio.sleep(0)
    with pytest.raises(ModelError, match="until the call that tries it out has ended"):
        await breaker(REQUEST, None)
    model.busy.set()
    assert await trial is None
    assert await ask(breaker) is None


@pytest.mark.parametrize("cause", [None, "refused"])
async def test_a_trial_that_tells_nothing_is_left_to_the_next(cause: Cause | None) -> None:
    model, time, breaker = made()
    await wear_out(breaker, time)
    time.now += FIRST_REST
    model.busy, model.cause = asyncio.Event(), cause
    trial = asyncio.create_task(ask(breaker))
    await asyncio.sleep(0)
    if cause is None:
        trial.cancel()
        await asyncio.wait([trial])
        assert trial.cancelled()
    else:
        model.busy.set()
        assert await trial == cause
    model.busy, model.cause = None, None
    assert await ask(breaker) is None


@pytest.mark.parametrize("cause", [None, "server"])
async def test_a_call_from_before_the_rest_may_end_it_but_does_not_renew_it(cause: Cause | None) -> None:
    model, time, breaker = made(cause)
    model.busy = asyncio.Event()
    late = asyncio.create_task(ask(breaker))
    await asyncio.sleep(0)
    busy, model.busy, model.cause = model.busy, None, "server"
    await wear_out(breaker, time)
    until = breaker.health.until
    busy.set()
    assert await late == cause
    assert breaker.health.until == until
    assert await ask(breaker) == ("server" if cause is None else "resting")


@jumping(settle=0.01)
async def test_over_http_a_broken_provider_is_asked_no_more_until_it_has_rested() -> None:
    answers = [status(503, "overloaded")] * FAILURES
    async with Server(*answers, chat("Better.")) as server, Http() as http:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="a")
        breaker = Breaker(model, Health("lab"))
        for _ in range(FAILURES):
            assert await ask(breaker) == "server"
            await asyncio.sleep(3)
        assert [await ask(breaker) for _ in range(50)] == ["resting"] * 50
        assert len(server.exchanges) == FAILURES
        await asyncio.sleep(FIRST_REST)
        assert (await breaker(REQUEST, None)).text == "Better."
