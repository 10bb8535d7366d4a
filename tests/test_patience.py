"""Limits for the first token and for silence; the listener's time does not count."""

import asyncio

import pytest

from partsong import Answer, Delta, ModelError, Request, Send, Text, TextDelta, asking
from partsong.middleware.patience import Patience
from partsong.providers.scripted import Scripted

REQUEST = Request(asking("Why?").messages)


async def listen(delta: Delta) -> None:
    pass


@pytest.mark.parametrize("send", [listen, None])
async def test_a_model_that_does_not_begin_is_given_up(send: Send | None) -> None:
    with pytest.raises(ModelError, match=r"said nothing for 0\.02 s") as caught:
        await Patience(Scripted("a?first=30"), first=0.02, silence=9)(REQUEST, send)
    assert caught.value.cause == "timeout"


async def test_a_model_that_falls_silent_is_given_up() -> None:
    with pytest.raises(ModelError, match=r"silent for 0\.02 s"):
        await Patience(Scripted("a?each=30"), first=9, silence=0.02)(REQUEST, None)


async def test_a_slow_listener_is_not_the_models_fault() -> None:
    async def slow(delta: Delta) -> None:
        await asyncio.sleep(0.02)

    answer = await Patience(Scripted("a?tokens=4"), first=0.01, silence=0.01)(REQUEST, slow)
    assert answer.usage.output_tokens == 4


async def test_a_timeout_from_elsewhere_is_not_taken_for_its_own() -> None:
    async def model(request: Request, send: Send | None) -> Answer:
        if send is not None:
            await send(TextDelta("x"))
        await asyncio.sleep(30)
        return Answer((Text("x"),))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await Patience(model, first=9, silence=9)(REQUEST, None)
