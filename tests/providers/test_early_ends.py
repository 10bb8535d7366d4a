"""Words after an announced end: they are waited for where they may come, and an answer is left where it is settled."""

import asyncio

import pytest

from partsong.errors import ModelError
from partsong.model import Delta, Message, Request, Text, TextDelta
from partsong.providers import exchange
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.clock import jumping
from tests.upstream import Server, chunk, counts, event, stream

LONG_REST = 4.0  # seconds, in place of a minute
ASKED = Request((Message("user", (Text("Why?"),)),))
ONE, TWO = event(chunk("stop", content="One ")), event(chunk("stop", content="two."))
USAGE = event({"choices": [], "usage": counts()})


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LONG_REST", LONG_REST)


async def asked(server: Server) -> tuple[str, str, float]:
    """The answer's words, those that were heard, and how long it took."""
    heard: list[Delta] = []

    async def send(delta: Delta) -> None:
        heard.append(delta)

    clock = asyncio.get_running_loop().time
    async with Http(silence=100 * LONG_REST) as http:
        began = clock()
        answer = await OpenAI(http, provider="lab", base_url=f"{server.url}/v1", name="m")(ASKED, send)
        return answer.text, "".join(delta.text for delta in heard if isinstance(delta, TextDelta)), clock() - began


def after(seconds: float) -> asyncio.Event:
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, later.set)
    return later


@pytest.mark.parametrize(
    "early",
    [
        ONE,  # an end on each chunk
        event(chunk("stop", reasoning_content="Hm.")) + event(chunk(content="One ")),  # an end on the thoughts
        event(chunk("stop", role="assistant", content="")) + event(chunk(content="One ")),  # an end before any word
    ],
)
@pytest.mark.parametrize("end", [event("[DONE]"), b""])
@jumping(settle=0.01)
async def test_words_after_an_early_end_are_not_lost(early: bytes, end: bytes) -> None:
    async with Server(stream(early, after(1.6), TWO, after(2.0), TWO, end)) as server:
        text, heard, _ = await asked(server)
        assert text == heard == "One two.two."


@jumping(settle=0.01)
async def test_a_server_that_stays_after_its_last_word_is_left() -> None:
    for pieces, longest in (
        ((event(chunk(content="One ")), event(chunk("stop"))), exchange.REST),
        ((ONE, USAGE), exchange.REST),
        ((ONE,), LONG_REST),
    ):
        async with Server(stream(*pieces, end="silence")) as server:
            text, _, seconds = await asked(server)
            assert text == "One "
            assert seconds < longest + 1


@jumping(settle=0.01)
async def test_an_answer_that_breaks_off_after_early_ends_is_none() -> None:
    for end in ("silence", "close", "reset"):
        async with Server(stream(ONE, TWO, end=end)) as server:
            with pytest.raises(ModelError) as caught:
                await asked(server)
            assert caught.value.cause == "truncated"


@jumping(settle=0.01)
async def test_a_stream_that_ends_properly_after_early_ends_is_whole() -> None:
    async with Server(stream(ONE, TWO)) as server:
        assert (await asked(server))[0] == "One two."
