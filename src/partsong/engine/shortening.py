"""Shortens a text by leaving out its middle, since the start and the end of an answer usually say the most.

The text is cut at the end of a line or of a word, and never inside a character. A note in the middle has the number of
characters that were left out.
"""

import unicodedata
from collections.abc import Callable

from partsong.prompts import cut_out
from partsong.wire.tokens import estimate

NOTHING_LEFT = "[…]"
REACH = 80  # most characters that are given up on each side of a cut to reach the end of a line or of a word


def shorten(text: str, tokens: int, size: Callable[[str], int] = estimate) -> str:
    """The text, shortened to at most `tokens` tokens.

    size: counts the tokens of a text; by default the estimate that errs high

    If `tokens` leaves no room for any of the text, the result is `NOTHING_LEFT`. A text that is not longer than
    `NOTHING_LEFT` is never shortened.
    """
    whole = size(text)
    if whole <= tokens or whole <= size(NOTHING_LEFT):
        return text
    kept = len(text) * tokens // whole
    while kept > 0:
        short = without_middle(text, kept)
        over = size(short) - tokens
        if over <= 0:
            return short
        kept -= max(1, over * len(text) // whole)
    return NOTHING_LEFT


def without_middle(text: str, kept: int) -> str:
    """The start and the end of a text, together about `kept` characters, with a note about the rest between them."""
    head = _cut(text, kept - kept // 2, -1)
    tail = max(head, _cut(text, len(text) - kept // 2, 1))
    return cut_out(text, head, tail)


def _cut(text: str, index: int, step: int) -> int:
    """The index to cut at: the nearest end of a line or word from `index` backwards (`step` -1) or forwards (1)."""
    reach = min(REACH, (index if step < 0 else len(text) - index) // 4)
    for ends in ("\n".__eq__, str.isspace):
        for here in range(index, index + step * (reach + 1), step):
            if 0 < here < len(text) and ends(text[here - 1]):
                return here
    while 0 < index < len(text) and _joined(text[index - 1], text[index]):
        index += step
    return index


def _joined(before: str, after: str) -> bool:
    """Whether two adjacent code points belong to one visible character, such as a letter with an accent or an emoji."""
    return (
        unicodedata.category(after).startswith("M")
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
