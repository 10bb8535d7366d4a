"""The marks of a fence never reach the caller, however the answer is cut into pieces; everything else does."""

import asyncio
import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import partsong.events
from partsong import Answer, Model, Request, Send, Text, TextDelta
from partsong.engine.unfencing import LONGEST_MARK, Unfencing
from partsong.prompts import fence_word
from partsong.providers.scripted import Scripted

PROPOSALS = ("One.", "Two.")
NAME = f"proposal-{fence_word(PROPOSALS)}"
MARK = re.compile(rf"</?{NAME}[^<>\n]{{0,{LONGEST_MARK - len(NAME) - 3}}}>")
PIECES = st.sampled_from(
    [
        f"<{NAME} number=1>",
        f"</{NAME}>",
        f"<{NAME}",
        "<",
        "</",
        "a < b",
        ">",
        "<b>",
        "\n",
        "words",
        "<proposal-0>",
        "é",
        "x" * 40,
    ]
)


@example(f"<{NAME}<{NAME} number=1>>", [23])
@settings(max_examples=1000, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.lists(st.integers(0, 200), max_size=6))
def test_any_cut_gives_the_text_without_marks(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    said, whole = asyncio.run(unfenced([text[start:end] for start, end in pairwise(places)]))
    assert f"</{NAME}>" not in said
    assert f"<{NAME} number=1>" not in whole
    assert said == whole == without_marks(text)


async def unfenced(pieces: list[str]) -> tuple[str, str]:
    """What is passed on of the pieces while they come, and of the whole text."""
    unfencing = Unfencing(PROPOSALS)
    said = "".join([await unfencing.take(piece) for piece in pieces]) + unfencing.rest()
    (whole,) = await Unfencing(PROPOSALS).cleaned((Text("".join(pieces)),))
    assert isinstance(whole, Text)
    return said, whole.text


def without_marks(text: str) -> str:
    """What is left when marks are taken out until there is none: plain, and slow for a hostile text."""
    while (left := MARK.sub("", text)) != text:
        text = left
    return text


@pytest.mark.parametrize(
    "piece", ["<", "</", f"<{NAME}", f"</{NAME}", f"</{NAME}>", f"<{NAME} number=1>", "<p", "<<a", f"<{NAME[:-1]}", ">"]
)
async def test_time_grows_with_the_length_of_the_text_and_not_with_its_square(piece: str) -> None:
    async def seconds(count: int) -> float:
        begun = time.process_time()
        await unfenced([piece] * count)
        return time.process_time() - begun

    short = min([await seconds(2000) for _ in range(3)])
    assert min([await seconds(16_000) for _ in range(3)]) < 30 * short  # 8 times as long; a square would be 64 times


@pytest.mark.parametrize("piece", ["<", f"<{NAME[:-1]}", f"<{NAME} number=1>", f"<{NAME}"])
async def test_others_get_a_turn_while_a_long_text_is_read(piece: str) -> None:
    """A provider may send its whole answer as one piece."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    text = piece * (1_000_000 // len(piece))
    said, whole = await unfenced([text])
    beside.cancel()
    assert said == whole
    assert turns > 40


async def test_an_aggregator_that_copies_the_marks_is_cleaned() -> None:
    async def copying(request: Request, send: Send | None) -> Answer:
        text = request.messages[-1].text.partition("\n\n<")[2].removesuffix("\n\nNow answer")
        text = f"<{text.partition('</')[0]}</{text.partition('</')[2].partition('>')[0]}> Done."
        assert "<proposal-" in text
        if send is not None:
            for letter in text:
                await send(TextDelta(letter))
        return Answer((Text(text),))

    models: dict[str, Model] = {"scripted:a?text=Because.": Scripted("a?text=Because."), "t:z": copying}
    recipe = partsong.Recipe(
        "t", (partsong.Layer((partsong.Agent("scripted:a?text=Because."),)),), partsong.Aggregator("t:z")
    )
    said = ""
    async with partsong.stream(recipe, "Why?", models) as events:
        async for event in events:
            if isinstance(event, partsong.events.AggregationDelta) and isinstance(event.delta, TextDelta):
                said += event.delta.text
            if isinstance(event, partsong.events.RunFinished):
                assert event.answer.text == said
    assert said.split() == ["Because.", "Done."]
