"""The Responses API, as the server speaks it: requests are parsed, and responses written, whole or as a stream.

Responses that the store kept are written again, with the items that they were made from (`serialize_messages`).
"""

from partsong.wire.responses.history import serialize_messages
from partsong.wire.responses.parse import parse_request
from partsong.wire.responses.serialize import (
    output_items,
    serialize_answer,
    serialize_error,
    serialize_failure,
    serialize_open,
)
from partsong.wire.responses.stream import Stream
from partsong.wire.responses.tools import show_tool

__all__ = [
    "Stream",
    "output_items",
    "parse_request",
    "serialize_answer",
    "serialize_error",
    "serialize_failure",
    "serialize_messages",
    "serialize_open",
    "show_tool",
]
