"""The table of APIs that a provider may use, one row (`Api`) for each.

The code of an API is imported when its first model is made, because some imports are slow. A new API needs its name in
`configuration`, a row here, and its own file in this folder.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from partsong.bounds import Bounds
from partsong.configuration import ApiName, Provider
from partsong.model import Model

if TYPE_CHECKING:
    from partsong.providers.http import Http, Told


@dataclass(frozen=True, slots=True)
class Making:
    """The values from which a model of any API is made.

    name: the model's name, without its provider
    provider: the provider's name
    settings: the provider's section of the configuration
    key: the provider's API key; `None` if the provider needs none
    window: context window in tokens, as configured; `None` if not configured
    connections: returns the connection pool that all hosted models share
    told: receives the model's name and the rate limits in each response
    weights: returns the path of a local model's file, and fetches the file if it is missing
    bounds: the bounds on answers
    loading: called in any thread, with True when the file of a local model begins to be loaded, and then with False
    """

    name: str
    provider: str
    settings: Provider
    key: str | None
    window: int | None
    connections: Callable[[], Awaitable["Http"]]
    told: "Told"
    weights: Callable[[str], Awaitable[Path]]
    bounds: Bounds
    loading: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class Api:
    """What partsong must know about one API.

    make: makes a model
    reachable: takes connections, address and key, and returns what is wrong with them, or `None` if the endpoint
        answers; `None` in place of a function for an API without addresses
    listed: takes connections, address and key, and returns the names of the models; `None` if there is no list; `None`
        in place of a function for an API without addresses
    check: takes a model's name, and raises `ConfigurationError` if no model can have this name
    missing: returns what must be installed before the API can be used; "" if nothing is missing
    window: returns the context window of models in tokens if none is configured; `None` if unknown
    dollars: takes a model's name, and returns its prices of input and output in dollars per million tokens, if the API
        fixes them; `None` otherwise
    """

    make: Callable[[Making], Awaitable[Model]]
    reachable: Callable[["Http", str, str | None], Awaitable[str | None]] | None = None
    listed: Callable[["Http", str, str | None], Awaitable[frozenset[str] | None]] | None = None
    check: Callable[[str], None] = lambda name: None
    missing: Callable[[], str] = lambda: ""
    window: Callable[[], int | None] = lambda: None
    dollars: Callable[[str], tuple[Decimal, Decimal] | None] = lambda name: None


def api_of(settings: Provider) -> Api:
    """Return the row of the provider's API."""
    return api(settings.api)


def api(name: ApiName) -> Api:
    """Return the row of an API by its name in the configuration."""
    match name:
        case "openai":
            return Api(_openai, reachable=_openai_reachable, listed=_openai_listed)
        case "anthropic":
            return Api(_anthropic, reachable=_anthropic_reachable, listed=_anthropic_listed)
        case "local":
            return Api(
                _local, check=_check_local, missing=_local_missing, window=_local_window, dollars=lambda name: FREE
            )
        case "scripted":
            return Api(_scripted, check=_check_scripted, dollars=_scripted_dollars)
        case _:
            assert_never(name)


def load(name: ApiName) -> None:
    """Import the client of an API of hosted models."""
    match name:
        case "openai":
            import partsong.providers.openai
        case "anthropic":
            import partsong.providers.anthropic  # noqa: F401
        case "local" | "scripted":
            pass  # local models run in processes of their own
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


async def _openai_listed(http: "Http", base_url: str, key: str | None) -> frozenset[str] | None:
    from partsong.providers.openai import listed

    return await listed(http, base_url, key)


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


async def _anthropic_listed(http: "Http", base_url: str, key: str | None) -> frozenset[str] | None:
    from partsong.providers.anthropic import listed

    return await listed(http, base_url, key)


async def _local(making: Making) -> Model:
    from partsong.providers.local import WINDOW, Local, check_installed

    check_installed(making.name)
    path = await making.weights(making.name)
    window = making.window or WINDOW
    return Local(path, making.name, window=window, loading=making.loading, bounds=making.bounds)


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


def _check_scripted(name: str) -> None:
    from partsong.providers.scripted import Scripted

    Scripted(name)


def _scripted_dollars(name: str) -> tuple[Decimal, Decimal]:
    from partsong.providers.scripted import Scripted

    script = Scripted(name).script
    return script.input, script.output
