"""The models that wrap a model."""

from decimal import Decimal

import pytest

from partsong import Answer, Message, ModelError, Request, Send, Text, Usage, asking
from partsong.middleware.price import Price, fixed, listed
from partsong.middleware.window import Window
from partsong.model_info import ModelInfo, info_of
from partsong.providers.scripted import Scripted
from partsong.providers.windows import listed_window

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


async def test_a_request_that_is_too_long_is_not_sent() -> None:
    model = Window(Scripted("a"), "scripted:a", ModelInfo(window=50))
    assert (await model(REQUEST, None)).text
    with pytest.raises(ModelError, match="about 254 tokens, but scripted:a reads 50") as caught:
        await model(Request(asking("word " * 200).messages), None)
    assert caught.value.cause == "window"


async def test_a_models_own_tokenizer_has_the_say_over_what_is_too_long() -> None:
    async def count(messages: tuple[Message, ...]) -> int:
        return 60 * len(messages)

    long = asking("word " * 200)
    model = Window(Scripted("a"), "scripted:a", ModelInfo(window=100, count=count))
    assert (await model(Request(long.messages), None)).text
    with pytest.raises(ModelError, match="has 120 tokens, but scripted:a reads 100"):
        await model(Request(long.messages * 2), None)


async def test_the_window_that_a_provider_tells_is_known_from_then_on() -> None:
    told: list[int | None] = [None, 8192, 4096, 16384, None]

    async def model(request: Request, send: Send | None) -> Answer:
        raise ModelError("too long", "window", window=told.pop(0))

    known = []
    window = Window(model, "lab:a", ModelInfo(max_tokens=7))
    while told:
        with pytest.raises(ModelError, match="too long"):
            await window(REQUEST, None)
        known.append(info_of(window).window)
    assert known == [None, 8192, 4096, 4096, 4096]
    assert window.info.max_tokens == 7


async def test_a_window_that_is_merely_listed_refuses_nothing_and_gives_way() -> None:
    asked = 0

    async def model(request: Request, send: Send | None) -> Answer:
        nonlocal asked
        asked += 1
        raise ModelError("too long", "window", window=120)

    window = Window(model, "lab:a", ModelInfo(window=50, listed=True))
    long = Request(asking("word " * 200).messages)
    with pytest.raises(ModelError, match="too long"):
        await window(long, None)
    assert window.info == ModelInfo(window=120)
    with pytest.raises(ModelError, match="about 254 tokens, but lab:a reads 120"):
        await window(long, None)
    assert asked == 1


def test_windows_are_listed_for_what_the_table_knows() -> None:
    assert listed_window("https://api.openai.com/v1", "gpt-4o") == 128_000
    assert listed_window("https://api.anthropic.com/v1", "claude-3-5-haiku-latest") == 200_000
    assert listed_window("https://api.openai.com/v1", "no-such-model") is None
    assert listed_window("https://models.invalid/v1", "gpt-4o") is None
    assert listed_window("http://127.0.0.1:9100/v1", "gpt-4o") is None
