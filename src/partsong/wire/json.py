"""JSON that comes from outside: what reading it may raise, and schemas, which are read before they are sent.

A schema stays the bytes that its author wrote; reading it only makes sure that what goes out is JSON, so that the
caller hears what is wrong, and not the provider.
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
