"""The server's side of OpenAI's Responses API: parses requests, and serializes responses, whole or streamed.

A response from the store is serialized again, and `serialize_messages` lists its input items.
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
