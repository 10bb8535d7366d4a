"""Measures JSON that arrives in pieces, before it is decoded: how many names and values it has, and how deep they nest.

Decoded JSON can take fifty times the memory of its text: `[[],[],…` makes an object of Python out of every three bytes.
So the number of values is bounded apart from the number of bytes. Each byte is read once, most of them by regular
expressions that take linear time. Malformed JSON is measured too, and is left to the decoder to refuse.
"""

import re

# The next name or value outside of strings: a short string or a word (1), an opening bracket (2), a closing one (3), or
# the beginning of any other string (4).
TOKEN = re.compile(rb'[^"\[{\]}\w.+-]*+(?:("[^"\\]{0,64}+"|[\w.+-]++)|([\[{])|([\]}])|("))')
# The rest of a string with escapes, up to its closing quotation mark or up to the end of the piece.
ESCAPED = re.compile(rb'[^"\\]*+(?:\\[\s\S][^"\\]*+)*+')


class ExtentError(Exception):
    """The JSON has too many values (`what` is "values"), or is nested too deeply ("nesting")."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Extent:
    """Counts the names and values of JSON, and its nesting, and raises `ExtentError` as soon as one is too high.

    most: most names and values; a number that two pieces share may count twice
    deepest: deepest nesting of lists and objects
    """

    __slots__ = ("_deepest", "_depth", "_escaped", "_left", "_quoted")

    def __init__(self, most: int, deepest: int) -> None:
        self._left, self._deepest = most, deepest
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, piece: bytes) -> None:
        """Measure the next piece. Raises `ExtentError` if a limit is passed."""
        position, end = 0, len(piece)
        if self._escaped and end:
            self._escaped, position = False, 1
        while position < end:
            if self._quoted:
                position = self._string(piece, position)
                continue
            found = TOKEN.match(piece, position)
            if found is None:  # nothing but spaces, commas and colons is left
                return
            position, kind = found.end(), found.lastindex
            if kind == 3:
                self._depth -= 1
                if self._depth < 0:  # no JSON: the decoder would stop here too
                    raise ExtentError("nesting")
                continue
            if kind == 2:
                self._depth += 1
                if self._depth > self._deepest:
                    raise ExtentError("nesting")
            self._quoted = kind == 4
            self._left -= 1
            if self._left < 0:
                raise ExtentError("values")

    def _string(self, piece: bytes, position: int) -> int:
        """The position after the part of a string that begins at `position`."""
        stop = piece.find(b'"', position)
        if stop < 0:
            stop = len(piece)
        # Pictures and files have no escapes, so `find` passes them at the speed of memory.
        if piece.find(b"\\", position, stop) >= 0:
            stop = ESCAPED.match(piece, position).end()  # type: ignore[union-attr]
        if stop < len(piece):
            # What ends the string is its quotation mark, or a backslash that is the last byte of the piece.
            self._quoted = piece[stop] != 0x22
            self._escaped = self._quoted
        return stop + 1


def check_extent(data: bytes, most: int, deepest: int) -> None:
    """Raise `ExtentError` if JSON that is there as a whole passes a limit."""
    Extent(most, deepest).feed(data)
