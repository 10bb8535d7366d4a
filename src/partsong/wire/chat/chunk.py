"""A chunk of a stream, or a whole completion: the two share their fields. What is not wanted is ignored.

What decides the answer (words, tool calls, refusals, the end) has a type, and anything else in its place is a fault.
Bookkeeping (usage, model, logprobs, reasoning, indexes) has none: it is read leniently, and never costs an answer.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from partsong.wire.text import decode_loosely


class Function(Struct, gc=False):
    name: str | None = None
    arguments: Any = None  # some servers send the object itself


class Piece(Struct, gc=False):
    """A tool call, or a piece of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None


class Part(Struct, gc=False):
    """A part of a content that is a list."""

    type: Any = None
    text: str | None = None
    thinking: "str | list[Part] | None" = None
    refusal: str | None = None


class Spoken(Struct, gc=False):
    """A chunk's delta, or a whole message: they share their fields."""

    content: str | list[Part] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[Piece] | None = None
    function_call: Function | None = None
    reasoning_details: Any = None
    audio: Any = None
    images: Any = None


class Choice(Struct, gc=False):
    index: Any = None
    delta: Spoken | None = None
    message: Spoken | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    error: Any = None
    usage: Any = None


class Chunk(Struct, gc=False):
    """A chunk of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    model: Any = None
    x_groq: Any = None


class PlainDelta(Struct, gc=False):
    """A delta that has words alone. Anything in another field makes decoding fail."""

    content: str | None = None
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    reasoning_details: None = None
    audio: None = None
    images: None = None


class PlainChoice(Struct, gc=False):
    index: Literal[0] | None = 0
    delta: PlainDelta | None = None
    message: None = None
    finish_reason: str | None = None
    logprobs: None = None
    error: None = None
    usage: None = None


class PlainChunk(Struct, gc=False):
    """A chunk as nearly all are: one choice with words, its end, or a usage. A stream of them is read faster."""

    choices: Annotated[list[PlainChoice], Meta(max_length=1)] | None = None
    usage: Any = None
    error: None = None
    model: Any = None
    x_groq: None = None


class _Priced(Struct):
    """The usage of a chunk as its bytes, for the digits of its dollars."""

    usage: Raw = Raw(b"null")


decode_whole = msgspec.json.Decoder(Chunk).decode
decode_chunks = msgspec.json.Decoder(list[Chunk]).decode
decode_plain = msgspec.json.Decoder(list[PlainChunk]).decode
_decode_priced = msgspec.json.Decoder(_Priced).decode


def usage_of(data: bytes, usage: Any) -> bytes:
    """A usage as JSON: its own bytes, or what was decoded of it where those are not quite JSON."""
    try:
        return bytes(_decode_priced(data).usage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.encode(usage) if isinstance(usage, dict) else b"null"


def decode_loose(data: bytes, *, halves: bool = True) -> Chunk:
    """A chunk whose JSON is not quite JSON: it may hold NaN, or `halves` of surrogate pairs.

    Raises `ValueError` or `RecursionError` for what is no chunk.
    """
    value = decode_loosely(data, halves=halves)
    if not isinstance(value, dict):
        raise msgspec.ValidationError("Expected `object`")
    return msgspec.convert(value, Chunk)


def likely_tokens_of(logprobs: Any) -> list[dict[str, float]]:
    """The likeliest tokens at each place, with the logarithms of their probabilities; none if they cannot be read."""
    places = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(places, list):
        return []
    found: list[dict[str, float]] = []
    for place in places:
        if not isinstance(place, dict):
            continue
        alternatives = place.get("top_logprobs")
        likely = dict(_likely(each) for each in (alternatives if isinstance(alternatives, list) else ()))
        likely.update([_likely(place)])
        likely.pop("", None)
        if likely:
            found.append(likely)
    return found


def _likely(place: Any) -> tuple[str, float]:
    token, logprob = (place.get("token"), place.get("logprob")) if isinstance(place, dict) else (None, None)
    readable = isinstance(token, str) and isinstance(logprob, int | float) and not isinstance(logprob, bool)
    return (token, float(logprob)) if readable and logprob == logprob else ("", 0.0)  # type: ignore[return-value, arg-type]
