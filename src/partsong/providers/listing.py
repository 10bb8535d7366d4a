"""The list of a provider's models, as `GET /models` gives it in the APIs of OpenAI and Anthropic."""

import asyncio
import re

import msgspec

from partsong.errors import ModelError
from partsong.providers.http import Endpoint

SECONDS = 5.0  # most seconds for the whole list
LARGEST = 8 * 1024 * 1024  # bytes of a list: that of OpenRouter has 1 MB
WITHOUT = (404, 405, 501)  # statuses of servers that have no list
# Names that a provider takes, though its list has only a longer one: `models/` of Gemini, tags of Ollama, and dates.
LONGER = (re.compile(r"models/(.+)"), re.compile(r"(.+):latest"), re.compile(r"(.+)-\d{8}"))


class _Model(msgspec.Struct):
    id: str = ""


class _Models(msgspec.Struct):
    data: list[_Model] = []


_decoder = msgspec.json.Decoder(list[_Model] | _Models)


async def read(endpoint: Endpoint) -> frozenset[str] | None:
    """The names of a provider's models; `None` if the provider has no list.

    Raises `ModelError` if the list cannot be read, is longer than 8 MiB, or takes longer than 5 seconds.
    """
    try:
        async with asyncio.timeout(SECONDS), endpoint.get() as call:
            if call.status in WITHOUT:
                return None
            if call.status != 200:
                raise ModelError((await call.rejection()).message, "server", status=call.status)
            pieces, size = list[bytes](), 0
            while (data := await call.read()) and size <= LARGEST:
                pieces.append(data)
                size += len(data)
    except TimeoutError:
        raise ModelError(f"{endpoint.host} did not send its list within {SECONDS:g} s", "timeout") from None
    if size > LARGEST:
        raise ModelError(f"the list of {endpoint.host} has more than {LARGEST:,} bytes", "server")
    return names_in(b"".join(pieces), endpoint.host)


def names_in(body: bytes, host: str) -> frozenset[str]:
    """The names in a list of models. Raises `ModelError` if the body is no such list."""
    try:
        told = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{host} sent no list of models", "server") from None
    names = {model.id for model in (told.data if isinstance(told, _Models) else told) if model.id}
    shorter = {match[1] for name in names for form in LONGER if (match := form.fullmatch(name))}
    return frozenset(names | shorter)
