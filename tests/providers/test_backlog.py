"""A loop that falls behind reads streams that have begun less often, and one that keeps up reads what there is."""

import asyncio
import time

import pytest

from partsong.model import Delta, Message, Request, Text, TextDelta
from partsong.providers.backlog import BEAT, BEHIND, FADING, GATHERED, LONGEST, Backlog
from partsong.providers.http import Http
from partsong.providers.openai import OpenAI
from tests.clock import jumping
from tests.upstream import Server, chunk, event, stream

ASKED = Request((Message("user", (Text("Why?"),)),))
WORDS = [f" {number}" for number in range(60)]


async def said(http: Http) -> tuple[str, list[str]]:
    """The answer of a server that says one word after another, and the pieces in which it was heard."""
    pieces = [event(chunk(content=word)) for word in WORDS]
    heard: list[str] = []

    async def hear(delta: Delta) -> None:
        assert isinstance(delta, TextDelta)
        heard.append(delta.text)

    async with Server(stream(*pieces, event(chunk("stop")), event("[DONE]"))) as server:
        model = OpenAI(http, provider="lab", base_url=server.url, name="m")
        answer = await model(ASKED, hear)
    return answer.text, heard


async def test_words_are_gathered_while_the_loop_is_behind_and_the_first_one_is_not_kept_waiting() -> None:
    async with Http() as http:
        with http.backlog:
            http.backlog.hear(10.0)
            text, heard = await said(http)
    assert text == "".join(heard) == "".join(WORDS)
    assert heard[0] == WORDS[0]
    assert len(heard) < len(WORDS) / 2


def test_it_pauses_longer_the_later_the_loop_is_and_forgets_slowly() -> None:
    backlog = Backlog()
    backlog.hear(BEHIND / 2)
    assert backlog.pause == 0
    backlog.hear(0.02)
    assert backlog.pause == pytest.approx(GATHERED * 0.02)
    backlog.hear(0.0)
    assert backlog.pause == pytest.approx(GATHERED * 0.02 * FADING)
    backlog.hear(100.0)
    assert backlog.pause == LONGEST
    for _ in range(500):
        backlog.hear(0.0)
    assert backlog.pause == 0


async def test_it_looks_only_while_a_stream_is_open() -> None:
    backlog = Backlog()
    with backlog:
        time.sleep(0.1)  # what keeps the loop from its work
        while not backlog.pause:
            await asyncio.sleep(0.001)
    while backlog.pause:
        await asyncio.sleep(0.001)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@jumping
async def test_it_measures_by_the_clock_of_the_loop() -> None:
    """Else a machine that is busy with other programs would delay what a test expects at a moment of its own clock."""
    backlog = Backlog()
    with backlog:
        for _ in range(5):
            time.sleep(0.05)
            await asyncio.sleep(BEAT)
            assert backlog.pause == 0
