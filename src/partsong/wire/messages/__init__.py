"""The Anthropic Messages format, in both directions.

Providers write requests with `body` and read answers with `Said`; the server reads requests with `read` (`read_count`
for those whose tokens are counted) and writes answers with `whole`, `Stream`, `failed` and `counted`.
"""

from partsong.wire.messages.answer import Said
from partsong.wire.messages.parse import read, read_count
from partsong.wire.messages.request import body
from partsong.wire.messages.serialize import Stream, counted, failed, whole

__all__ = ["Said", "Stream", "body", "counted", "failed", "read", "read_count", "whole"]
