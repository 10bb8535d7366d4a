"""Structs and decoders for a chunk of a stream and for a whole completion, which share their fields.

Fields that decide the answer (text, tool calls, refusals, the finish reason) are typed, and a wrong type is an error.
Other fields (usage, model, logprobs, reasoning, indexes) are `Any`: a malformed one never fails a call. Fields that are
not named here are ignored.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from partsong.wire.text import decode_loosely


class Function(Struct, gc=False):
    name: str | None = None
    arguments: Any = None  # JSON text; some servers send a JSON object instead


class Piece(Struct, gc=False):
    """A tool call in a whole completion, or a piece of one in a chunk."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None


class Part(Struct, gc=False):
    """One part of a `content` that is a list instead of a string: text, thinking or a refusal."""

    type: Any = None
    text: str | None = None
    thinking: "str | list[Part] | None" = None
    refusal: str | None = None


class Spoken(Struct, gc=False):
    """The delta of a chunk or the message of a whole completion, which share their fields."""

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
    """A chunk of a stream, or a whole completion. `x_groq` may hold the usage of a stream of Groq's."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    model: Any = None
    x_groq: Any = None


class PlainDelta(Struct, gc=False):
    """A delta with text alone. Decoding fails if another field is set."""

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
    """The common form of a chunk: one choice with text or a finish reason, or a usage. It is decoded faster."""

    choices: Annotated[list[PlainChoice], Meta(max_length=1)] | None = None
    usage: Any = None
    error: None = None
    model: Any = None
    x_groq: None = None


class _Priced(Struct):
    """The usage of a chunk as JSON text, so that a price in it keeps all its digits."""

    usage: Raw = Raw(b"null")


decode_whole = msgspec.json.Decoder(Chunk).decode
decode_chunks = msgspec.json.Decoder(list[Chunk]).decode
decode_plain = msgspec.json.Decoder(list[PlainChunk]).decode
_decode_priced = msgspec.json.Decoder(_Priced).decode


def usage_of(data: bytes, usage: Any) -> bytes:
    """Return the JSON of a usage.

    data: the chunk's JSON, from which the usage is taken if `data` is strict JSON
    usage: the decoded usage, which is encoded again otherwise
    """
    try:
        return bytes(_decode_priced(data).usage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.encode(usage) if isinstance(usage, dict) else b"null"


def decode_loose(data: bytes, *, halves: bool = True) -> Chunk:
    """Decode a chunk that may hold NaN, infinite numbers, or single halves of surrogate pairs.

    halves: whether single halves are allowed; True by default

    Raises `ValueError` or `RecursionError` if `data` is no chunk.
    """
    value = decode_loosely(data, halves=halves)
    if not isinstance(value, dict):
        raise msgspec.ValidationError("Expected `object`")
    return msgspec.convert(value, Chunk)


def likely_tokens_of(logprobs: Any) -> list[dict[str, float]]:
    """Return one dictionary for each token of the text, from alternative tokens to natural log probabilities.

    logprobs: the field `logprobs` of a choice

    Entries that cannot be read are left out.
    """
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
