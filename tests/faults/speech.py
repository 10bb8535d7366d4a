"""How a model's server puts words, in both wire formats: as one document, or as the pieces of a stream."""

import json
from dataclasses import dataclass
from typing import Any

from tests.upstream import Piece, Reply, chunk, counts, event, stream

USED = counts(11, 7)  # what every answer that comes to its end says that it has used


@dataclass(frozen=True)
class Chat:
    """Chat Completions."""

    streamed: bool

    def opening(self) -> bytes:
        return event(chunk(role="assistant", content=""))

    def words(self, text: str) -> bytes:
        return event(chunk(content=text))

    def half(self) -> bytes:
        return b'data: {"choices": [{"delta": {"con\n\n'

    def problem(self) -> bytes:
        return event({"error": {"message": "overloaded", "type": "server_error"}})

    def end(self, finish: str) -> bytes:
        last = {"id": "c", "model": "said", "choices": [], "usage": USED}
        return event(chunk(finish)) + event(last) + event("[DONE]")

    def document(self, text: str, finish: str = "stop") -> bytes:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return json.dumps({"id": "c", "model": "said", "choices": [choice], "usage": USED}).encode()


@dataclass(frozen=True)
class Messages:
    """The Messages API."""

    streamed: bool

    def opening(self) -> bytes:
        message = {"id": "m", "model": "said", "content": [], "usage": {"input_tokens": 11, "output_tokens": 1}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return _named({"type": "message_start", "message": message}) + _named(block)

    def words(self, text: str) -> bytes:
        return _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def half(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_blo\n\n'

    def problem(self) -> bytes:
        return _named({"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}})

    def end(self, finish: str) -> bytes:
        stop = {"type": "message_delta", "delta": {"stop_reason": _reason(finish)}, "usage": {"output_tokens": 7}}
        return _named({"type": "content_block_stop", "index": 0}) + _named(stop) + _named({"type": "message_stop"})

    def document(self, text: str, finish: str = "stop") -> bytes:
        content = [{"type": "text", "text": text}]
        used = {"input_tokens": 11, "output_tokens": 7}
        said = {"id": "m", "model": "said", "content": content, "stop_reason": _reason(finish), "usage": used}
        return json.dumps(said).encode()


Wire = Chat | Messages


def well(wire: Wire, text: str, finish: str = "stop", *before: Piece) -> Reply:
    """An answer as it should be; `before` comes first, if only to wait for it."""
    if wire.streamed:
        words = [wire.words(word) for word in text.replace(" ", " \0").split("\0")]
        return stream(wire.opening(), *before, *words, wire.end(finish))
    document = wire.document(text, finish)
    return Reply((b" ", *before, document)) if before else Reply(document)


def broken_off(wire: Wire, text: str, *then: bytes, end: Any) -> Reply:
    """An answer that says `text`, then what is no answer, and ends so. A document ends in the middle of the text."""
    if wire.streamed:
        return stream(wire.opening(), wire.words(text), *then, end=end)
    document = wire.document(text)
    return Reply((document[: document.index(text.encode()) + len(text) // 2],), end=end)


def _named(value: dict[str, Any]) -> bytes:
    return event(value, value["type"])


def _reason(finish: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[finish]
