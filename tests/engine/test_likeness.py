"""Which of several texts is most like the others."""

import asyncio
import random
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.engine.likeness import LETTERS, LONGEST, most_alike, most_alike_beside_others


def test_one_text_is_most_alike_and_none_is_refused() -> None:
    assert most_alike(["alone"]) == 0
    assert most_alike([""]) == 0
    with pytest.raises(ValueError, match="no text"):
        most_alike([])


@pytest.mark.parametrize(
    "texts",
    [
        [
            "I cannot help with that.",
            "Paris is the capital of France, and its largest city.",
            "The capital of France is Paris, its largest city.",
            "Bananas are rich in potassium and taste sweet.",
        ],
        [
            "私は猫が好きです。",
            "フランスの首都はパリです。",
            "首都はパリです。フランスの首都はパリ。",
            "天気がいいですね。",
        ],
        ["na na na na na na na na", "The answer is 42.", "the  ANSWER\nis 42", "la la la la la la la"],
        ["", "x", "x", "A B C"],
    ],
)
def test_a_text_that_goes_its_own_way_is_never_taken(texts: list[str]) -> None:
    """The first and the last are alone; the two between them say the same."""
    assert most_alike(texts) in (1, 2)


def test_of_equals_the_first_is_taken() -> None:
    assert most_alike(["one answer", "one answer", "one answer"]) == 0
    assert most_alike(["other words altogether", "one answer", "one answer"]) == 1
    assert most_alike(["first of two", "second, unlike"]) == 0
    assert most_alike(["", "", "\ud800"]) == 0


@given(st.lists(st.text(alphabet="ab c", max_size=12), min_size=1, max_size=7))
def test_it_is_the_highest_mean_of_all_the_cosines(texts: list[str]) -> None:
    """The long way: each text with each other."""

    def counts(text: str) -> dict[str, int]:
        even = f" {' '.join(text.lower().split())} "
        pieces = [even[start : start + LETTERS] for start in range(len(even) - LETTERS + 1)]
        return {piece: pieces.count(piece) for piece in pieces}

    def cosine(one: dict[str, int], two: dict[str, int]) -> float:
        lengths = [sqrt(sum(count**2 for count in each.values())) or 1.0 for each in (one, two)]
        return sum(count * two.get(piece, 0) for piece, count in one.items()) / lengths[0] / lengths[1]

    every = [counts(text) for text in texts]
    likeness = [sum(cosine(one, two) for two in every if two is not one) for one in every]
    found = most_alike(texts)
    assert asyncio.run(most_alike_beside_others(texts)) == found
    assert likeness[found] == pytest.approx(max(likeness), abs=1e-6)
    assert all(each < likeness[found] - 1e-10 or each < likeness[found] + 1e-7 for each in likeness[:found])


def test_the_order_of_the_others_changes_nothing() -> None:
    texts = ["the sea is blue", "the sea is blue today", "the sky is blue today", "grass"]
    best = texts[most_alike(texts)]
    for seed in range(10):
        random.Random(seed).shuffle(texts)
        assert texts[most_alike(texts)] == best


async def test_of_long_texts_the_beginnings_are_compared_and_others_get_a_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    same = "the sea is blue " * LONGEST
    texts = ["grass is green " * LONGEST, same, same + "but grass is green " * LONGEST]
    assert await most_alike_beside_others(texts) == most_alike(texts) == 1
    beside.cancel()
    assert turns > 3
