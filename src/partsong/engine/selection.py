"""Which proposal a selecting aggregator has named: a number, read from its answer and never guessed.

A model that is asked for a number alone may still write more. The number after "best", "answer", "choice" or a similar
word counts, in the last line first and then in the whole answer. Without such a word, the only number counts. If
several numbers could be meant, none counts.
"""

import re

_NAMED = re.compile(
    r"(?:best|answer|choice|proposal|number|option)\W{0,12}(?:(?:is|number|proposal)\W{1,6})*(\d+)", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\d.,])\d+(?![\d]|[.,]\d)")


def selected(words: str, count: int) -> int | None:
    """The index of the named one of `count` proposals; `None` if none is named, or several are."""
    if count == 1:
        return 0
    lines = [line for line in words.splitlines() if line.strip()]
    for text in (*lines[-1:], words):
        if (
            len(named := _among(_NAMED.findall(text), count)) == 1
            or len(named := _among(_NUMBER.findall(text), count)) == 1
        ):
            return named.pop()
    return None


def _among(numbers: list[str], count: int) -> set[int]:
    return {int(number) - 1 for number in numbers if 1 <= int(number) <= count}
