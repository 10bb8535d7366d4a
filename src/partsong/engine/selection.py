"""Reads from the answer of a selecting aggregator which proposal it has named. The number is never guessed.

A model that is told to write only a number may still write more. The last line is read first, and then the whole
answer. In each, the number after "best", "answer", "choice" or a similar word counts, and otherwise the only number.
If several numbers could be meant, none counts.
"""

import re

_NAMED = re.compile(
    r"(?:best|answer|choice|proposal|number|option)\W{0,12}(?:(?:is|number|proposal)\W{1,6})*(\d+)", re.IGNORECASE
)
DIGITS = 9  # of the longest number that can name a proposal
_NUMBER = re.compile(r"(?<![\d.,])\d+(?![\d]|[.,]\d)")


def selected(words: str, count: int) -> int | None:
    """The index of the proposal that the answer names; `None` if it names none or several.

    words: text of the aggregator's answer, which counts proposals from 1
    count: number of proposals; a single proposal is always the selected one
    """
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
    return {int(number) - 1 for number in numbers if len(number) <= DIGITS and 1 <= int(number) <= count}
