"""The Anthropic Messages format, in both directions.

Providers write requests with `body` and read answers with `Said`. The server reads requests with `parse_request`, and
those whose tokens are to be counted with `parse_count`. It writes answers with `serialize_answer`, `Stream`,
`serialize_error` and `serialize_count`.
"""

from partsong.wire.messages.answer import Said
from partsong.wire.messages.parse import parse_count, parse_request
from partsong.wire.messages.request import body
from partsong.wire.messages.serialize import Stream, serialize_answer, serialize_count, serialize_error

__all__ = [
    "Said",
    "Stream",
    "body",
    "parse_count",
    "parse_request",
    "serialize_answer",
    "serialize_count",
    "serialize_error",
]
