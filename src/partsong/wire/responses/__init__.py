"""The Responses API, as the server speaks it: reading a request, writing the response, whole or as a stream."""

from partsong.wire.responses.parse import parse_request
from partsong.wire.responses.serialize import serialize_answer, serialize_error
from partsong.wire.responses.stream import Stream

__all__ = ["Stream", "parse_request", "serialize_answer", "serialize_error"]
