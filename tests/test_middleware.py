"""The models that wrap a model."""

import asyncio
from decimal import Decimal

import pytest

from partsong import Answer, ModelError, Request, Send, Text, Usage, asking
from partsong.facts import Facts
from partsong.middleware.limit import Limit
from partsong.middleware.price import Price, fixed, listed
from partsong.middleware.window import Window
from partsong.providers.scripted import Scripted

REQUEST = Request(asking("Why?").messages)


def using(usage: Usage) -> object:
    async def model(request: Request, send: Send | None) -> Answer:
        return Answer((Text("x"),), usage=usage)

    return model


async def test_dollars_are_written_once_and_what_is_unknown_stays_unknown() -> None:
    pricing = fixed(Decimal("1.50"), Decimal(6))
    answer = await Price(using(Usage(1_000_000, 500_000)), pricing)(REQUEST, None)  # type: ignore[arg-type]
    assert answer.usage.dollars == Decimal("4.50")
    told = await Price(using(Usage(1, 1, dollars=Decimal(9))), pricing)(REQUEST, None)  # type: ignore[arg-type]
    assert told.usage.dollars == Decimal(9)
    nowhere = listed("https://models.invalid/v1", "gpt-4o")
    assert (await Price(using(Usage(1, 1)), nowhere)(REQUEST, None)).usage.dollars is None  # type: ignore[arg-type]


async def test_a_failed_call_is_priced_too() -> None:
    async def model(request: Request, send: Send | None) -> Answer:
        raise ModelError("half way", "server", usage=Usage(2_000_000, 0))

    with pytest.raises(ModelError) as caught:
        await Price(model, fixed(Decimal(1), Decimal(1)))(REQUEST, None)
    assert caught.value.usage is not None
    assert caught.value.usage.dollars == Decimal(2)


def test_list_prices_know_cached_tokens_from_others() -> None:
    pricing = listed("https://api.openai.com/v1", "gpt-4o")
    full, cached = pricing(Usage(1000, 0)), pricing(Usage(1000, 0, cached_input_tokens=1000))
    assert full is not None
    assert cached is not None
    assert 0 < cached < full


async def test_no_more_calls_at_once_than_allowed() -> None:
    now = most = 0

    async def model(request: Request, send: Send | None) -> Answer:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return Answer((Text("x"),))

    gate = asyncio.Semaphore(3)
    first, second = Limit(model, gate), Limit(model, gate)
    await asyncio.gather(*(model(REQUEST, None) for model in (first, second) for _ in range(10)))
    assert most == 3


async def test_a_request_that_is_too_long_is_not_sent() -> None:
    model = Window(Scripted("a"), "scripted:a", Facts(window=50))
    assert (await model(REQUEST, None)).text
    with pytest.raises(ModelError, match="about 254 tokens, but scripted:a reads 50") as caught:
        await model(Request(asking("word " * 200).messages), None)
    assert caught.value.cause == "window"
