"""Configuration in, models out: the only file that knows providers and middleware, and that reads the environment.

An id, `provider:model`, is looked up among the providers of the configuration, then among those that partsong knows.
Everything that can be wrong with an id, an address or a key is said before the first model is made.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from partsong import toml
from partsong.configuration import (
    FILE,
    Configuration,
    ModelSettings,
    Provider,
    Serving,
    StoreMode,
    known_providers,
    read_configuration,
)
from partsong.errors import ConfigurationError, StoreError
from partsong.model import Model
from partsong.model_info import ModelInfo, info_of
from partsong.recipe import Recipe, find_recipe, is_shipped

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from partsong.keys import Keys
    from partsong.middleware.breaker import Health
    from partsong.middleware.cache import Flights
    from partsong.middleware.limit import Gate
    from partsong.middleware.price import Pricing
    from partsong.middleware.throughput import Speed
    from partsong.money.funding import DailyFunds
    from partsong.providers.http import Http
    from partsong.store import Store
    from partsong.store import Throughput as StoredThroughput
    from partsong.weights.fetch import Access, Progress

SERVER = "PARTSONG_SERVER"  # the variable in which a server's processes find what they were told


def find_configuration(explicit: Path | None = None) -> Configuration:
    """The configuration in `explicit`, else in this folder, else in the user's; an empty one if there is none.

    Raises `ConfigurationError`, naming file and field.
    """
    if explicit is not None:
        return read_configuration(explicit)
    for path in (Path(FILE), user_folder("config") / FILE):
        if path.is_file():
            return read_configuration(path)
    return Configuration()


def has_key(provider: Provider) -> bool:
    """Whether the provider's key is in the environment, or none is needed."""
    return provider.key_env is None or bool(os.environ.get(provider.key_env))


async def reachable(names: Iterable[str], configuration: Configuration) -> dict[str, str | None]:
    """What is wrong with the endpoints of these providers, all asked at once; `None` for those that answer."""
    from partsong.providers import anthropic, openai

    providers = known_providers() | configuration.providers

    async def ask(name: str) -> str | None:
        provider = providers[name]
        ask_for_models = anthropic.reachable if provider.api == "anthropic" else openai.reachable
        try:
            return await ask_for_models(http, provider.base_url, _key(name, provider))
        except ConfigurationError as problem:
            return str(problem)

    async with _connections() as http, asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(ask(name)) for name in names if providers[name].base_url}
    return {name: task.result() for name, task in asked.items()}


def user_folder(kind: Literal["config", "cache", "state"]) -> Path:
    """Where this user keeps partsong's configuration, its downloads (`PARTSONG_CACHE` moves those), or its store
    (`PARTSONG_STATE` moves that).
    """
    if kind != "config" and (moved := os.environ.get(f"PARTSONG_{kind.upper()}")):
        return Path(moved)
    if base := os.environ.get(f"XDG_{kind.upper()}_HOME"):
        return Path(base) / "partsong"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "partsong" / kind
    if sys.platform == "darwin":
        folder = "Caches" if kind == "cache" else "Application Support"
        return Path.home() / "Library" / folder / "partsong"
    return Path.home() / (".local/state" if kind == "state" else f".{kind}") / "partsong"


def recipes_folder() -> Path:
    """Where this user's own recipes are kept, those that were saved from the page."""
    return user_folder("config") / "recipes"


def named_recipe(name: str) -> Recipe:
    """The recipe called `name`: a shipped one, a TOML file, or one of the user's own. Raises `RecipeError`."""
    return find_recipe(place_of(name))


def place_of(name: str) -> str:
    """The file of the user's own recipe that is called so; any other name as it is. A shipped recipe goes before."""
    own = recipes_folder() / f"{name}.toml"
    if name.endswith(".toml") or own.parent != recipes_folder() or is_shipped(name) or not own.is_file():
        return name
    return str(own)


def store_path() -> Path:
    """The file in which this user's runs and calls are kept."""
    return user_folder("state") / "journal.db"


def open_journal(configuration: Configuration, mode: StoreMode | None = None) -> "AbstractAsyncContextManager[Store]":
    """This user's store of runs and calls, to be entered; `mode` replaces what the configuration says is kept."""
    from partsong.store import open_store

    return open_store(store_path(), mode or configuration.store)


def daily_funds(configuration: Configuration, store: "Store") -> "DailyFunds | None":
    """What may be spent in a day, as the configuration says and the store keeps count; `None` where nothing is said."""
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
    hears how far that is. In a `store` every finished call is kept, and found again. Raises `ConfigurationError` for an
    id, a provider or a key that will not do, and `WeightsError` where weights cannot be had; both before any model is
    called.
    """
    async with assembling(configuration, fetching=fetching, store=store) as assembly:
        yield await assembly.models(ids)


@asynccontextmanager
async def assembling(
    configuration: Configuration | None = None, *, fetching: "Progress | None" = None, store: "Store | None" = None
) -> AsyncIterator["Assembly"]:
    """What makes models when they are asked for, and lets them share connections, limits and the store."""
    configuration = find_configuration() if configuration is None else configuration
    async with AsyncExitStack() as stack:
        yield Assembly(stack, configuration, fetching, store)


class Assembly:
    """Makes each model once. Whatever it makes can be called until the block of `assembling` is left."""

    def __init__(
        self, stack: AsyncExitStack, configuration: Configuration, fetching: "Progress | None", store: "Store | None"
    ) -> None:
        self.configuration = configuration
        self.providers = known_providers() | configuration.providers
        self.store = store
        self._makers = _Makers(stack, self.providers, fetching, store)
        self._made: dict[str, Model] = {}
        self._turn = asyncio.Lock()

    def check(self, ids: Iterable[str]) -> None:
        """Raise `ConfigurationError` for an id, a provider or a key that will not do; nothing is made or fetched."""
        for name in ids:
            if name in self._made:
                continue
            provider, model = _place(name, self.providers)
            settings = self.providers[provider]
            if settings.api == "local":
                from partsong.weights.catalogue import find

                find(model)  # a name that is none is said before anything is fetched
            _key(provider, settings)

    def window(self, name: str) -> int | None:
        """Tokens that the model reads, as far as that is known, also before it is made."""
        if name in self._made:
            return info_of(self._made[name]).window
        provider, model = _place(name, self.providers)
        settings = self.providers[provider]
        if (known := self.configuration.models.get(name, ModelSettings()).window) is not None:
            return known
        if settings.api == "local":
            from partsong.providers.local import WINDOW

            return WINDOW
        if settings.base_url.startswith("https://"):
            from partsong.providers.windows import listed_window

            return listed_window(settings.base_url, model)
        return None

    async def models(self, ids: Iterable[str]) -> dict[str, Model]:
        """A model for each id. Raises as `assemble` does, before anything is fetched."""
        names = tuple(dict.fromkeys(ids))
        if new := [name for name in names if name not in self._made]:
            self.check(new)
            async with self._turn:
                await self._make([name for name in new if name not in self._made])
        return {name: self._made[name] for name in names}

    async def _make(self, names: Sequence[str]) -> None:
        places = {name: _place(name, self.providers) for name in names}
        await self._makers.remember(places)
        known = self.configuration.models
        made = {
            name: await self._makers.make(*place, known.get(name, ModelSettings())) for name, place in places.items()
        }
        for name, model in made.items():
            self._made[name] = _wrapped(model, name, *places[name], self.configuration, self._makers)


def _place(name: str, providers: Mapping[str, Provider]) -> tuple[str, str]:
    """The provider's name and the model's, of an id. Raises `ConfigurationError`."""
    provider, colon, model = name.partition(":")
    if not (provider and colon and model):
        raise ConfigurationError(f'"{name}" is no model id; one has the form "provider:model"')
    if provider not in providers:
        raise ConfigurationError(
            f'{name}: there is no provider "{provider}"; known: {", ".join(providers)}'
            f"{toml.closest(provider, providers)} (others go into {FILE} as [providers.{provider}])"
        )
    return provider, model


def _key(name: str, provider: Provider) -> str | None:
    if provider.key_env is None:
        return None
    key = os.environ.get(provider.key_env, "").strip()
    if not key:
        raise ConfigurationError(f"{name}: needs a key, but the environment variable {provider.key_env} is not set")
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{name}: the key in {provider.key_env} has characters that no key can have")
    return key


def weights_folder() -> Path:
    """Where the files of local models are kept."""
    return user_folder("cache") / "models"


def access() -> "Access":
    """How weights are fetched: the hub and the token that the environment names, as the hub's own tools do."""
    from partsong.weights.fetch import HUB, Access

    return Access(hub=os.environ.get("HF_ENDPOINT") or HUB, token=os.environ.get("HF_TOKEN") or None)


def _connections() -> "Http":
    """Connections, through the proxies that the environment names."""
    from urllib.request import getproxies

    from partsong.providers.http import Http

    return Http(proxies=getproxies())


class _Makers:
    """Makes the models of one assembly. A provider's code is imported when its first model is made."""

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
        self.health: dict[str, Health] = {}
        self.throughputs: dict[str, StoredThroughput] = {}
        self.flights: Flights = {}

    async def remember(self, ids: Iterable[str]) -> None:
        """Begin with what the store knows of how fast the models have been."""
        if self.store is not None:
            with suppress(StoreError):  # a store that fails is as good as none; it says so itself
                self.throughputs.update(await self.store.throughputs(ids))

    def speed(self, identity: str) -> "Speed":
        """How fast a model has been, as far as the store knows."""
        from partsong.middleware.throughput import Speed

        pace = self.throughputs.get(identity)
        return Speed() if pace is None else Speed(first=pace.first or 0.0, each=pace.each, typical=pace.tokens)

    async def make(self, provider: str, name: str, known: ModelSettings) -> Model:
        settings = self.providers[provider]
        match settings.api:
            case "scripted":
                from partsong.providers.scripted import Scripted

                return Scripted(name)
            case "local":
                return await self.local(name, known.window)
            case "openai":
                from partsong.providers.openai import OpenAI

                http = await self.connections()
                told, key = self.gate(provider).hear, _key(provider, settings)
                return OpenAI(http, provider=provider, base_url=settings.base_url, name=name, key=key, told=told)
            case "anthropic":
                from partsong.providers.anthropic import Anthropic

                http = await self.connections()
                told, key = self.gate(provider).hear, _key(provider, settings)
                return Anthropic(http, provider=provider, base_url=settings.base_url, name=name, key=key, told=told)

    async def local(self, name: str, window: int | None) -> Model:
        from partsong.providers.local import WINDOW, Local, check_installed
        from partsong.weights.fetch import ensure

        check_installed(name)
        path = await ensure(name, weights_folder(), progress=self.fetching, access=access())
        return Local(path, name, window=window or WINDOW)

    async def connections(self) -> "Http":
        """The one pool of connections that all hosted models of this assembly share."""
        if self.http is None:
            self.http = await self.stack.enter_async_context(_connections())
        return self.http

    def gate(self, provider: str) -> "Gate":
        """The gate that all models of a provider share."""
        from partsong.middleware.limit import Gate

        if provider not in self.gates:
            self.gates[provider] = Gate(provider, self.providers[provider].concurrency)
        return self.gates[provider]

    def health_of(self, provider: str) -> "Health":
        """How a provider has been, as all its models have seen it."""
        from partsong.middleware.breaker import Health

        if provider not in self.health:
            self.health[provider] = Health(provider)
        return self.health[provider]


def pricing(identity: str, configuration: Configuration) -> "Pricing | None":
    """What a usage of the model costs, as far as that is known; no key is needed to know it.

    Raises `ConfigurationError` for an id whose provider there is not.
    """
    from partsong.middleware.price import fixed, listed

    providers = known_providers() | configuration.providers
    provider, name = _place(identity, providers)
    settings, known = providers[provider], configuration.models.get(identity, ModelSettings())
    if known.input_dollars_per_million is not None and known.output_dollars_per_million is not None:
        return fixed(
            known.input_dollars_per_million, known.output_dollars_per_million, known.cached_input_dollars_per_million
        )
    if settings.api == "scripted":
        from partsong.providers.scripted import Scripted

        script = Scripted(name).script
        return fixed(script.input, script.output)
    if settings.free or settings.api == "local":
        return fixed(Decimal(0), Decimal(0))
    return listed(settings.base_url, name) if settings.base_url.startswith("https://") else None


def info_without_model(identity: str, configuration: Configuration) -> ModelInfo:
    """What is known of a model without making it. Raises `ConfigurationError` as `pricing` does."""
    known = configuration.models.get(identity, ModelSettings())
    return ModelInfo(window=known.window, dollars=pricing(identity, configuration))


def _wrapped(
    model: Model, identity: str, provider: str, name: str, configuration: Configuration, makers: _Makers
) -> Model:
    """The model in its middleware: what is known of its price and window, and how its provider is to be asked."""
    from partsong.middleware.breaker import Breaker
    from partsong.middleware.cache import Cache
    from partsong.middleware.limit import Limit
    from partsong.middleware.price import Price
    from partsong.middleware.retry import Retry
    from partsong.middleware.throughput import Throughput
    from partsong.middleware.timeouts import Timeouts
    from partsong.middleware.window import Window

    settings, known, own = (
        makers.providers[provider],
        configuration.models.get(identity, ModelSettings()),
        info_of(model),
    )
    hosted = settings.api in ("openai", "anthropic")
    dollars, speed = pricing(identity, configuration), makers.speed(identity)
    if hosted and (settings.first_token is not None or settings.silence is not None):
        model = Timeouts(model, settings.first_token, settings.silence)
    model = Throughput(model, speed)
    if hosted:
        model = Breaker(Limit(model, name, makers.gate(provider)), makers.health_of(provider))
    if dollars is not None:
        model = Price(model, dollars)
    if hosted:
        model = Retry(model)
    if makers.store is not None:
        model = Cache(model, identity, makers.store, makers.flights, settings.base_url)
    window, listed = known.window or own.window, False
    if window is None and settings.base_url.startswith("https://"):
        from partsong.providers.windows import listed_window

        window, listed = listed_window(settings.base_url, name), True
    documents = settings.documents if known.documents is None else known.documents
    info = ModelInfo(window, own.max_tokens, dollars, own.count, speed.seconds, listed, documents or own.documents)
    return Window(model, identity, info)


def keys_path() -> Path:
    """The file in which the keys of this user's server are kept."""
    return user_folder("state") / "keys.json"


def keys_of_server() -> "Keys":
    """The keys that callers of this user's server show."""
    from partsong.keys import Keys

    return Keys(keys_path())


def tell_workers(configuration: Configuration, mode: StoreMode | None, serving: Serving) -> None:
    """Let the processes of a server that is about to start know what it was told."""
    path = None if configuration.path is None else str(configuration.path.absolute())
    os.environ[SERVER] = msgspec.json.encode(_Told(path, mode, serving)).decode()


def server_settings() -> tuple[Configuration, StoreMode | None]:
    """The configuration of a server's process, and what its store keeps: as it was told, else as it is found."""
    if not (told := os.environ.get(SERVER)):
        return find_configuration(), None
    settings = msgspec.json.decode(told, type=_Told)
    configuration = Configuration() if settings.config is None else read_configuration(Path(settings.config))
    return msgspec.structs.replace(configuration, server=settings.serving), settings.store


class _Told(msgspec.Struct, frozen=True):
    config: str | None
    store: StoreMode | None
    serving: Serving
