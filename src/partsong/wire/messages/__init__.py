"""The Anthropic Messages API, in both directions.

Providers serialize requests with `body` and parse answers with `Said`. The server parses requests with `parse_request`,
and requests to count tokens with `parse_count`. The server serializes answers with `serialize_answer`, `Stream`,
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
