"""OpenRouter's `reasoning_details`: blocks of a model's reasoning, which later requests send back unchanged.

A stream brings the blocks in pieces. Pieces of one block have the same index and type. Their texts are joined, and any
other field is taken from the last piece that has it.
"""

from typing import Any

import msgspec

from partsong.wire.history import DETAILS
from partsong.wire.json import UNREADABLE

TEXTS = ("text", "summary", "data")


class Details:
    """The reasoning blocks of one answer so far."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []

    def add(self, pieces: Any) -> str:
        """Add the `reasoning_details` of one chunk, and return the readable text in them."""
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
            self._blocks.append({})  # an encrypted block comes whole, so this piece begins another block
        return self._blocks[-1]

    @property
    def signature(self) -> str:
        """The blocks as the `signature` of a `Reasoning`: `DETAILS` and JSON; "" if there are none."""
        if not self._blocks:
            return ""
        try:
            return DETAILS + msgspec.json.encode(self._blocks).decode()
        except (UnicodeEncodeError, TypeError, ValueError):
            return ""


def read_details(signature: str) -> list[Any]:
    """Return the blocks in the signature of a `Reasoning`; an empty list if the signature is of another API."""
    if not signature.startswith(DETAILS):
        return []
    try:
        return msgspec.json.decode(signature.removeprefix(DETAILS), type=list[Any])
    except UNREADABLE:
        return []
