"""Text that arrives in pieces which may end in the middle of a character.

JSON writes a character beyond U+FFFF as two escapes, a surrogate pair. Servers that cut their text by such halves send
one half in each chunk. Only `decode_loosely` lets a half through; `Joiner` puts the pair together again.
"""

import json
from typing import Any

from partsong.errors import ModelError

NO_PAIR = "the stream has half a surrogate pair, which is no text"


def decode_loosely(data: bytes, *, halves: bool = True) -> Any:
    """JSON with what msgspec refuses in it: NaN, infinite numbers, and `halves` of surrogate pairs.

    Raises `ValueError` (`UnicodeDecodeError` is one) or `RecursionError` for everything else that is no JSON.
    """
    value = json.loads(data.decode("utf-8"))
    if not halves:
        json.dumps(value, ensure_ascii=False).encode()
    return value


class Joiner:
    """Joins the pieces of one text; a first half at the end of a piece waits for the next piece."""

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = ""

    def feed(self, piece: str) -> str:
        """The text that a piece completes. Raises `ModelError` for a half that nothing completes."""
        text = self.half + piece
        self.half = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self.half, text = text[-1], text[:-1]
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ModelError(NO_PAIR, "server") from None

    def end(self) -> None:
        """Raise `ModelError` if a half is left over."""
        if self.half:
            raise ModelError(NO_PAIR, "server")
