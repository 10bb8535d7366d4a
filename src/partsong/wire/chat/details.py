"""OpenRouter's `reasoning_details`: blocks of a model's reasoning, which later requests send back unchanged.

A stream brings the blocks in pieces. Pieces of one block have the same index and type. Their texts are joined, and any
other field is taken from the last piece that has it.
"""

from typing import Any

import msgspec

from partsong.wire.history import DETAILS
from partsong.wire.json import UNREADABLE
from partsong.wire.room import Room

TEXTS = ("text", "summary", "data")


class Details:
    """The reasoning blocks of one answer so far."""

    __slots__ = ("_blocks", "_pieces", "_room")

    def __init__(self, room: Room) -> None:
        """Start an answer. `room`: the room for the answer."""
        self._room = room
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[dict[str, list[str]]] = []  # for each block, the pieces of its texts by field

    def add(self, pieces: Any) -> str:
        """Add the `reasoning_details` of one chunk, and return the readable text in them."""
        words: list[str] = []
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict):
                continue
            words += (piece[name] for name in TEXTS[:2] if isinstance(piece.get(name), str))
            if not self._find_block(piece):
                break
            block, texts = self._blocks[-1], self._pieces[-1]
            for name, value in piece.items():
                if name in TEXTS and isinstance(value, str):
                    if self._room.data(value) or not value:
                        texts.setdefault(name, []).append(value)
                        block.setdefault(name, "")  # keeps the field's place among the others
                elif value is None:
                    block.setdefault(name, None)
                elif block.get(name) != value and self._room.data(name + _text(value)):
                    block[name] = value
        return "".join(words)

    def _find_block(self, piece: dict[str, Any]) -> bool:
        """Begin another block if the piece does not belong to the last one. Returns whether there is room for it."""
        last = self._blocks[-1] if self._blocks else None
        encrypted = isinstance(piece.get("data"), str)
        if (
            last is None
            or any(last.get(name) != piece.get(name) for name in ("index", "type"))
            # An encrypted block comes whole, so this piece begins another block.
            or (encrypted and isinstance(last.get("data"), str))
        ):
            if not self._room.part():
                return False
            self._blocks.append({})
            self._pieces.append({})
        return True

    @property
    def signature(self) -> str:
        """The blocks as the `signature` of a `Reasoning`: `DETAILS` and JSON; "" if there are none."""
        if not self._blocks:
            return ""
        try:
            blocks = [
                block | {name: "".join(texts) for name, texts in pieces.items()}
                for block, pieces in zip(self._blocks, self._pieces, strict=True)
            ]
            return DETAILS + msgspec.json.encode(blocks).decode()
        except (UnicodeEncodeError, TypeError, ValueError):
            return ""


def _text(value: Any) -> str:
    """Return a value as text, to know its length."""
    return value if isinstance(value, str) else repr(value)


def read_details(signature: str) -> list[Any]:
    """Return the blocks in the signature of a `Reasoning`; an empty list if the signature is of another API."""
    if not signature.startswith(DETAILS):
        return []
    try:
        return msgspec.json.decode(signature.removeprefix(DETAILS), type=list[Any])
    except UNREADABLE:
        return []
