"""A text made shorter by leaving out its middle, since the start of an answer and its conclusion say the most.

The text is cut at the end of a line or of a word, and never inside a character. A note in the middle says how much was
left out.
"""

import unicodedata
from collections.abc import Callable

from partsong.prompts import cut_out
from partsong.wire.tokens import estimate

NOTHING_LEFT = "[…]"
REACH = 80  # characters that are given up at most, on each side, to cut at the end of a line or of a word


def shorten(text: str, tokens: int, size: Callable[[str], int] = estimate) -> str:
    """The text, shortened to at most `tokens` tokens as `size` counts them.

    If even that is too little for any of the text, `NOTHING_LEFT` is returned, or the text itself if it is no longer.
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
    """The first and the last characters of a text, about `kept` in all, and between them how many are left out."""
    head = _cut(text, kept - kept // 2, -1)
    tail = max(head, _cut(text, len(text) - kept // 2, 1))
    return cut_out(text, head, tail)


def _cut(text: str, index: int, step: int) -> int:
    """The best index to cut at, looking from `index` backwards (`step` -1) or forwards (1)."""
    reach = min(REACH, (index if step < 0 else len(text) - index) // 4)
    for ends in ("\n".__eq__, str.isspace):
        for here in range(index, index + step * (reach + 1), step):
            if 0 < here < len(text) and ends(text[here - 1]):
                return here
    while 0 < index < len(text) and _joined(text[index - 1], text[index]):
        index += step
    return index


def _joined(before: str, after: str) -> bool:
    """Whether two characters are seen as one: an accent, the parts of an emoji, a surrogate pair."""
    return (
        unicodedata.category(after).startswith("M")
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
