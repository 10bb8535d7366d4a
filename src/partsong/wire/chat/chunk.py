"""A chunk of a stream, or a whole completion: the two share their fields. What is not wanted is ignored.

Fields are as wide as what compatible servers send: almost all may be missing or null.
"""

from typing import Any

import msgspec
from msgspec import Struct

from partsong.wire.chat.usage import Counted


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # some servers send the object itself


class Call(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Piece(Struct, gc=False):
    """A part of a content that is a list."""

    text: str | None = None
    thinking: "str | list[Piece] | None" = None
    refusal: str | None = None


class Spoken(Struct, gc=False):
    """A chunk's delta, or a whole message: they share their fields."""

    content: str | list[Piece] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class Likely(Struct, gc=False):
    """A token that might have stood at a place."""

    token: str
    logprob: float


class Place(Struct, gc=False):
    """A token that stands there, and those that might have."""

    token: str
    logprob: float
    top_logprobs: list[Likely] | None = None


class Logprobs(Struct, gc=False):
    content: list[Place] | None = None


class Choice(Struct, gc=False):
    delta: Spoken | None = None
    message: Spoken | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Chunk(Struct, gc=False):
    """A chunk of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: Counted | None = None
    error: Any = None
    model: str | None = None


decode_whole = msgspec.json.Decoder(Chunk).decode
decode_chunks = msgspec.json.Decoder(list[Chunk]).decode
