"""A text made shorter by leaving out its middle: what an answer starts from and what it comes to are kept.

It is cut where a reader would cut it, at the end of a line or of a word, never inside a character, and says how much
was left out.
"""

import unicodedata
from collections.abc import Callable

from partsong.wire.tokens import estimate

NOTHING_LEFT = "[…]"
REACH = 80  # characters that are given up at most, on each side, to cut at the end of a line or of a word


def shorten(text: str, tokens: int, size: Callable[[str], int] = estimate) -> str:
    """The text as it is if it has at most `tokens` tokens, as `size` counts them, else as much of it as has.

    At the least it is `NOTHING_LEFT`, or the text itself where that is no longer.
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
    """The first and the last characters of a text, `kept` in all or a few less, and between them what is missing."""
    head = _cut(text, kept - kept // 2, -1)
    tail = max(head, _cut(text, len(text) - kept // 2, 1))
    return f"{text[:head]}\n[… {tail - head:,} of {len(text):,} characters left out …]\n{text[tail:]}"


def _cut(text: str, place: int, step: int) -> int:
    """The best place to cut at, going from `place` backwards (`step` -1) or forwards (1)."""
    reach = min(REACH, (place if step < 0 else len(text) - place) // 4)
    places = range(place, place + step * (reach + 1), step)
    for ends in ("\n".__eq__, str.isspace):
        for here in places:
            if 0 < here < len(text) and ends(text[here - 1]):
                return here
    while 0 < place < len(text) and _joined(text[place - 1], text[place]):
        place += step
    return place


def _joined(before: str, after: str) -> bool:
    """Whether two characters are seen as one: an accent, the parts of an emoji, a surrogate pair."""
    return (
        unicodedata.category(after).startswith("M")
        or "\u200d" in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
    )
