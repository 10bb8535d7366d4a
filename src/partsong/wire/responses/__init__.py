"""The Responses API, as the server speaks it: reading a request, writing the response, whole or as a stream."""

from partsong.wire.responses.asked import read
from partsong.wire.responses.stream import Stream
from partsong.wire.responses.written import failed, whole

__all__ = ["Stream", "failed", "read", "whole"]
