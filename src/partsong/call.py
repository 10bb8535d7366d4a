"""A call that was made, and the key under which the same call is found again.

The key is a digest of everything that is asked, and of nothing else: the same call has the same key in every process
and every version. What a caller allows (`terms`) and how a schema's JSON is spaced do not count. The order of its
fields does: models write their fields in that order.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from partsong.model import Answer, Request, Sampling, Terms, Tool

# Part of every key: when the same call must no longer be found, because it means something else, this number grows.
KEY_VERSION = 1


class Call(Struct, frozen=True):
    """One finished call: `model` (the id, `provider:model`) was asked at `started` (Unix time) for `seconds` seconds.

    `first` is how many seconds it took to say its first word, `None` where nobody listened. The time that a listener
    took does not count. `run` is the id under which its run is stored, "" if that is unknown.
    """

    key: bytes
    model: str
    request: Request
    answer: Answer
    started: float
    seconds: float
    first: float | None = None
    run: str = ""


def call_key(model: str, request: Request) -> bytes:
    """The digest (32 bytes) of a call of `model` with `request`."""
    # Fields that are left at their defaults are not encoded: one that is added later changes no older key.
    asked = replace(
        request,
        tools=tuple(Tool(tool.name, tool.description, _spaced_alike(tool.parameters)) for tool in request.tools),
        response_format=None if request.response_format is None else _spaced_alike(request.response_format),
        sampling=_as_floats(request.sampling),
        terms=Terms(),
    )
    return hashlib.sha256(msgspec.json.encode((f"partsong call {KEY_VERSION}", model, asked))).digest()


def _spaced_alike(schema: bytes) -> bytes:
    try:
        value: Any = msgspec.json.decode(schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return schema  # no JSON: whoever sends it will say so
    return msgspec.json.encode(value)


def _as_floats(sampling: Sampling) -> Sampling:
    """The same, with 0 and 1 written as 0.0 and 1.0."""
    temperature, top_p = sampling.temperature, sampling.top_p
    return replace(
        sampling,
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
    )
