"""Which proposal an aggregator that selects has named: a number, read from what it says, and never guessed.

One that was asked for a number alone may still say more. So the number is taken that stands behind the last "best",
"answer", "choice" or "proposal", else the only one that is named at all; of several it is none.
"""

import re

_NAMED = re.compile(
    r"(?:best|answer|choice|proposal|number|option)\W{0,12}(?:(?:is|number|proposal)\W{1,6})*(\d+)", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\d.,])\d+(?![\d]|[.,]\d)")


def selected(words: str, count: int) -> int | None:
    """The place, from 0, of the one of `count` proposals that is named; `None` where none is, or several are."""
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
