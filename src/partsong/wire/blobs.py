"""Large files and pictures in a body of JSON: encoded as base64 only while the body is sent, piece by piece.

A picture may have 24 MiB, and each seat of a run sends it. So bodies refer to its bytes, and no seat has a copy.
"""

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

LEAST = 1 << 16  # bytes of a file from which on it is not copied
PIECE = 3 << 14  # bytes that are encoded at a time: a multiple of three, so that only the last piece has padding


class Blob:
    """A string in a body: a head, and data as base64. No dataclass, because msgspec would encode that as an object.

    head: text before the base64, such as "data:image/png;base64,"; "" for none
    """

    __slots__ = ("data", "head")

    def __init__(self, head: str, data: bytes) -> None:
        self.head, self.data = head, data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and (self.head, self.data) == (other.head, other.data)

    def __hash__(self) -> int:
        return hash((self.head, len(self.data)))

    def __repr__(self) -> str:
        return f"Blob({self.head!r}, {len(self.data):,} bytes)"

    @property
    def size(self) -> int:
        """Bytes of the string in JSON, without its quotes."""
        return len(_quoted(self.head)) + 4 * -(-len(self.data) // 3)

    def pieces(self) -> Iterator[bytes]:
        """The string as JSON, without its quotes."""
        yield _quoted(self.head)
        for start in range(0, len(self.data), PIECE):
            yield base64.b64encode(self.data[start : start + PIECE])


class Encoded:
    """A body as JSON, in which blobs are encoded while it is sent.

    size: bytes of the whole body
    """

    def __init__(self, body: dict[str, Any]) -> None:
        """Encode everything but the blobs. Raises `UnicodeEncodeError` for half a surrogate pair."""
        blobs: list[Blob] = []
        mark = secrets.token_hex(16)  # a string that no caller can have written

        def named(blob: Blob) -> str:
            blobs.append(blob)
            return mark

        between = msgspec.json.encode(body, enc_hook=named).split(mark.encode())
        self._rest: list[bytes | Blob] = [between[0]]
        for blob, text in zip(blobs, between[1:], strict=True):
            self._rest += (blob, text)
        self.size = sum(part.size if isinstance(part, Blob) else len(part) for part in self._rest)

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of at most 64 KiB. What has been taken is forgotten, so this can be done once."""
        self._rest.reverse()
        while self._rest:
            part = self._rest.pop()
            if isinstance(part, Blob):
                yield from part.pieces()
                continue
            for start in range(0, len(part), LEAST):
                yield part[start : start + LEAST]


def blob_or_text(head: str, data: bytes) -> Blob | str:
    """The head and the data as base64: a string, or a `Blob` if the data is large."""
    return head + base64.b64encode(data).decode("ascii") if len(data) < LEAST else Blob(head, data)


def _quoted(head: str) -> bytes:
    return msgspec.json.encode(head)[1:-1]
