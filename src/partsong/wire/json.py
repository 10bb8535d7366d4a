"""JSON from outside: decoding with errors that name the field, schemas, and JSON that arrives in pieces.

A schema is sent as the bytes that its author wrote. It is decoded before it is sent, so that the caller hears of a
fault and not the provider.
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


def read_schema(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ModelError` for what is none; `what` names it."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as problem:
        raise ModelError(f"{what} are no JSON Schema: {problem}", "refused") from None


def described(schema: Raw, description: str | None) -> bytes:
    """A schema's bytes, with what its author says of it where only a schema can say it."""
    if not description:
        return bytes(schema)
    return msgspec.json.encode({"description": description} | msgspec.json.decode(schema, type=dict[str, Any]))


def decode_field(data: bytes | Raw, decoder: Decoder[T], where: str = "") -> T:
    """What `data` of a client's holds; `where` it stands in the request. Raises `RequestError` that names the field."""
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
    """The address of a field within another."""
    return f"{where}.{place}" if where and place and not place.startswith("[") else where + place


def given(raw: Raw) -> bool:
    """Whether a field that was left raw is there, and not null."""
    return bytes(raw) not in (b"", b"null")


def equal(one: str, other: str) -> bool:
    """Whether two texts are the same JSON value."""
    if one == other:
        return True
    try:
        return bool(msgspec.json.decode(one) == msgspec.json.decode(other))
    except (*UNREADABLE, UnicodeEncodeError):
        return False


class Completeness:
    """Whether a JSON object or array, which arrives in pieces, has ended. Each character is looked at once."""

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
                continue  # it is escaped
            sign = found[0]
            if sign == "\\":
                position = found.end() + 1
                self._escaped = position > len(piece)
            elif sign == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if sign in "{[" else -1
                self.whole = self._depth <= 0
