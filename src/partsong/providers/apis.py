"""The APIs that a provider may speak: what partsong must know of each is one row.

The code of an API is imported when a model of it is made, since some of it is slow to import. A new API needs its word
in `configuration`, its row here, and its own file beside this one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from partsong.configuration import ApiName, Provider
from partsong.model import Model

if TYPE_CHECKING:
    from partsong.providers.http import Http, Told


@dataclass(frozen=True, slots=True)
class Making:
    """What a model can be made from.

    name: the model's name, without its provider
    provider: the provider's name
    settings: how to reach the provider
    key: the provider's key, `None` if it needs none
    window: tokens that the configuration says the model reads, `None` if it says nothing
    connections: gives the pool of connections that all hosted models share
    told: hears what responses say about rate limits
    weights: gives the file of a local model, fetched if need be
    """

    name: str
    provider: str
    settings: Provider
    key: str | None
    window: int | None
    connections: Callable[[], Awaitable["Http"]]
    told: "Told"
    weights: Callable[[str], Awaitable[Path]]


@dataclass(frozen=True, slots=True)
class Api:
    """A row.

    make: makes a model
    reachable: what is wrong with an address and a key, `None` if nothing is; no function for an API without addresses
    check: raises `ConfigurationError` for a name that no model can have
    missing: what must be installed first, "" if nothing is missing
    window: tokens that a model reads where nothing else is known
    dollars: a million tokens of a model's input and output, where the API itself says so
    """

    make: Callable[[Making], Awaitable[Model]]
    reachable: Callable[["Http", str, str | None], Awaitable[str | None]] | None = None
    check: Callable[[str], None] = lambda name: None
    missing: Callable[[], str] = lambda: ""
    window: Callable[[], int | None] = lambda: None
    dollars: Callable[[str], tuple[Decimal, Decimal] | None] = lambda name: None


def api_of(settings: Provider) -> Api:
    """The row of the API that the provider speaks."""
    return api(settings.api)


def api(name: ApiName) -> Api:
    """The row of an API."""
    match name:
        case "openai":
            return Api(_openai, reachable=_openai_reachable)
        case "anthropic":
            return Api(_anthropic, reachable=_anthropic_reachable)
        case "local":
            return Api(
                _local, check=_check_local, missing=_local_missing, window=_local_window, dollars=lambda name: FREE
            )
        case "scripted":
            return Api(_scripted, dollars=_scripted_dollars)
        case _:
            assert_never(name)


FREE = Decimal(0), Decimal(0)


async def _openai(making: Making) -> Model:
    from partsong.providers.openai import OpenAI

    return OpenAI(
        await making.connections(),
        provider=making.provider,
        base_url=making.settings.base_url,
        name=making.name,
        key=making.key,
        told=making.told,
    )


async def _openai_reachable(http: "Http", base_url: str, key: str | None) -> str | None:
    from partsong.providers.openai import reachable

    return await reachable(http, base_url, key)


async def _anthropic(making: Making) -> Model:
    from partsong.providers.anthropic import Anthropic

    return Anthropic(
        await making.connections(),
        provider=making.provider,
        base_url=making.settings.base_url,
        name=making.name,
        key=making.key,
        told=making.told,
    )


async def _anthropic_reachable(http: "Http", base_url: str, key: str | None) -> str | None:
    from partsong.providers.anthropic import reachable

    return await reachable(http, base_url, key)


async def _local(making: Making) -> Model:
    from partsong.providers.local import WINDOW, Local, check_installed

    check_installed(making.name)
    return Local(await making.weights(making.name), making.name, window=making.window or WINDOW)


def _check_local(name: str) -> None:
    from partsong.weights.catalogue import find

    find(name)


def _local_missing() -> str:
    from partsong.providers.local import not_installed

    return not_installed()


def _local_window() -> int:
    from partsong.providers.local import WINDOW

    return WINDOW


async def _scripted(making: Making) -> Model:
    from partsong.providers.scripted import Scripted

    return Scripted(making.name)


def _scripted_dollars(name: str) -> tuple[Decimal, Decimal]:
    from partsong.providers.scripted import Scripted

    script = Scripted(name).script
    return script.input, script.output
