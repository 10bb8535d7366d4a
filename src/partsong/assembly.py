"""Makes models from the configuration: connects providers, middleware and the store. No other file does this.

The provider in a model id, `provider:model`, is looked up in the configuration first, and then among the providers
that partsong knows by name. Every mistake in an id, an address or a key is raised before the first model is made.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from partsong import toml
from partsong.bounds import Bounds
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
    """What is wrong with the endpoint of each provider, by the provider's name; `None` if the endpoint answers.

    names: names of configured or known providers; providers without a `base_url` are left out of the result

    All endpoints are asked at the same time. A missing key or a wrong address is reported in the result, not raised.
    """
    providers = known_providers() | configuration.providers

    async def ask(name: str) -> str | None:
        provider = providers[name]
        if (probe := _api(provider).reachable) is None:
            return None
        try:
            return await probe(http, provider.base_url, key_of(name, provider))
        except ConfigurationError as problem:
            return str(problem)

    async with _connections(configuration.bounds) as http, asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(ask(name)) for name in names if providers[name].base_url}
    return {name: task.result() for name, task in asked.items()}


def missing(provider: Provider) -> str:
    """What the user must install before the provider's models can be used, as a sentence; "" if nothing is missing."""
    return _api(provider).missing()


def open_journal(
    configuration: Configuration,
    mode: StoreMode | None = None,
    *,
    patience: float | None = None,
    must_open: bool = True,
) -> "AbstractAsyncContextManager[Store]":
    """This user's store of runs and calls, as an asynchronous context manager.

    mode: what the store keeps; by default `configuration.store`
    patience, must_open: as for `open_store`
    """
    from partsong.store import open_store

    return open_store(store_path(), mode or configuration.store, patience=patience, must_open=must_open)


def daily_funds(configuration: Configuration, store: "Store") -> "DailyFunds | None":
    """The configuration's caps in dollars a day, with the store that counts the spending; `None` without any cap."""
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
    """Yield a mapping from each id to its model. The models can be called until the block is left.

    ids: model ids, usually `recipe.models`
    configuration: by default the configuration that `find_configuration` finds
    fetching: hears the progress of downloads; weights of local models are fetched if this disk does not have them
    store: keeps every finished call, and answers equal calls; `None` to keep nothing

    Raises `ConfigurationError` for an unknown provider, a malformed id or a missing key, and `WeightsError` if weights
    cannot be fetched. Both are raised before any model is called.
    """
    async with assembling(configuration, fetching=fetching, store=store) as assembly:
        yield await assembly.models(ids)


@asynccontextmanager
async def assembling(
    configuration: Configuration | None = None, *, fetching: "Progress | None" = None, store: "Store | None" = None
) -> AsyncIterator["Assembly"]:
    """Yield an `Assembly`, which makes models on demand. See `assemble` for the parameters."""
    configuration = find_configuration() if configuration is None else configuration
    async with AsyncExitStack() as stack:
        yield Assembly(stack, configuration, fetching, store)


class Assembly:
    """Makes models on demand, each id once. All its models share connections, limits and the store.

    The models can be called until the block of `assembling` is left.
    """

    def __init__(
        self, stack: AsyncExitStack, configuration: Configuration, fetching: "Progress | None", store: "Store | None"
    ) -> None:
        self.configuration = configuration
        self.providers = known_providers() | configuration.providers
        self.store = store
        self._shared = _Shared(stack, self.providers, fetching, store, configuration.bounds)
        self._made: dict[str, Model] = {}
        self._turn = asyncio.Lock()

    def check(self, ids: Iterable[str]) -> None:
        """Raise `ConfigurationError` for an unknown provider, a malformed id or a missing key.

        No model is made and no weights are fetched.
        """
        for identity in ids:
            if identity in self._made:
                continue
            provider, name = _parts(identity, self.providers)
            settings = self.providers[provider]
            _api(settings).check(name)
            key_of(provider, settings)

    def window(self, identity: str) -> int | None:
        """The model's context window in tokens, prompt and answer together; `None` if the window is not known.

        The model need not have been made. Without a configured window, a list of hosted models may supply one.
        """
        if identity in self._made:
            return info_of(self._made[identity]).window
        provider, name = _parts(identity, self.providers)
        settings = self.providers[provider]
        known = self.configuration.models.get(identity, ModelSettings()).window
        return known or _api(settings).window() or _listed_window(settings, name)

    async def models(self, ids: Iterable[str]) -> dict[str, Model]:
        """A mapping from each id to its model, in the order of `ids`. Models that were made before are reused.

        Raises `ConfigurationError` before anything is fetched, and `WeightsError` if weights cannot be fetched.
        """
        names = tuple(dict.fromkeys(ids))
        if new := [name for name in names if name not in self._made]:
            self.check(new)
            async with self._turn:
                await self._make([name for name in new if name not in self._made])
        return {name: self._made[name] for name in names}

    async def _make(self, ids: Sequence[str]) -> None:
        await self._shared.remember(ids)
        # All models are made before any is kept. If one cannot be made, the assembly stays as it was.
        self._made.update({identity: await self._made_of(identity) for identity in ids})

    async def _made_of(self, identity: str) -> Model:
        """The provider's model for an id, wrapped in its middleware."""
        from partsong.middleware.stack import Wrapping, wrapped
        from partsong.providers.apis import Making

        shared = self._shared
        provider, name = _parts(identity, self.providers)
        settings, known = self.providers[provider], self.configuration.models.get(identity, ModelSettings())
        gate, key = shared.gate(provider), key_of(provider, settings)
        bounds = self.configuration.bounds
        making = Making(
            name, provider, settings, key, known.window, shared.connections, gate.hear, shared.weights, bounds
        )
        model = await _api(settings).make(making)
        window = known.window or info_of(model).window
        # The window of a hosted model may come from a list, which may be wrong.
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
    """The connections, limits and measurements that the models of one assembly share, each made at its first use."""

    def __init__(
        self,
        stack: AsyncExitStack,
        providers: Mapping[str, Provider],
        fetching: "Progress | None",
        store: "Store | None",
        bounds: Bounds,
    ) -> None:
        self.stack, self.providers, self.fetching, self.store = stack, providers, fetching, store
        self.bounds = bounds
        self.http: Http | None = None
        self.gates: dict[str, Gate] = {}
        self.healths: dict[str, Health] = {}
        self.throughputs: dict[str, StoredThroughput] = {}
        self.flights: Flights = {}

    async def remember(self, ids: Iterable[str]) -> None:
        """Read the recent throughput of these models from the store, if there is a store."""
        if self.store is not None:
            with suppress(StoreError):  # runs go on without a store that fails; `Store.problem` keeps the failure
                self.throughputs.update(await self.store.throughputs(ids))

    def speed(self, identity: str) -> "Speed":
        """The model's recent throughput as the store measured it; an empty `Speed` if the store has no calls of it."""
        from partsong.middleware.throughput import Speed

        pace = self.throughputs.get(identity)
        return Speed() if pace is None else Speed(first=pace.first or 0.0, each=pace.each, typical=pace.tokens)

    async def weights(self, name: str) -> Path:
        """The path of a local model's weights, which are fetched first if this disk does not have them."""
        from partsong.weights.fetch import ensure

        return await ensure(name, weights_folder(), progress=self.fetching, access=access())

    async def connections(self) -> "Http":
        """The connection pool that all hosted models share."""
        if self.http is None:
            self.http = await self.stack.enter_async_context(_connections(self.bounds))
        return self.http

    def gate(self, provider: str) -> "Gate":
        """The concurrency limiter that all models of a provider share."""
        from partsong.middleware.limit import Gate

        if provider not in self.gates:
            self.gates[provider] = Gate(provider, self.providers[provider].concurrency)
        return self.gates[provider]

    def health(self, provider: str) -> "Health":
        """The recent failures of a provider, counted over all its models for their circuit breaker."""
        from partsong.middleware.breaker import Health

        if provider not in self.healths:
            self.healths[provider] = Health(provider)
        return self.healths[provider]


def pricing(identity: str, configuration: Configuration) -> "Pricing | None":
    """The price of a model; `None` if the price is not known. The model is not made, and no key is needed.

    A price in the configuration comes first, then the API's own price, then 0 for a free provider, then the price list.
    Raises `ConfigurationError` for a malformed id or an unknown provider.
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
    """The configured window and the price of a model that has not been made.

    Raises `ConfigurationError` for a malformed id or an unknown provider.
    """
    known = configuration.models.get(identity, ModelSettings())
    return ModelInfo(window=known.window, dollars=pricing(identity, configuration))


def access() -> "Access":
    """The hub's address and token for fetching weights, from `HF_ENDPOINT` and `HF_TOKEN` like the hub's own tools."""
    from partsong.weights.fetch import HUB, Access

    return Access(hub=os.environ.get("HF_ENDPOINT") or HUB, token=os.environ.get("HF_TOKEN") or None)


def _parts(identity: str, providers: Mapping[str, Provider]) -> tuple[str, str]:
    """Split a model id into the names of provider and model.

    Raises `ConfigurationError` if the id has not the form `provider:model`, or if `providers` lacks the provider.
    """
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
    """The row of the provider's API in the table of APIs.

    The table is imported here because `--help` imports this file and does not need the table.
    """
    from partsong.providers.apis import api_of

    return api_of(settings)


def _listed_window(settings: Provider, name: str) -> int | None:
    """The model's window in tokens, from a list of hosted models that may be wrong; `None` if the list lacks it."""
    if not settings.base_url.startswith("https://"):
        return None
    from partsong.providers.windows import listed_window

    return listed_window(settings.base_url, name)


def _connections(bounds: Bounds) -> "Http":
    """A new connection pool for answers within `bounds`.

    The pool uses the proxies that the environment names (such as `HTTPS_PROXY`)."""
    from urllib.request import getproxies

    from partsong.providers.http import Http

    return Http(proxies=getproxies(), bounds=bounds)
