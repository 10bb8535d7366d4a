"""Text that arrives in pieces which may end in the middle of a character.

JSON can write a character beyond U+FFFF as two escapes, a surrogate pair. Some servers send one half in each chunk.
Only `decode_loosely` accepts a single half; `Joiner` joins the two halves.
"""

import json
from typing import Any

from partsong.errors import ModelError

LONGEST_LOOSE = 1 << 20  # bytes of JSON that are decoded leniently, which takes more time and memory
NO_PAIR = "the stream has half a surrogate pair, which is no text"


def decode_loosely(data: bytes, *, halves: bool = True) -> Any:
    """Decode JSON that may hold what msgspec refuses: NaN, infinite numbers, and single halves of surrogate pairs.

    halves: whether single halves are allowed; True by default

    Raises `ValueError` (`UnicodeDecodeError` is one) if `data` is no such JSON or has more than `LONGEST_LOOSE` bytes,
    and `RecursionError` if it is nested too deeply.
    """
    if len(data) > LONGEST_LOOSE:
        raise ValueError(f"it is no strict JSON, and has more than {LONGEST_LOOSE:,} bytes")
    value = json.loads(data.decode("utf-8"))
    if not halves:
        json.dumps(value, ensure_ascii=False).encode()
    return value


class Joiner:
    """Joins halves of surrogate pairs that are divided between two pieces of one text.

    half: the first half of a pair, which waits for the next piece; "" if none waits
    """

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = ""

    def feed(self, piece: str) -> str:
        """Return the text that is complete with `piece`. Raises `ModelError` if a half has no counterpart."""
        text = self.half + piece
        self.half = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self.half, text = text[-1], text[:-1]
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ModelError(NO_PAIR, "server") from None

    def end(self) -> None:
        """Raise `ModelError` if the text has ended in half a surrogate pair."""
        if self.half:
            raise ModelError(NO_PAIR, "server")
