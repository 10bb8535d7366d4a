"""Rows of a store on their way from one back end to another.

Texts are bytes in UTF-8, and dollars are decimals as text. The blobs are the same in all back ends; see
`store.encoding`.
"""

from dataclasses import dataclass
from typing import Any

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LeavingRun:
    """A run with its events.

    row: its columns: id, mode, started, seconds, recipe, model, question, status, cause, calls, stored, tokens,
        dollars, losses, caller, labels, layers, conversation, source
    pieces: numbers and events
    shares: for each model: its id, calls, tokens, dollars, losses
    words: what a search of its conversation looks at; `None` for nothing
    """

    row: Row
    pieces: list[tuple[int, bytes]]
    shares: list[Row]
    words: bytes | None

    @property
    def size(self) -> int:
        return (
            sum(len(events) for _, events in self.pieces)
            + len(self.row[6])
            + len(self.row[15])
            + len(self.words or b"")
        )


@dataclass(frozen=True, slots=True)
class LeavingCall:
    """A call.

    row: its columns: key, model, answered, started, seconds, first, input_tokens, output_tokens, dollars,
        finish_reason, request, answer, run
    prompt: the digest and the messages of its prompt; `None` for a call without words
    """

    row: Row
    prompt: tuple[bytes, bytes] | None

    @property
    def size(self) -> int:
        return sum(len(value) for value in self.row if isinstance(value, bytes)) + len((self.prompt or (b"", b""))[1])
