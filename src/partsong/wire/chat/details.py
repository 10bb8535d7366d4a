"""OpenRouter's `reasoning_details`: what a model thought, in blocks that go back to OpenRouter unchanged.

A stream brings the blocks in pieces. Pieces of one block have the same index and type; their texts are joined, and
other fields are taken from whichever piece has them.
"""

from typing import Any

import msgspec

from partsong.wire.history import DETAILS
from partsong.wire.json import UNREADABLE

TEXTS = ("text", "summary", "data")


class Details:
    """The blocks so far."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []

    def add(self, pieces: Any) -> str:
        """Take in the pieces of one chunk; the words in them are returned."""
        words: list[str] = []
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict):
                continue
            words += (piece[name] for name in TEXTS[:2] if isinstance(piece.get(name), str))
            block = self._block(piece)
            for name, value in piece.items():
                if name in TEXTS and isinstance(value, str) and isinstance(block.get(name), str):
                    block[name] += value
                elif value is not None or name not in block:
                    block[name] = value
        return "".join(words)

    def _block(self, piece: dict[str, Any]) -> dict[str, Any]:
        last = self._blocks[-1] if self._blocks else None
        if last is None or any(last.get(name) != piece.get(name) for name in ("index", "type")):
            self._blocks.append({})
        elif isinstance(last.get("data"), str) and isinstance(piece.get("data"), str):
            self._blocks.append({})  # an enciphered block comes whole
        return self._blocks[-1]

    @property
    def signature(self) -> str:
        """The blocks as a signature of the reasoning; "" if there are none."""
        if not self._blocks:
            return ""
        try:
            return DETAILS + msgspec.json.encode(self._blocks).decode()
        except (UnicodeEncodeError, TypeError, ValueError):
            return ""


def read_details(signature: str) -> list[Any]:
    """The blocks in a signature; none if they are another API's."""
    if not signature.startswith(DETAILS):
        return []
    try:
        return msgspec.json.decode(signature.removeprefix(DETAILS), type=list[Any])
    except UNREADABLE:
        return []
