"""Chat Completions, the API that OpenAI began and nearly everybody speaks, in both directions.

Providers write requests with `body` and read answers with `Said`; the server reads requests with `read` and writes
answers with `whole`, `Stream` and `failed`.
"""

from partsong.wire.chat.answer import Said
from partsong.wire.chat.parse import read
from partsong.wire.chat.request import body
from partsong.wire.chat.serialize import Stream, failed, whole

__all__ = ["Said", "Stream", "body", "failed", "read", "whole"]
