"""Finds which of several texts is most like the others: the answer if the aggregator fails (`last_resort`).

Two texts are alike if the same sequences of three characters are equally frequent in them: the cosine of their counts,
with case and white space evened out. This needs no word boundaries, so it works in every script. It takes one pass over
the texts, since the mean of a text's cosines with all others is one product with the sum of all.

This text need not be the best. Among real proposals of unequal models it was as good as a random one. But it was hardly
ever (2 times in 805) the one of six that had missed the subject.
"""

from collections import Counter
from collections.abc import Sequence
from math import sqrt

LETTERS = 3


def most_alike(texts: Sequence[str]) -> int:
    """The index of the text with the highest mean likeness to the others; if several have it, the first of them.

    The time is in proportion to the total number of characters: 1,000 texts of 2,000 characters take about a second.
    Raises `ValueError` if `texts` is empty.
    """
    if not texts:
        raise ValueError("there is no text to choose from")
    counts = [_counts(text) for text in texts]
    lengths = [sqrt(sum(count * count for count in each.values())) or 1.0 for each in counts]
    together: dict[str, float] = {}
    for each, length in zip(counts, lengths, strict=True):
        for piece, count in each.items():
            together[piece] = together.get(piece, 0.0) + count / length
    likeness = [
        sum(count * (together[piece] - count / length) for piece, count in each.items()) / length
        for each, length in zip(counts, lengths, strict=True)
    ]
    # Rounded, since sums of equal numbers in different orders differ in their last digits.
    return max(range(len(texts)), key=lambda index: (round(likeness[index], 9), -index))


def _counts(text: str) -> Counter[str]:
    even = f" {' '.join(text.lower().split())} "
    return Counter(even[start : start + LETTERS] for start in range(len(even) - LETTERS + 1))
