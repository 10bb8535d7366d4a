"""The OpenAI Chat Completions format: a request to JSON, and an answer back, whole or as the chunks of a stream."""

from partsong.wire.chat.answer import Said
from partsong.wire.chat.request import body

__all__ = ["Said", "body"]
