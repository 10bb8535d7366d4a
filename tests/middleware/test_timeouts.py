"""Limits for the first token and for silence; the listener's time does not count."""

import asyncio

import pytest

from partsong import Answer, Delta, ModelError, Request, Send, Text, TextDelta, asking
from partsong.middleware.timeouts import Timeouts
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from partsong.providers.scripted import Scripted
from tests.clock import START, jumping
from tests.upstream import Server, chat, chunk, event, stream

REQUEST = Request(asking("Why?").messages)


async def listen(delta: Delta) -> None:
    pass


@pytest.mark.parametrize("send", [listen, None])
@jumping
async def test_a_model_that_does_not_begin_is_given_up(send: Send | None) -> None:
    with pytest.raises(ModelError, match=r"said nothing for 0\.02 s") as caught:
        await Timeouts(Scripted("a?first=30"), first=0.02, silence=9)(REQUEST, send)
    assert caught.value.cause == "timeout"


@jumping
async def test_a_model_that_falls_silent_is_given_up() -> None:
    with pytest.raises(ModelError, match=r"silent for 0\.02 s"):
        await Timeouts(Scripted("a?each=30"), first=9, silence=0.02)(REQUEST, None)


@jumping
async def test_a_slow_listener_is_not_the_models_fault() -> None:
    async def slow(delta: Delta) -> None:
        await asyncio.sleep(0.02)

    answer = await Timeouts(Scripted("a?tokens=4"), first=0.01, silence=0.01)(REQUEST, slow)
    assert answer.usage.output_tokens == 4


@jumping
async def test_a_timeout_from_elsewhere_is_not_taken_for_its_own() -> None:
    async def model(request: Request, send: Send | None) -> Answer:
        if send is not None:
            await send(TextDelta("x"))
        await asyncio.sleep(30)
        return Answer((Text("x"),))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await Timeouts(model, first=9, silence=9)(REQUEST, None)


@jumping
async def test_neither_limit_counts_the_time_of_a_listener() -> None:
    async def dawdle(delta: Delta) -> None:
        await asyncio.sleep(100)

    answer = await Timeouts(Scripted("a?tokens=3&first=2&each=2"), first=2.5, silence=2.5)(REQUEST, dawdle)
    assert answer.usage.output_tokens == 3
    assert asyncio.get_running_loop().time() == START + 306


@jumping
async def test_after_a_slow_listener_silence_is_silence_again() -> None:
    async def dawdle(delta: Delta) -> None:
        await asyncio.sleep(100)

    with pytest.raises(ModelError, match="silent for 2 s"):
        await Timeouts(Scripted("a?each=30"), first=9, silence=2)(REQUEST, dawdle)
    assert asyncio.get_running_loop().time() == START + 102


@jumping(settle=0.02)
async def test_a_plain_call_is_streamed_so_that_its_silence_is_seen() -> None:
    hanging = stream(event(chunk(role="assistant", content="Well,")), end="silence")
    async with Server(chat(), hanging) as server, Http() as http:
        model = Timeouts(OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="a"), first=9, silence=5)
        assert (await model(REQUEST, None)).text == "Hello, world."
        with pytest.raises(ModelError, match="silent") as caught:
            await model(REQUEST, None)
        assert caught.value.cause == "timeout"
        assert [exchange.json["stream"] for exchange in server.exchanges] == [True, True]
        await server.exchanges[1].left.wait()  # and the call is closed


async def test_the_limit_holds_while_connecting() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Http() as http:  # it never answers the TLS handshake, so there is no connection yet
        model = OpenAI(http, provider="lab", base_url=f"https://127.0.0.1:{port}/v1", name="a")
        with pytest.raises(ModelError, match=r"said nothing for 0\.05 s"):
            await Timeouts(model, first=0.05, silence=9)(REQUEST, None)
