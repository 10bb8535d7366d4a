"""The Chat Completions API, which OpenAI introduced and nearly every provider offers, in both directions.

Providers serialize requests with `body` and parse answers with `Said`. The server parses requests with `parse_request`
and serializes answers with `serialize_answer`, `Stream` and `serialize_error`.
"""

from partsong.wire.chat.answer import Said
from partsong.wire.chat.parse import parse_request
from partsong.wire.chat.request import body
from partsong.wire.chat.serialize import Stream, serialize_answer, serialize_error

__all__ = ["Said", "Stream", "body", "parse_request", "serialize_answer", "serialize_error"]
