"""Trying again: only what can pass, only while nothing was said, and not before the provider wants it."""

import asyncio
from decimal import Decimal
from email.utils import formatdate

import pytest

from partsong import Answer, Delta, ModelError, Request, Send, Text, TextDelta, Usage, asking
from partsong.errors import CAUSES, PASSING, Cause
from partsong.middleware.price import Price
from partsong.middleware.retry import FIRST_PAUSE, LONGEST_PAUSE, Retry, pause
from partsong.model import Terms
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.clock import START, jumping
from tests.upstream import Server, chat, status

REQUEST = Request(asking("Why?").messages)


class Failing:
    """A model that fails as told, call by call, and then answers."""

    def __init__(self, *errors: ModelError, words: str = "") -> None:
        self.errors, self.words, self.calls = list(errors), words, 0

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.calls += 1
        if send is not None and self.words:
            await send(TextDelta(self.words))
        if self.errors:
            raise self.errors.pop(0)
        return Answer((Text("Because."),), usage=Usage(100, 10))


async def listen(delta: Delta) -> None:
    pass


def soon(cause: Cause) -> ModelError:
    return ModelError("no", cause, retry_after=0)


@pytest.mark.parametrize("cause", CAUSES)
@jumping
async def test_only_causes_that_can_pass_are_tried_again(cause: Cause) -> None:
    model = Failing(soon(cause))
    retry = Retry(model)
    if cause in PASSING:
        assert (await retry(REQUEST, listen)).text == "Because."
        assert model.calls == 2
    else:
        with pytest.raises(ModelError):
            await retry(REQUEST, listen)
        assert model.calls == 1


@jumping
async def test_it_gives_up_after_the_last_attempt() -> None:
    model = Failing(*(soon("server") for _ in range(9)))
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, None)
    assert model.calls == 3


async def test_once_something_was_said_there_is_no_second_start() -> None:
    model = Failing(soon("server"), words="Well,")
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, listen)
    assert model.calls == 1


async def test_a_provider_that_wants_a_long_pause_is_not_waited_for() -> None:
    model = Failing(ModelError("later", "rate", retry_after=LONGEST_PAUSE + 1))
    with pytest.raises(ModelError):
        await Retry(model)(REQUEST, None)
    assert model.calls == 1


@jumping
async def test_cancelling_ends_the_pause() -> None:
    model = Failing(ModelError("later", "rate", retry_after=20))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Retry(model)(REQUEST, None)
    assert model.calls == 1


def test_pauses_grow_and_a_providers_word_is_kept() -> None:
    for attempt in range(8):
        least = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        assert least <= pause(attempt, None) <= least + FIRST_PAUSE * 2**attempt
        assert pause(attempt, 7.0) >= 7.0


def until(seconds: float) -> Request:
    return Request(REQUEST.messages, terms=Terms(until=START + seconds))


@jumping
async def test_it_does_not_sleep_past_the_time_at_which_nobody_waits_any_more() -> None:
    model = Failing(ModelError("later", "rate", retry_after=10))
    with pytest.raises(ModelError, match="later"):
        await Retry(model)(until(9.9), None)
    assert model.calls == 1
    assert asyncio.get_running_loop().time() == START  # at once, while there is time for another model
    model = Failing(ModelError("later", "rate", retry_after=10))
    assert (await Retry(model)(until(10.6), None)).text == "Because."
    assert asyncio.get_running_loop().time() >= START + 10


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ModelError("no", "server", retry_after=0, status=500), 2),
        (ModelError("what nobody can read", "server", retry_after=0), 1),
        (ModelError("no", "rate", retry_after=0), 2),
        (ModelError("not reached", "network", retry_after=0), 2),
        (ModelError("broken off", "network", retry_after=0, sent=True), 1),
        (ModelError("no", "timeout", retry_after=0), 1),
        (ModelError("no", "truncated", retry_after=0), 1),
        (ModelError("no", "server", retry_after=0, usage=Usage(5, 0)), 1),
    ],
)
@jumping
async def test_what_may_have_cost_something_is_not_made_twice_if_once_is_wanted(error: ModelError, calls: int) -> None:
    for terms, expected in ((Terms(once=True), calls), (Terms(), 2)):
        model = Failing(error)
        request = Request(REQUEST.messages, terms=terms)
        await asyncio.gather(Retry(model)(request, None), return_exceptions=True)
        assert model.calls == expected


def tiered(usage: Usage) -> Decimal:
    """A price such as some models have: what is long costs twice as much a token."""
    return usage.input_tokens * Decimal("0.001") * (2 if usage.input_tokens > 150 else 1)


@jumping
async def test_what_failed_attempts_have_used_is_not_lost() -> None:
    model = Failing(
        ModelError("cut", "truncated", retry_after=0, usage=Usage(100, 3)), ModelError("no", "rate", retry_after=0)
    )
    answer = await Retry(Price(model, tiered))(REQUEST, None)
    # Each attempt at its own price: two hundred tokens at once would have cost 0.4.
    assert answer.usage == Usage(200, 13, dollars=Decimal("0.200"))
    errors = [ModelError("cut", "truncated", retry_after=0, usage=Usage(100, number)) for number in (1, 2, 4)]
    with pytest.raises(ModelError) as caught:
        await Retry(Price(Failing(*errors), tiered))(REQUEST, None)
    assert caught.value.usage == Usage(300, 7, dollars=Decimal("0.300"))
    last = ModelError("key", "auth")
    with pytest.raises(ModelError) as caught:
        await Retry(Failing(ModelError("cut", "truncated", retry_after=0, usage=Usage(100, 3)), last))(REQUEST, None)
    assert caught.value is last
    assert last.usage == Usage(100, 3)


@jumping
async def test_an_attempt_of_unknown_price_leaves_the_sum_unknown() -> None:
    model = Failing(ModelError("cut", "truncated", retry_after=0, usage=Usage(100, 3, dollars=Decimal(1))))
    assert (await Retry(model)(REQUEST, None)).usage == Usage(200, 13, dollars=None)


WAITS = [
    ("Retry-After", "7", 7.0, 7.0 + FIRST_PAUSE),
    ("retry-after-ms", "2500", 2.5, 2.5 + FIRST_PAUSE),
    ("Retry-After", formatdate(1_790_000_007, usegmt=True), 7.0, 7.0 + FIRST_PAUSE),
]


@pytest.mark.parametrize(("name", "value", "least", "most"), WAITS)
def test_a_provider_is_not_asked_before_it_wants_to_be(name: str, value: str, least: float, most: float) -> None:
    """Over real HTTP, with both forms of the header; the date is by the provider's clock."""

    @jumping(settle=0.01)
    async def check() -> None:
        head = {name: value, "Date": formatdate(1_790_000_000, usegmt=True)}
        async with Server(status(429, "slow down", head), chat("Better.")) as server, Http() as http:
            model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="a")
            assert (await Retry(model)(REQUEST, None)).text == "Better."
            assert least <= asyncio.get_running_loop().time() - START <= most + 0.5
            assert len(server.exchanges) == 2

    check()


@pytest.mark.parametrize(
    ("code", "error", "cause"),
    [
        (401, {"code": "invalid_api_key"}, "auth"),
        (403, {}, "auth"),
        (402, {}, "billing"),
        (429, {"code": "insufficient_quota"}, "billing"),
    ],
)
async def test_a_wrong_key_or_an_empty_account_is_said_at_once(code: int, error: dict[str, str], cause: Cause) -> None:
    reply = status(code, "no", {"Retry-After": "0"}, **error)
    async with Server(reply, chat()) as server, Http() as http:
        model = OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="a", key="secret-key")
        with pytest.raises(ModelError) as caught:
            await Retry(model)(REQUEST, None)
        assert caught.value.cause == cause
        assert len(server.exchanges) == 1


@pytest.mark.parametrize("dollars", ["0", "0.5"])
@jumping
async def test_what_a_last_attempt_cost_is_unknown_if_nobody_says_so(dollars: str) -> None:
    """A free or paid attempt before it does not make the whole a known amount."""
    first = ModelError("it failed", "rate", usage=Usage(10, 0, dollars=Decimal(dollars)))
    failures = [first, ModelError("it broke off", "truncated")]

    async def model(request: Request, send: Send | None) -> Answer:
        raise failures.pop(0)

    with pytest.raises(ModelError) as caught:
        await Retry(model, attempts=2)(Request(asking("Why?").messages), None)
    usage = caught.value.usage
    assert usage is None if dollars == "0" else usage is not None and usage.estimated
