"""Chat Completions, the API that OpenAI began and nearly everybody speaks, in both directions.

Providers write requests with `body` and read answers with `Said`. The server reads requests with `parse_request` and
writes answers with `serialize_answer`, `Stream` and `serialize_error`.
"""

from partsong.wire.chat.answer import Said
from partsong.wire.chat.parse import parse_request
from partsong.wire.chat.request import body
from partsong.wire.chat.serialize import Stream, serialize_answer, serialize_error

__all__ = ["Said", "Stream", "body", "parse_request", "serialize_answer", "serialize_error"]
