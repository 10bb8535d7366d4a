"""JSON from clients and models: decoding with errors that name the field, JSON Schemas, and JSON that comes in pieces.

A schema is sent as the bytes that its author wrote. The schema is decoded first all the same, so that a fault is
reported to the caller and not by the provider.
"""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from partsong.errors import ModelError, RequestError

T = TypeVar("T")
PLACE = re.compile(r"(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?", re.DOTALL)
MISSING = re.compile(r"Object missing required field `(.*)`")
SIGNIFICANT = re.compile(r'["\\{}\[\]]')
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
SMALL = 1 << 16  # bytes of JSON whose values cannot take much memory
MOST_MEMORY = 1 << 26  # bytes that the decoded values of one JSON text may take, strings aside
MEMORY = ((b"{", 240), (b"[", 64), (b",", 40))  # bytes that a value takes at most, by the sign that every one has
ALIKE = 8  # times that one of two equal JSON texts may be as long as the other, with other spaces and escapes


def read_schema(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON Schema in `data` as a dictionary.

    what: the plural noun with which the error names the schema, such as "the contents of response_format"

    Raises `ModelError` if `data` is no JSON object.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as problem:
        raise ModelError(f"{what} are no JSON Schema: {problem}", "refused") from None


def described(schema: Raw, description: str | None) -> bytes:
    """Return a schema's bytes; a description is added as the schema's own `description`.

    Clients send the description of an answer's format beside the schema, where most providers have no field for it.
    """
    if not description:
        return bytes(schema)
    return msgspec.json.encode({"description": description} | msgspec.json.decode(schema, type=dict[str, Any]))


def decode_field(data: bytes | Raw, decoder: Decoder[T], where: str = "") -> T:
    """Decode JSON that a client sent.

    where: path of `data` in the request, such as `tools[0]`; "" for the whole body

    Raises `RequestError` with the path of the faulty field if `data` is no JSON or does not fit the decoder's type.
    """
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as problem:
        said, place = PLACE.fullmatch(str(problem)).groups()  # type: ignore[union-attr]
        field = join(where, place or "")
        if missing := MISSING.fullmatch(said):
            field = join(field, missing[1])
            raise RequestError(f"{field} is missing", field) from None
        field = field or "the body"
        raise RequestError(f"{field}: {said}", field) from None
    except UNREADABLE as problem:
        raise RequestError(f"{where or 'the body'} is no JSON that can be read: {problem}", where or None) from None


def join(where: str, place: str) -> str:
    """Return the path of the field `place` within the field `where`, such as `tools[0].name`."""
    return f"{where}.{place}" if where and place and not place.startswith("[") else where + place


def given(raw: Raw) -> bool:
    """Return whether a field that was decoded as `Raw` is present and not null."""
    return bytes(raw) not in (b"", b"null")


def can_be_equal(one: int, other: int) -> bool:
    """Return whether JSON texts of these lengths may hold the same value.

    Whoever compares each piece of a text with all pieces before it asks this first. Joining and decoding the pieces
    each time would take quadratic time.
    """
    return max(one, other) <= ALIKE * (min(one, other) + ALIKE)


def equal(one: str, other: str) -> bool:
    """Return whether two JSON texts hold the same value; two texts that are no JSON must be the same text."""
    if one == other:
        return True
    if not can_be_equal(len(one), len(other)):
        return False
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except (*UNREADABLE, UnicodeEncodeError):
        return False


def check_size(data: bytes) -> None:
    """Raise `ModelError` if JSON from a provider may take too much memory when it is decoded.

    A dictionary takes up to 30 times the memory of its text. The estimate counts signs in strings, too, and errs high.
    """
    if len(data) > SMALL and sum(data.count(sign) * size for sign, size in MEMORY) > MOST_MEMORY:
        raise ModelError("the answer is JSON with too many values", "server", again=False)


class Completeness:
    """Tells when a JSON object or array that arrives in pieces is complete. Each character is read once.

    whole: whether the closing bracket of the value has come
    """

    __slots__ = ("_depth", "_escaped", "_quoted", "whole")

    def __init__(self) -> None:
        self.whole = False
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, piece: str) -> None:
        position = 0
        if self._escaped and piece:
            self._escaped, position = False, 1
        for found in SIGNIFICANT.finditer(piece, position):
            if found.start() < position:
                continue  # this character is escaped
            sign = found[0]
            if sign == "\\":
                position = found.end() + 1
                self._escaped = position > len(piece)
            elif sign == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if sign in "{[" else -1
                self.whole = self._depth <= 0
