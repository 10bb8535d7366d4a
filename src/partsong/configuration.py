"""`partsong.toml`: providers, models and the default recipe, as data. And the providers that partsong knows by name.

Reading it makes nothing and asks nobody; a key never stands in it, only the name of the variable that holds one.
"""

import tomllib
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from partsong import toml
from partsong.errors import ConfigurationError

FILE = "partsong.toml"
CONCURRENCY = 64  # calls at once to one provider, where the configuration says nothing


LEAST_MEMORY = 128  # MiB: the process that reads a PDF needs this much before it has read anything
StoreMode = Literal["off", "metadata", "full"]


class Provider(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to reach a provider: which API it speaks, where, and which environment variable holds the key (if any).

    `concurrency` is how many calls it takes at once, `first_token` and `silence` how many seconds a model may take to
    begin, and may say nothing once it has begun. What is `free` costs nothing. `dollars_per_day` is what may be spent
    there in a day (UTC), over all runs. `documents` is whether its models take PDFs as they are.
    """

    api: Literal["openai", "anthropic", "local", "scripted"]
    base_url: str = ""
    key_env: str | None = None
    concurrency: int = CONCURRENCY
    first_token: float | None = None
    silence: float | None = None
    free: bool = False
    dollars_per_day: Decimal | None = None
    documents: bool = False

    def __post_init__(self) -> None:
        if self.api in ("openai", "anthropic") and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f'base_url is "{self.base_url}", but must begin with http:// or https://')
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}, but must be at least 1")
        for name, seconds in (("first_token", self.first_token), ("silence", self.silence)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds}, but must be a number of seconds above 0")
        _check_dollars("dollars_per_day", self.dollars_per_day)


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a model: how many tokens it reads, and what a million of them costs.

    Cached input costs as much as any other where nothing is said about it. `documents` is whether the model takes PDFs
    as they are; `None` for what is known of its provider.
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
    """How the server runs: the table `[server]`, with what the command line says in its place.

    `recipes` are names of shipped recipes or TOML files (a folder stands for those in it); without any, all shipped
    ones and the default recipe are served. `models` is whether callers may name a `provider:model`. Each of `workers`
    processes performs `at_once` runs and lets `waiting` more wait for at most `patience` seconds. Once it is told to
    stop it has `drain` seconds to finish. `origins` are web pages' that may call it (CORS); `log` is how it writes its
    log.
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
    """`partsong.toml`, read. `path` is where it stood, `None` if there was none.

    `store` says what is kept of runs: everything, no words, or nothing. `dollars_per_run` is what a run may cost where
    its recipe says nothing, `dollars_per_day` what all runs of a day (UTC) may.
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


def known_providers() -> dict[str, Provider]:
    """The providers that partsong knows by name."""
    text = (resources.files("partsong") / "providers" / "known.toml").read_text(encoding="utf-8")
    return toml.convert(tomllib.loads(text), dict[str, Provider], "known.toml", ConfigurationError)


def _check_dollars(name: str, dollars: Decimal | None) -> None:
    if dollars is not None and not (dollars.is_finite() and dollars >= 0):
        raise ValueError(f"{name} is {dollars}, but must be 0 dollars or more")
