"""The Anthropic Messages format: a request to JSON, and an answer back, whole or as the events of a stream."""

from partsong.wire.messages.answer import Said
from partsong.wire.messages.request import body

__all__ = ["Said", "body"]
