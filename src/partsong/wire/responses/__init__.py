"""The Responses API, as the server speaks it: reading a request, writing the response, whole or as a stream."""

from partsong.wire.responses.parse import read
from partsong.wire.responses.serialize import failed, whole
from partsong.wire.responses.stream import Stream

__all__ = ["Stream", "failed", "read", "whole"]
