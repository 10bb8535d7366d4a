"""A finished call to a model, and the key under which the store finds the answer to an equal call.

The key is a digest of the model id and the request. Equal calls have the same key in every process and every version.
`Request.terms` and the white space in a schema's JSON do not change the key. The order of a schema's fields does,
because models write fields in that order.
"""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from partsong.model import (
    Answer,
    Request,
    Sampling,
    Terms,
    Tool,
)

# Part of every key. It grows when a change to partsong gives equal requests another meaning, so that old answers to
# them are no longer found.
KEY_VERSION = 1


class Call(Struct, frozen=True):
    """One finished call to a model.

    key: the digest that `call_key` computes, 32 bytes
    model: id of the model, `provider:model`
    started: Unix time at which the call began
    seconds: how long the call took, without the time that the listener took to handle deltas
    first: seconds until the first delta; `None` if the call was not streamed
    run: id under which the run of the call is stored; "" if the run is not stored
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
    """The digest (SHA-256, 32 bytes) under which the store keeps a call of the model id `model` with `request`."""
    # Fields with their default value are not encoded, so a field that is added later changes no older key.
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
        return schema  # no JSON: the check of the request reports the mistake
    return msgspec.json.encode(value)


def _as_floats(sampling: Sampling) -> Sampling:
    """The sampling with `temperature` and `top_p` as floats, since JSON writes 0 and 0.0 differently."""
    temperature, top_p = sampling.temperature, sampling.top_p
    return replace(
        sampling,
        temperature=None if temperature is None else float(temperature),
        top_p=None if top_p is None else float(top_p),
    )
