"""Finds which of several texts is most like the others: the answer if the aggregator fails (`last_resort`).

Two texts are alike if the same sequences of three characters are equally frequent in them: the cosine of their counts,
with case and white space evened out. This needs no word boundaries, so it works in every script. It takes one pass over
the texts, since the mean of a text's cosines with all others is one product with the sum of all.

This text need not be the best. Among real proposals of unequal models it was as good as a random one. But it was hardly
ever (2 times in 805) the one of six that had missed the subject.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import sqrt

LETTERS = 3
LONGEST = 20_000  # characters of each text that are compared, which take about 10 ms


def most_alike(texts: Sequence[str]) -> int:
    """The index of the text with the highest mean likeness to the others; if several have it, the first of them.

    Of a long text, the first 20,000 characters are compared. The time is in proportion to the total number of
    characters: 1,000 texts of 2,000 characters take about a second. Raises `ValueError` if `texts` is empty.
    """
    if not texts:
        raise ValueError("there is no text to choose from")
    compared = _Compared()
    for text in texts:
        compared.add(text)
    return compared.most_alike([compared.likeness(index) for index in range(len(texts))])


async def most_alike_beside_others(texts: Sequence[str]) -> int:
    """The result of `most_alike`, worked out a text at a time, so that other tasks get a turn in between."""
    if not texts:
        raise ValueError("there is no text to choose from")
    compared = _Compared()
    for text in texts:
        await asyncio.sleep(0)
        compared.add(text)
    likeness = []
    for index in range(len(texts)):
        await asyncio.sleep(0)
        likeness.append(compared.likeness(index))
    return compared.most_alike(likeness)


class _Compared:
    """Compares texts with the sum of all of them."""

    def __init__(self) -> None:
        self._counts: list[tuple[Counter[str], float]] = []  # of each text, with its length as a vector
        self._together: dict[str, float] = {}

    def add(self, text: str) -> None:
        counts = _counts(text[:LONGEST])
        length = sqrt(sum(count * count for count in counts.values())) or 1.0
        for piece, count in counts.items():
            self._together[piece] = self._together.get(piece, 0.0) + count / length
        self._counts.append((counts, length))

    def likeness(self, index: int) -> float:
        """The sum of the cosines of a text with all others. All texts must have been added."""
        counts, length = self._counts[index]
        together = self._together
        return sum(count * (together[piece] - count / length) for piece, count in counts.items()) / length

    def most_alike(self, likeness: Sequence[float]) -> int:
        # Rounded, since sums of equal numbers in different orders differ in their last digits.
        return max(range(len(likeness)), key=lambda index: (round(likeness[index], 9), -index))


def _counts(text: str) -> Counter[str]:
    even = f" {' '.join(text.lower().split())} "
    return Counter(even[start : start + LETTERS] for start in range(len(even) - LETTERS + 1))
