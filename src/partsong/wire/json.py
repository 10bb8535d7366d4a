"""JSON that comes from outside: what reading it may raise, and schemas, which are read before they are sent.

A schema stays the bytes that its author wrote; reading it only makes sure that what goes out is JSON, so that the
caller hears what is wrong, and not the provider.
"""

from typing import Any

import msgspec

from partsong.errors import ModelError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_schema(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises `ModelError` for what is none; `what` names it."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as problem:
        raise ModelError(f"{what} are no JSON Schema: {problem}", "refused") from None
