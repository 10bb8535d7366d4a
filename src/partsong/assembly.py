"""Makes models from the configuration: connects providers, middleware and the store. No other file does this.

The provider in a model id, `provider:model`, is looked up in the configuration first, and then among the providers
that partsong knows by name. Every mistake in an id, an address or a key is raised before the first model is made.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from partsong import toml
from partsong.bounds import Bounds
from partsong.configuration import (
    FILE,
    ApiName,
    Configuration,
    ModelSettings,
    Provider,
    StoreMode,
    find_configuration,
    key_of,
    key_told,
    known_providers,
)
from partsong.errors import ConfigurationError, StoreError, WeightsError
from partsong.folders import store_path, weights_folder
from partsong.ids import LONGEST_MODEL, fault, shown, suggested
from partsong.model import Model
from partsong.model_info import ModelInfo, info_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from partsong.middleware.breaker import Health
    from partsong.middleware.cache import Flights
    from partsong.middleware.limit import Gate
    from partsong.middleware.price import Pricing
    from partsong.middleware.stack import Inside
    from partsong.middleware.throughput import Speed
    from partsong.money.funding import DailyFunds
    from partsong.providers.apis import Api
    from partsong.providers.http import Http
    from partsong.store import Store
    from partsong.store import Throughput as StoredThroughput
    from partsong.toolbox import Toolbox
    from partsong.tools.servers import Servers
    from partsong.weights.fetch import Access, Progress

T = TypeVar("T")


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

    async with _connections(configuration.bounds, providers) as http, asyncio.TaskGroup() as tasks:
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
    """The store of runs and calls, as an asynchronous context manager: this user's file, or the configured database.

    mode: what the store keeps; by default `configuration.mode`
    patience, must_open: as for `open_store`
    """
    from partsong.store import open_store

    place = configuration.database or store_path()
    return open_store(place, mode or configuration.mode, patience=patience, must_open=must_open)


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
    fetching: hears, on the event loop, how weights of local models are fetched and loaded; weights are fetched if this
        disk does not have them
    store: keeps every finished call, and answers equal calls; `None` to keep nothing

    Raises `ConfigurationError` for an unknown provider, a malformed id or a missing key, and `WeightsError` if weights
    cannot be fetched. Both are raised before any model is called.
    """
    async with assembling(configuration, fetching=fetching, store=store) as assembly:
        yield await assembly.models(ids)


@asynccontextmanager
async def open_tools(configuration: Configuration | None = None) -> AsyncIterator["Toolbox"]:
    """Yield the servers with tools of a configuration, for the parameter `tools` of `run`, `stream` and `perform`.

    configuration: by default the configuration that `find_configuration` finds

    A server is started when a run first needs it, and ended when the block is left. Raises `ConfigurationError` if the
    library for servers is not installed.
    """
    async with assembling(configuration) as assembly:
        yield assembly.servers()


@asynccontextmanager
async def assembling(
    configuration: Configuration | None = None,
    *,
    fetching: "Progress | None" = None,
    store: "Store | None" = None,
    inside: "Inside | None" = None,
) -> AsyncIterator["Assembly"]:
    """Yield an `Assembly`, which makes models on demand. See `assemble` for the other parameters.

    inside: what the cache of each model asks in place of the model; see `middleware.stack.Wrapping`
    """
    configuration = find_configuration() if configuration is None else configuration
    async with AsyncExitStack() as stack:
        assembly = Assembly(stack, configuration, fetching, store, inside)
        try:
            yield assembly
        finally:
            await assembly.close()


@dataclass(slots=True, eq=False)
class _Making:
    """A model that is being made. `waiters`: number of callers that wait for the model."""

    task: asyncio.Task[Model]
    waiters: int = 0


class Assembly:
    """Makes models on demand, each id once. All its models share connections, limits and the store.

    Each model is made in a task of its own, so that a file that is fetched slowly delays nobody but those who want its
    model. The models can be called until the block of `assembling` is left.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        configuration: Configuration,
        fetching: "Progress | None",
        store: "Store | None",
        inside: "Inside | None" = None,
    ) -> None:
        self._inside = inside
        self.configuration = configuration
        self.providers = known_providers() | configuration.providers
        self.store = store
        self._shared = _Shared(stack, self.providers, fetching, store, configuration.bounds)
        self._made: dict[str, Model] = {}
        self._making: dict[str, _Making] = {}
        self.session_keys: dict[str, str] = {}  # by environment variable, and gone with this process
        self._tasks: set[asyncio.Task[Any]] = set()
        self._servers: Servers | None = None

    def tools(self, names: Collection[str]) -> "Toolbox | None":
        """The configured servers with tools; `None` if none are named, so that their library is not needed.

        names: usually `recipe.tools`. A server is started when it is first needed

        Raises `ConfigurationError` if the library for servers is not installed.
        """
        return self.servers() if names else None

    def servers(self) -> "Servers":
        """As `tools`, with all that a listing of the servers shows."""
        if self._servers is None:
            try:
                from partsong.tools.servers import Servers
            except ModuleNotFoundError as missing:
                if (missing.name or "").partition(".")[0] not in ("mcp", "mcp_types", "httpx2"):
                    raise
                raise ConfigurationError("[tools] needs the extra `mcp`: pip install 'partsong[mcp]'") from None
            self._servers = Servers(self.configuration.tools)
            self._shared.stack.push_async_callback(self._servers.close)
        return self._servers

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
            key_of(provider, settings, self.session_keys)

    def load(self) -> None:
        """Import what the configured providers need, which takes half a second with an HTTP library.

        A server does this before its first request, and not while it answers others.
        """
        from partsong.middleware import stack  # noqa: F401
        from partsong.providers.apis import load

        apis: set[ApiName] = {"openai"}  # most of the known providers
        apis |= {settings.api for settings in self.configuration.providers.values()}
        for name in apis:
            load(name)

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

    def has(self, ids: Iterable[str]) -> bool:
        """Whether all these models have been made, so that `models` returns them at once."""
        return all(identity in self._made for identity in ids)

    async def models(self, ids: Iterable[str]) -> dict[str, Model]:
        """A mapping from each id to its model, in the order of `ids`. Models that were made before are reused.

        If nobody waits for a model any more, the fetching of its weights is stopped. Raises `ConfigurationError` before
        anything is fetched, and `WeightsError` if weights cannot be fetched.
        """
        names = tuple(dict.fromkeys(ids))
        made = {name: self._made[name] for name in names if name in self._made}
        if new := [name for name in names if name not in made]:
            self.check(new)
            await self._shared.remember(new)
            for name in new:
                made[name] = await self._made_once(name)
        return {name: made[name] for name in names}

    async def listed(self, provider: str, key: str | None = None) -> frozenset[str] | None:
        """The names of the models that a provider lists; `None` if the provider has no list.

        key: a key to try; by default the key of the provider

        Raises `ModelError` if the list cannot be read, and `ConfigurationError` for a missing key or a wrong address.
        """
        settings = self.providers[provider]
        if (read := _api(settings).listed) is None:
            return None
        key = key or key_of(provider, settings, self.session_keys)
        return await read(await self._shared.connections(), settings.base_url, key)

    def renew(self, provider: str) -> None:
        """Make the models of a provider anew when they are next asked, because its key has changed."""
        for made in (self._made, self._making):
            for identity in [name for name in made if name.startswith(f"{provider}:")]:
                del made[identity]

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task that is cancelled, at the latest, when the assembly is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def close(self) -> None:
        """Stop the making of models. Callers that wait for one get a `WeightsError`."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # otherwise asyncio reports errors for which nobody waits any more

    async def _made_once(self, identity: str) -> Model:
        """Make a model, or wait until another caller has made it."""
        if identity in self._made:
            return self._made[identity]
        making = self._making.get(identity)
        if making is None:
            making = self._making[identity] = _Making(self.begin(self._made_of(identity)))
        making.waiters += 1
        try:
            await asyncio.wait((making.task,))
            if making.task.cancelled():
                raise WeightsError(f"{identity}: its making was stopped, because partsong is closing")
            model = making.task.result()
            if self._making.get(identity) is making:  # else it has a key that has changed meanwhile
                self._made[identity] = model
            return model
        finally:
            making.waiters -= 1
            if making.waiters == 0:
                making.task.cancel()  # without effect if the task is done
                if self._making.get(identity) is making:
                    del self._making[identity]

    async def _made_of(self, identity: str) -> Model:
        """The provider's model for an id, wrapped in its middleware."""
        from partsong.middleware.stack import Wrapping, wrapped
        from partsong.providers.apis import Making

        shared = self._shared
        provider, name = _parts(identity, self.providers)
        settings, known = self.providers[provider], self.configuration.models.get(identity, ModelSettings())
        # A local model makes its calls one after another, so the calls that wait for one must not fill a common gate.
        gate = shared.gate(provider, name if settings.api == "local" else "")
        key = key_of(provider, settings, self.session_keys)
        making = Making(
            name,
            provider,
            settings,
            key,
            known.window,
            shared.connections,
            gate.hear,
            shared.weights,
            self.configuration.bounds,
            shared.loading(name),
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
            self._inside,
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
        self.gates: dict[tuple[str, str], Gate] = {}
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
        from partsong.weights.fetch import Fetching, ensure

        problem: BaseException | None = None
        try:
            return await ensure(name, weights_folder(), progress=self.fetching, access=access())
        except BaseException as error:
            problem = error
            raise
        finally:
            if self.fetching is not None:
                why = "" if problem is None else str(problem) or "nobody waits for this file any more"
                self.fetching(Fetching(name, "ended", note=why))

    def loading(self, name: str) -> Callable[[bool], None]:
        """A function that tells `fetching` when the loading of a model begins and ends. Any thread may call it."""
        from partsong.weights.fetch import Fetching

        loop, fetching = asyncio.get_running_loop(), self.fetching

        def tell(begins: bool) -> None:
            if fetching is not None:
                with suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(fetching, Fetching(name, "loading" if begins else "loaded"))

        return tell

    async def connections(self) -> "Http":
        """The connection pool that all hosted models share."""
        if self.http is None:
            self.http = await self.stack.enter_async_context(_connections(self.bounds, self.providers))
        return self.http

    def gate(self, provider: str, model: str = "") -> "Gate":
        """The concurrency limiter that all models of a provider share, or that of a single model."""
        from partsong.middleware.limit import Gate

        if (provider, model) not in self.gates:
            self.gates[provider, model] = Gate(provider, self.providers[provider].concurrency)
        return self.gates[provider, model]

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
    if wrong := fault(identity, LONGEST_MODEL):
        raise ConfigurationError(f'the model id "{shown(identity)}" {wrong}')
    provider, colon, name = identity.partition(":")
    if not (provider and colon and name):
        raise ConfigurationError(f'"{identity}" is no model id; one has the form "provider:model"{suggested(identity)}')
    if provider not in providers:
        meant = toml.closest(provider, providers) or suggested(identity)
        raise ConfigurationError(
            f'{identity}: there is no provider "{provider}"; known: {", ".join(providers)}'
            f"{meant} (others go into {FILE} as [providers.{provider}])"
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


def _connections(bounds: Bounds, providers: Mapping[str, Provider]) -> "Http":
    """A new connection pool for answers within `bounds`.

    The pool uses the proxies that the environment names (such as `HTTPS_PROXY`)."""
    from urllib.request import getproxies

    from partsong.providers.http import Http

    keys = {name: key_told(provider) for name, provider in providers.items()}
    return Http(proxies=getproxies(), bounds=bounds, keys=keys)
