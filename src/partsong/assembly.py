"""Configuration in, models out: the one assembler, which puts providers, middleware and the store together.

An id, `provider:model`, is looked up among the providers of the configuration, then among those that partsong knows.
Everything that can be wrong with an id, an address or a key is said before the first model is made.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from partsong import toml
from partsong.configuration import (
    FILE,
    Configuration,
    ModelSettings,
    Provider,
    StoreMode,
    find_configuration,
    key_of,
    known_providers,
)
from partsong.errors import ConfigurationError, StoreError
from partsong.folders import store_path, weights_folder
from partsong.model import Model
from partsong.model_info import ModelInfo, info_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from partsong.middleware.breaker import Health
    from partsong.middleware.cache import Flights
    from partsong.middleware.limit import Gate
    from partsong.middleware.price import Pricing
    from partsong.middleware.throughput import Speed
    from partsong.money.funding import DailyFunds
    from partsong.providers.apis import Api
    from partsong.providers.http import Http
    from partsong.store import Store
    from partsong.store import Throughput as StoredThroughput
    from partsong.weights.fetch import Access, Progress


async def reachable(names: Iterable[str], configuration: Configuration) -> dict[str, str | None]:
    """What is wrong with the endpoints of these providers, all asked at once; `None` for those that answer."""
    providers = known_providers() | configuration.providers

    async def ask(name: str) -> str | None:
        provider = providers[name]
        if (probe := _api(provider).reachable) is None:
            return None
        try:
            return await probe(http, provider.base_url, key_of(name, provider))
        except ConfigurationError as problem:
            return str(problem)

    async with _connections() as http, asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(ask(name)) for name in names if providers[name].base_url}
    return {name: task.result() for name, task in asked.items()}


def missing(provider: Provider) -> str:
    """What must be installed before the provider's models can be used; "" if nothing is missing."""
    return _api(provider).missing()


def open_journal(
    configuration: Configuration,
    mode: StoreMode | None = None,
    *,
    patience: float | None = None,
    must_open: bool = True,
) -> "AbstractAsyncContextManager[Store]":
    """This user's store of runs and calls, to be entered.

    mode: what is kept, if not what the configuration says
    patience, must_open: as for `open_store`
    """
    from partsong.store import open_store

    return open_store(store_path(), mode or configuration.store, patience=patience, must_open=must_open)


def daily_funds(configuration: Configuration, store: "Store") -> "DailyFunds | None":
    """What may be spent in a day, as the configuration says and the store counts; `None` if there is no limit."""
    from partsong.money.funding import DailyFunds

    caps = {
        name: provider.dollars_per_day
        for name, provider in configuration.providers.items()
        if provider.dollars_per_day is not None
    }
    if configuration.dollars_per_day is not None:
        caps[""] = configuration.dollars_per_day
    return DailyFunds(store, caps) if caps else None


@asynccontextmanager
async def assemble(
    ids: Iterable[str],
    configuration: Configuration | None = None,
    *,
    fetching: "Progress | None" = None,
    store: "Store | None" = None,
) -> AsyncIterator[Mapping[str, Model]]:
    """A model for each id, ready to be called until the block is left.

    `ids` are usually `recipe.models`. Weights of local models that are not on this disk are fetched, and `fetching`
    hears the progress. In a `store` every finished call is kept, and found again.

    Raises `ConfigurationError` for an id, a provider or a key that cannot be used, and `WeightsError` if weights cannot
    be fetched. Both are raised before any model is called.
    """
    async with assembling(configuration, fetching=fetching, store=store) as assembly:
        yield await assembly.models(ids)


@asynccontextmanager
async def assembling(
    configuration: Configuration | None = None, *, fetching: "Progress | None" = None, store: "Store | None" = None
) -> AsyncIterator["Assembly"]:
    """Makes models when they are asked for, and lets them share connections, limits and the store."""
    configuration = find_configuration() if configuration is None else configuration
    async with AsyncExitStack() as stack:
        yield Assembly(stack, configuration, fetching, store)


class Assembly:
    """Makes each model once. The models can be called until the block of `assembling` is left."""

    def __init__(
        self, stack: AsyncExitStack, configuration: Configuration, fetching: "Progress | None", store: "Store | None"
    ) -> None:
        self.configuration = configuration
        self.providers = known_providers() | configuration.providers
        self.store = store
        self._shared = _Shared(stack, self.providers, fetching, store)
        self._made: dict[str, Model] = {}
        self._turn = asyncio.Lock()

    def check(self, ids: Iterable[str]) -> None:
        """Raise `ConfigurationError` for an id, a provider or a key that cannot be used; nothing is made or fetched."""
        for identity in ids:
            if identity in self._made:
                continue
            provider, name = _parts(identity, self.providers)
            settings = self.providers[provider]
            _api(settings).check(name)
            key_of(provider, settings)

    def window(self, identity: str) -> int | None:
        """Tokens that the model reads, as far as that is known, also before it is made."""
        if identity in self._made:
            return info_of(self._made[identity]).window
        provider, name = _parts(identity, self.providers)
        settings = self.providers[provider]
        known = self.configuration.models.get(identity, ModelSettings()).window
        return known or _api(settings).window() or _listed_window(settings, name)

    async def models(self, ids: Iterable[str]) -> dict[str, Model]:
        """A model for each id. Raises as `assemble` does, before anything is fetched."""
        names = tuple(dict.fromkeys(ids))
        if new := [name for name in names if name not in self._made]:
            self.check(new)
            async with self._turn:
                await self._make([name for name in new if name not in self._made])
        return {name: self._made[name] for name in names}

    async def _make(self, ids: Sequence[str]) -> None:
        await self._shared.remember(ids)
        # All are made before any is kept: if one cannot be made, none is there in part.
        self._made.update({identity: await self._made_of(identity) for identity in ids})

    async def _made_of(self, identity: str) -> Model:
        """The model of an id, in its middleware."""
        from partsong.middleware.stack import Wrapping, wrapped
        from partsong.providers.apis import Making

        shared = self._shared
        provider, name = _parts(identity, self.providers)
        settings, known = self.providers[provider], self.configuration.models.get(identity, ModelSettings())
        gate, key = shared.gate(provider), key_of(provider, settings)
        making = Making(name, provider, settings, key, known.window, shared.connections, gate.hear, shared.weights)
        model = await _api(settings).make(making)
        window = known.window or info_of(model).window
        # Hosted models are in a list, which may be wrong.
        listed = window is None and settings.base_url.startswith("https://")
        wrapping = Wrapping(
            identity,
            settings,
            gate,
            shared.health(provider),
            shared.speed(identity),
            pricing(identity, self.configuration),
            _listed_window(settings, name) if listed else window,
            listed,
            settings.documents if known.documents is None else known.documents,
            self.store,
            shared.flights,
        )
        return wrapped(model, wrapping)


class _Shared:
    """What the models of one assembly share, each made when it is first asked for."""

    def __init__(
        self,
        stack: AsyncExitStack,
        providers: Mapping[str, Provider],
        fetching: "Progress | None",
        store: "Store | None",
    ) -> None:
        self.stack, self.providers, self.fetching, self.store = stack, providers, fetching, store
        self.http: Http | None = None
        self.gates: dict[str, Gate] = {}
        self.healths: dict[str, Health] = {}
        self.throughputs: dict[str, StoredThroughput] = {}
        self.flights: Flights = {}

    async def remember(self, ids: Iterable[str]) -> None:
        """Read from the store how fast the models have been."""
        if self.store is not None:
            with suppress(StoreError):  # a store that fails is as good as none; it says so itself
                self.throughputs.update(await self.store.throughputs(ids))

    def speed(self, identity: str) -> "Speed":
        """How fast a model has been, as far as the store knows."""
        from partsong.middleware.throughput import Speed

        pace = self.throughputs.get(identity)
        return Speed() if pace is None else Speed(first=pace.first or 0.0, each=pace.each, typical=pace.tokens)

    async def weights(self, name: str) -> Path:
        """The file of a local model, fetched if it is not on this disk."""
        from partsong.weights.fetch import ensure

        return await ensure(name, weights_folder(), progress=self.fetching, access=access())

    async def connections(self) -> "Http":
        """The pool of connections that all hosted models share."""
        if self.http is None:
            self.http = await self.stack.enter_async_context(_connections())
        return self.http

    def gate(self, provider: str) -> "Gate":
        """The gate that all models of a provider share."""
        from partsong.middleware.limit import Gate

        if provider not in self.gates:
            self.gates[provider] = Gate(provider, self.providers[provider].concurrency)
        return self.gates[provider]

    def health(self, provider: str) -> "Health":
        """The health of a provider, as all its models have seen it."""
        from partsong.middleware.breaker import Health

        if provider not in self.healths:
            self.healths[provider] = Health(provider)
        return self.healths[provider]


def pricing(identity: str, configuration: Configuration) -> "Pricing | None":
    """The price of a model, as far as it is known; no key is needed to know it.

    Raises `ConfigurationError` for an id whose provider there is not.
    """
    from partsong.middleware.price import fixed, listed

    providers = known_providers() | configuration.providers
    provider, name = _parts(identity, providers)
    settings, known = providers[provider], configuration.models.get(identity, ModelSettings())
    if known.input_dollars_per_million is not None and known.output_dollars_per_million is not None:
        return fixed(
            known.input_dollars_per_million, known.output_dollars_per_million, known.cached_input_dollars_per_million
        )
    if (dollars := _api(settings).dollars(name)) is not None:
        return fixed(*dollars)
    if settings.free:
        from partsong.providers.apis import FREE

        return fixed(*FREE)
    return listed(settings.base_url, name) if settings.base_url.startswith("https://") else None


def info_without_model(identity: str, configuration: Configuration) -> ModelInfo:
    """What is known of a model without making it. Raises `ConfigurationError` as `pricing` does."""
    known = configuration.models.get(identity, ModelSettings())
    return ModelInfo(window=known.window, dollars=pricing(identity, configuration))


def access() -> "Access":
    """How weights are fetched: the hub and the token that the environment names, as the hub's own tools do."""
    from partsong.weights.fetch import HUB, Access

    return Access(hub=os.environ.get("HF_ENDPOINT") or HUB, token=os.environ.get("HF_TOKEN") or None)


def _parts(identity: str, providers: Mapping[str, Provider]) -> tuple[str, str]:
    """The provider's name and the model's, of an id. Raises `ConfigurationError`."""
    provider, colon, name = identity.partition(":")
    if not (provider and colon and name):
        raise ConfigurationError(f'"{identity}" is no model id; one has the form "provider:model"')
    if provider not in providers:
        raise ConfigurationError(
            f'{identity}: there is no provider "{provider}"; known: {", ".join(providers)}'
            f"{toml.closest(provider, providers)} (others go into {FILE} as [providers.{provider}])"
        )
    return provider, name


def _api(settings: Provider) -> "Api":
    """The row of the API that the provider speaks. `--help` imports this file, and need not pay for the table."""
    from partsong.providers.apis import api_of

    return api_of(settings)


def _listed_window(settings: Provider, name: str) -> int | None:
    """The model's window, by a list that may be wrong; `None` for a model that is not in it."""
    if not settings.base_url.startswith("https://"):
        return None
    from partsong.providers.windows import listed_window

    return listed_window(settings.base_url, name)


def _connections() -> "Http":
    """Connections, through the proxies that the environment names."""
    from urllib.request import getproxies

    from partsong.providers.http import Http

    return Http(proxies=getproxies())
