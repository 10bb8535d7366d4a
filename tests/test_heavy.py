"""Heavy work: found by looking at the first parts alone, and done in one thread beside the event loop."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.heavy import LIGHT_BYTES, LIGHT_PARTS, are_heavy, done, is_heavy, text_in
from partsong.model import (
    Conversation,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

LONG = "a" * (LIGHT_BYTES + 1)
LARGE = bytes(LIGHT_BYTES + 1)


def said(*parts: Part) -> tuple[Message, ...]:
    return (Message("user", parts),)


HEAVY: list[Conversation | Request] = [
    Conversation(said(Text("a")) * (LIGHT_PARTS + 1)),
    Conversation(said(*[Text("a")] * (LIGHT_PARTS + 1))),
    Conversation(said(ToolResult("1", (Text("a"),) * (LIGHT_PARTS + 1)))),
    Conversation(said(Text(LONG))),
    Conversation(said(Text("a" * LIGHT_BYTES)) * 2),
    Conversation(said(Image(LARGE, "image/png"))),
    Conversation(said(Image(url=LONG))),
    Conversation(said(Document(LARGE))),
    Conversation(said(Document(text=LONG))),
    Conversation(said(Reasoning(LONG))),
    Conversation(said(Reasoning("", LONG))),
    Conversation(said(ToolCall("1", "a", LONG))),
    Conversation(said(ToolResult("1", (Text(LONG),)))),
    Conversation(said(Text("a")), tools=(Tool("a", LONG),)),
    Conversation(said(Text("a")), tools=(Tool("a", parameters=LARGE),)),
    Conversation(said(Text("a")), tools=(Tool("a"),) * (LIGHT_PARTS + 1)),
    Request(said(Text("a")), response_format=LARGE),
]


@pytest.mark.parametrize("asked", HEAVY)
def test_whatever_is_long_is_heavy(asked: Conversation | Request) -> None:
    assert is_heavy(asked)


def test_ordinary_requests_are_light() -> None:
    assert not is_heavy(Conversation(said(Text("a" * 1000)) * 50, tools=(Tool("a", "b"),) * 20))
    assert not are_heavy(())


@given(st.lists(st.text(max_size=20), max_size=20))
def test_the_text_of_a_request_counts_every_character(texts: list[str]) -> None:
    request = Request(said(*map(Text, texts), Image(LARGE), Document(LARGE, text="ab")))
    assert text_in(request) >= sum(map(len, texts)) + 2
    assert text_in(request) < LIGHT_BYTES


async def test_light_work_is_done_at_once_and_heavy_work_in_one_thread() -> None:
    assert await done(False, threading.current_thread) is threading.current_thread()
    threads = await asyncio.gather(*(done(True, threading.current_thread) for _ in range(8)))
    assert set(threads) != {threading.current_thread()}
    assert len(set(threads)) == 1


async def test_an_exception_of_heavy_work_is_raised() -> None:
    with pytest.raises(ValueError, match="int"):
        await done(True, int, "a")


async def test_the_event_loop_goes_on_during_heavy_work() -> None:
    free = threading.Event()
    work = asyncio.create_task(done(True, free.wait, 60))
    await asyncio.sleep(0.01)
    assert not work.done()
    free.set()
    assert await work
