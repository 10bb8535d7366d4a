"""`partsong.toml`: providers, models and the default recipe, as data. And the providers that partsong knows by name.

Reading the file makes no model and asks no provider. The file never holds a key, only the name of the environment
variable that does.
"""

import os
import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from msgspec import Struct

from partsong import toml
from partsong.errors import ConfigurationError
from partsong.folders import user_folder

FILE = "partsong.toml"
CONCURRENCY = 64  # calls at once to one provider, where the configuration says nothing

LEAST_MEMORY = 128  # MiB: the process that reads a PDF needs this much before it has read anything
StoreMode = Literal["off", "metadata", "full"]
# Each API has its row in `providers.apis`. A hosted one is asked at a `base_url`, with limits, retries and timeouts.
HostedApi = Literal["openai", "anthropic"]
OwnApi = Literal["local", "scripted"]
ApiName = Literal[HostedApi, OwnApi]


def is_hosted(api: ApiName) -> bool:
    """Whether models of the API are asked over the network."""
    return api in get_args(HostedApi)


class Provider(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to reach a provider.

    api: the API that it speaks
    base_url: its address, for a hosted API
    key_env: the environment variable that holds its key, `None` if it needs no key
    concurrency: calls at once
    first_token: seconds within which a model must begin to answer, `None` for no limit
    silence: seconds for which a model that has begun may say nothing, `None` for no limit
    free: whether its models cost nothing
    dollars_per_day: dollars that all runs together may spend there in a day (UTC), `None` for no limit
    documents: whether its models take PDFs as they are; all others read the text of a PDF
    """

    api: ApiName
    base_url: str = ""
    key_env: str | None = None
    concurrency: int = CONCURRENCY
    first_token: float | None = None
    silence: float | None = None
    free: bool = False
    dollars_per_day: Decimal | None = None
    documents: bool = False

    def __post_init__(self) -> None:
        if is_hosted(self.api) and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f'base_url is "{self.base_url}", but must begin with http:// or https://')
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}, but must be at least 1")
        for name, seconds in (("first_token", self.first_token), ("silence", self.silence)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds}, but must be a number of seconds above 0")
        _check_dollars("dollars_per_day", self.dollars_per_day)


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the user says of a model.

    window: tokens that it reads, the answer included
    input_dollars_per_million, output_dollars_per_million: dollars for a million tokens
    cached_input_dollars_per_million: the same for cached input; by default it costs as much as other input
    documents: whether the model takes PDFs as they are, `None` for what is known of its provider
    """

    window: int | None = None
    input_dollars_per_million: Decimal | None = None
    output_dollars_per_million: Decimal | None = None
    cached_input_dollars_per_million: Decimal | None = None
    documents: bool | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}, but must be at least 1 token")
        prices = (self.input_dollars_per_million, self.output_dollars_per_million)
        if (prices[0] is None) != (prices[1] is None):
            raise ValueError("a price needs both input_dollars_per_million and output_dollars_per_million")
        cached = self.cached_input_dollars_per_million
        if cached is not None and prices[0] is None:
            raise ValueError("cached_input_dollars_per_million is given without input_dollars_per_million")
        if any(price is not None and (not price.is_finite() or price < 0) for price in (*prices, cached)):
            raise ValueError("a price must be 0 dollars or more")


class Serving(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the server runs: the table `[server]`, of which the command line may replace fields.

    host, port: where it listens
    recipes: names of shipped recipes, or TOML files or folders of them; by default all shipped ones and the default one
    models: whether callers may name a `provider:model`
    workers: processes that share the port and the store
    at_once: runs at once in each process
    waiting: runs that wait for their turn in each process
    patience: seconds that a run waits at most
    drain: seconds that runs have to finish once the server is told to stop
    origins: origins of web pages that may call it (CORS)
    log: the format of its log
    """

    host: str = "127.0.0.1"
    port: int = 8080
    recipes: tuple[str, ...] = ()
    models: bool = True
    workers: int = 1
    at_once: int = 1000
    waiting: int = 1000
    patience: float = 30.0
    drain: float = 30.0
    origins: tuple[str, ...] = ()
    log: Literal["text", "json"] = "text"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}, but must be from 0 to 65535")
        for name, number in (("workers", self.workers), ("at_once", self.at_once)):
            if number < 1:
                raise ValueError(f"{name} is {number}, but must be at least 1")
        if self.waiting < 0:
            raise ValueError(f"waiting is {self.waiting}, but must be 0 or more")
        for name, seconds in (("patience", self.patience), ("drain", self.drain)):
            if not 0 <= seconds < float("inf"):
                raise ValueError(f"{name} is {seconds}, but must be 0 seconds or more")


class DocumentLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much of its documents a run reads: the table `[documents]`. Whoever wants more pays in time and memory.

    megabytes: MiB of one document at most; a larger one is refused. All documents of a request are bounded by its body
    pages: pages of one PDF that are read; the later ones are left out, which is told. 100 is Anthropic's limit
    characters: text of one document at most; later pages are left out, and a longer file of text is refused
    documents: documents of a conversation at most
    seconds: how long the reading of all PDFs of a conversation may take; after that the question is refused
    memory: MiB of memory for the reading of one PDF
    """

    megabytes: int = 24
    pages: int = 100
    characters: int = 1_000_000
    documents: int = 20
    seconds: float = 20.0
    memory: int = 1024

    def __post_init__(self) -> None:
        for name in ("megabytes", "pages", "characters", "documents"):
            if (number := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {number}, but must be at least 1")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds is {self.seconds}, but must be a number of seconds above 0")
        if self.memory < LEAST_MEMORY:
            raise ValueError(f"memory is {self.memory}, but must be at least {LEAST_MEMORY} MiB")


class Configuration(Struct, frozen=True, omit_defaults=True):
    """`partsong.toml`, read.

    recipe: the default recipe
    store: what is kept of runs: everything, no words, or nothing
    dollars_per_run: dollars that a run may cost if its recipe sets no limit, `None` for no limit
    dollars_per_day: dollars that all runs of a day (UTC) may cost, `None` for no limit
    path: the file, `None` if there was none
    """

    recipe: str | None = None
    store: StoreMode = "full"
    dollars_per_run: Decimal | None = None
    dollars_per_day: Decimal | None = None
    providers: dict[str, Provider] = {}
    models: dict[str, ModelSettings] = {}
    path: Path | None = None
    server: Serving = Serving()
    documents: DocumentLimits = DocumentLimits()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    recipe: str | None = None
    store: StoreMode = "full"
    dollars_per_run: Decimal | None = None
    dollars_per_day: Decimal | None = None
    providers: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    server: dict[str, Any] = {}
    documents: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _check_dollars("dollars_per_run", self.dollars_per_run)
        _check_dollars("dollars_per_day", self.dollars_per_day)


def read_configuration(path: Path) -> Configuration:
    """The configuration in a file. Raises `ConfigurationError`, naming file and field."""
    file = toml.convert(toml.load(path, ConfigurationError), _File, str(path), ConfigurationError)

    def entries(kind: type[Any], table: str, given: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {
            name: toml.convert(fields, kind, str(path), ConfigurationError, f'{table}."{name}"')
            for name, fields in given.items()
        }

    recipe = file.recipe
    if recipe is not None and recipe.endswith(".toml"):
        recipe = str(path.parent / Path(recipe).expanduser())
    return Configuration(
        recipe,
        file.store,
        file.dollars_per_run,
        file.dollars_per_day,
        entries(Provider, "providers", file.providers),
        entries(ModelSettings, "models", file.models),
        path,
        toml.convert(file.server, Serving, str(path), ConfigurationError, "server"),
        toml.convert(file.documents, DocumentLimits, str(path), ConfigurationError, "documents"),
    )


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


def key_of(name: str, provider: Provider) -> str | None:
    """The provider's key, `None` if it needs none. Raises `ConfigurationError` if it is missing or cannot be one."""
    if provider.key_env is None:
        return None
    key = os.environ.get(provider.key_env, "").strip()
    if not key:
        raise ConfigurationError(f"{name}: needs a key, but the environment variable {provider.key_env} is not set")
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{name}: the key in {provider.key_env} has characters that no key can have")
    return key


def known_providers() -> dict[str, Provider]:
    """The providers that partsong knows by name."""
    text = (resources.files("partsong") / "providers" / "known.toml").read_text(encoding="utf-8")
    return toml.convert(tomllib.loads(text), dict[str, Provider], "known.toml", ConfigurationError)


def _check_dollars(name: str, dollars: Decimal | None) -> None:
    if dollars is not None and not (dollars.is_finite() and dollars >= 0):
        raise ValueError(f"{name} is {dollars}, but must be 0 dollars or more")
