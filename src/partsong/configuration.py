"""`partsong.toml` as data (providers, models, default recipe), and the providers that partsong knows by name.

Reading the file makes no model and asks no provider. The file never holds an API key, only the name of the environment
variable that holds the key.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from msgspec import Struct

from partsong import addresses, toml
from partsong.bounds import Bounds
from partsong.errors import ConfigurationError
from partsong.folders import user_folder
from partsong.ids import LONGEST_MODEL, LONGEST_NAME, fault, shown
from partsong.provider_keys import key_in

FILE = "partsong.toml"
CONCURRENCY = 64  # calls at once to one provider, where the configuration says nothing

LEAST_MEMORY = 128  # MiB: the process that reads a PDF needs this much before it has read anything
StoreMode = Literal["off", "metadata", "full"]
Kept = Literal["metadata", "full"]
_MODES: dict[str, StoreMode] = {mode: mode for mode in get_args(StoreMode)}
# Each API has a row in `providers.apis`. A hosted API is asked at a `base_url`, with limits, retries and timeouts.
HostedApi = Literal["openai", "anthropic"]
OwnApi = Literal["local", "scripted"]
ApiName = Literal[HostedApi, OwnApi]


def is_hosted(api: ApiName) -> bool:
    """Whether models of the API are asked over the network."""
    return api in get_args(HostedApi)


class Provider(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table `[providers.NAME]`: how to reach a provider.

    api: the API that the provider speaks
    base_url: address of a hosted API, beginning with http:// or https://; "" for other APIs
    key_env: name of the environment variable that holds the API key; `None` (default) if no key is needed
    concurrency: most calls at the same time (default 64)
    first_token: seconds within which a model must begin to answer; `None` (default) for no limit
    silence: seconds without a new token after which an answer is given up; `None` (default) for no limit
    free: whether the provider's models cost nothing (default: no)
    dollars_per_day: dollars that all runs together may spend with the provider in a day (UTC); `None` for no limit
    documents: whether its models are sent PDFs unchanged (default: no); other models are sent the text of a PDF
    key_page: address of the page on which the provider gives keys, for people (default: "", not known)
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
    key_page: str = ""

    def __post_init__(self) -> None:
        if self.key_env is not None and not _names_variable(self.key_env):
            # The text may be a key, which no message may repeat.
            raise ValueError(
                "key_env must be the name of an environment variable, such as OPENAI_API_KEY; a key itself goes into"
                " that variable, or is kept by partsong keys set, and never stands in a configuration"
            )
        if self.key_page and not self.key_page.startswith("https://"):
            raise ValueError(f'key_page is "{self.key_page}", but must begin with https://')
        if is_hosted(self.api) and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f'base_url is "{self.base_url}", but must begin with http:// or https://')
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}, but must be at least 1")
        for name, seconds in (("first_token", self.first_token), ("silence", self.silence)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds}, but must be a number of seconds above 0")
        _check_dollars("dollars_per_day", self.dollars_per_day)


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table `[models."PROVIDER:MODEL"]`: the window and the price of a model. `None` leaves a value to partsong.

    window: context window in tokens, prompt and answer together
    input_dollars_per_million: dollars for a million input tokens; needs the output price beside it
    output_dollars_per_million: dollars for a million output tokens; needs the input price beside it
    cached_input_dollars_per_million: dollars for a million cached input tokens; by default the input price
    documents: whether the model is sent PDFs unchanged; `None` leaves this to what is known of its provider
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
    """The table `[server]`: how the server runs. Options of the command line replace single fields.

    host: address to listen on (default 127.0.0.1)
    port: TCP port from 0 to 65535 (default 8080)
    recipes: offered recipes, as names, TOML files or folders; by default all shipped ones and the default recipe
    models: whether callers may ask for a single `provider:model` instead of a recipe (default: yes)
    workers: processes that share the port and the store (default 1)
    at_once: most runs at the same time in each process (default 1000)
    waiting: most runs that wait for their turn in each process (default 1000)
    patience: most seconds that a run waits for its turn (default 30)
    drain: seconds that open runs have to finish after the server is told to stop (default 30)
    origins: origins of web pages that may call the server (CORS; default: none)
    log: format of the log (default "text")
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
    """The table `[documents]`: limits for the documents of a run. Higher limits take more time and memory.

    megabytes: most MiB of one document (default 24); a larger document is refused
    pages: most pages that are read of a PDF (default 100, as Anthropic's limit); later pages are left out, as reported
    characters: most characters of text of a document (default 1,000,000); later pages of a PDF are left out, and a
        longer text file is refused
    documents: most documents in a conversation (default 20)
    seconds: most seconds to read all PDFs of a conversation (default 20); after them the question is refused
    memory: most MiB of memory for the process that reads a PDF
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


_TOOL_SERVER = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*")
LONGEST_TOOL_SERVER = 32  # characters of a name in [tools]: it is a part of the names of the tools


class ToolServer(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table `[tools.NAME]`: a server of the Model Context Protocol whose tools agents may use to look things up.

    command: program and arguments that run the server, which is then asked over its standard input and output
    url: address of a server over streamable HTTP, in place of `command`
    key_env: name of the environment variable with the server's key: sent to a `url` as a bearer token, and passed on to
        a `command` in its environment, which has no other keys; `None` (default) for no key
    allow: names of the tools that are offered; empty (default) for those that the server declares as only reading
    deadline: seconds within which a tool call must be answered (default 30)
    longest_result: most characters of the results of a round of tool calls that a model reads (default 20,000)
    dollars_per_call: what each tool call costs in dollars (default 0)
    """

    command: tuple[str, ...] = ()
    url: str = ""
    key_env: str | None = None
    allow: tuple[str, ...] = ()
    deadline: float = 30.0
    longest_result: int = 20_000
    dollars_per_call: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command, as a list of texts, or url")
        if self.command and not self.command[0]:
            raise ValueError("command begins with an empty text, but must begin with a program")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f'url is "{shown(self.url)}", but must begin with http:// or https://')
        if self.key_env is not None and not _names_variable(self.key_env):
            raise ValueError("key_env must be the name of an environment variable, and never a key itself")
        if not 0 < self.deadline < float("inf"):
            raise ValueError(f"deadline is {self.deadline}, but must be a number of seconds above 0")
        if not 100 <= self.longest_result <= 1_000_000:
            raise ValueError(f"longest_result is {self.longest_result}, but must be from 100 to 1,000,000 characters")
        _check_dollars("dollars_per_call", self.dollars_per_call)


class Configuration(Struct, frozen=True, omit_defaults=True):
    """The contents of `partsong.toml`.

    recipe: name or TOML file of the default recipe; `None` if the file names none
    store: what is kept of runs in a local file: "full" (default) everything, "metadata" all but words, "off" nothing;
        or the address of a PostgreSQL database (postgresql://…), which several hosts may share
    keep: what is kept of runs in a PostgreSQL database: "full" everything, "metadata" all but words; `None` (default)
        for everything
    dollars_per_run: most dollars for a run whose recipe sets no limit; `None` (default) for no limit
    dollars_per_day: most dollars for all runs of a day (UTC); `None` (default) for no limit
    providers: the tables `[providers.NAME]`, by name
    models: the tables `[models."PROVIDER:MODEL"]`, by model id
    path: the file that was read; `None` if there was no file
    server: the table `[server]`
    documents: the table `[documents]`
    bounds: the table `[bounds]`
    tools: the tables `[tools.NAME]`, by name
    """

    recipe: str | None = None
    store: str = "full"
    dollars_per_run: Decimal | None = None
    dollars_per_day: Decimal | None = None
    providers: dict[str, Provider] = {}
    models: dict[str, ModelSettings] = {}
    path: Path | None = None
    server: Serving = Serving()
    documents: DocumentLimits = DocumentLimits()
    bounds: Bounds = Bounds()
    keep: Kept | None = None
    tools: dict[str, ToolServer] = {}

    def __post_init__(self) -> None:
        _check_store(self.store, self.keep)

    def __repr__(self) -> str:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.database is not None:  # without its password
            fields["store"] = addresses.shown(self.database)
        return f"Configuration({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    @property
    def database(self) -> str | None:
        """The address of the PostgreSQL database that is the store; `None` for the local file."""
        return self.store if addresses.is_address(self.store) else None

    @property
    def mode(self) -> StoreMode:
        """What the store keeps."""
        if self.database is not None:
            return self.keep or "full"
        return _MODES[self.store]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    recipe: str | None = None
    store: str = "full"
    keep: Kept | None = None
    dollars_per_run: Decimal | None = None
    dollars_per_day: Decimal | None = None
    providers: dict[str, dict[str, Any]] = {}
    models: dict[str, dict[str, Any]] = {}
    server: dict[str, Any] = {}
    documents: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    tools: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        _check_dollars("dollars_per_run", self.dollars_per_run)
        _check_dollars("dollars_per_day", self.dollars_per_day)
        _check_store(self.store, self.keep)


def read_configuration(path: Path) -> Configuration:
    """The configuration in the file `path`.

    Raises `ConfigurationError`, with the file and the field, if the file cannot be read or a field is wrong.
    """
    file = toml.convert(toml.load(path, ConfigurationError), _File, str(path), ConfigurationError)

    def entries(kind: type[Any], table: str, given: dict[str, dict[str, Any]], longest: int) -> dict[str, Any]:
        for name in given:
            if wrong := fault(name, longest):
                raise ConfigurationError(f'{path}: {table}."{shown(name)}": the name {wrong}')
        return {
            name: toml.convert(fields, kind, str(path), ConfigurationError, f'{table}."{name}"')
            for name, fields in given.items()
        }

    for name in file.tools:
        if len(name) > LONGEST_TOOL_SERVER or not _TOOL_SERVER.fullmatch(name):
            raise ConfigurationError(
                f'{path}: tools."{shown(name)}": the name must be at most {LONGEST_TOOL_SERVER} letters, digits, '
                "hyphens and single underscores between them"
            )
    recipe = file.recipe
    if recipe is not None and recipe.endswith(".toml"):
        recipe = str(path.parent / Path(recipe).expanduser())
    return Configuration(
        recipe,
        file.store,
        file.dollars_per_run,
        file.dollars_per_day,
        entries(Provider, "providers", file.providers, LONGEST_NAME),
        entries(ModelSettings, "models", file.models, LONGEST_MODEL),
        path,
        toml.convert(file.server, Serving, str(path), ConfigurationError, "server"),
        toml.convert(file.documents, DocumentLimits, str(path), ConfigurationError, "documents"),
        toml.convert(file.bounds, Bounds, str(path), ConfigurationError, "bounds"),
        file.keep,
        entries(ToolServer, "tools", file.tools, LONGEST_NAME),
    )


def find_configuration(explicit: Path | None = None) -> Configuration:
    """The configuration in the first file that exists, or an empty configuration if there is no file.

    The files are `partsong.toml` in the current folder, and then in the user's configuration folder. If `explicit` is
    given, only that file is read. Raises `ConfigurationError` as `read_configuration` does.
    """
    if explicit is not None:
        return read_configuration(explicit)
    for path in (Path(FILE), user_folder("config") / FILE):
        if path.is_file():
            return read_configuration(path)
    return Configuration()


def has_key(provider: Provider) -> bool:
    """Whether the provider's API key is set or kept (see `provider_keys`), or the provider needs no key."""
    return provider.key_env is None or bool(key_in(provider.key_env))


def key_of(name: str, provider: Provider, session: Mapping[str, str] | None = None) -> str | None:
    """The API key of a provider, from the environment or as kept; `None` if the provider needs no key.

    name: the provider's name, for error messages
    session: keys by environment variable that this process knows until it ends; none by default

    Raises `ConfigurationError` if the key is missing or has characters that HTTP headers forbid.
    """
    if provider.key_env is None:
        return None
    key = key_in(provider.key_env, session)
    if not key:
        raise ConfigurationError(
            f"{name}: needs a key, but the environment variable {provider.key_env} is not set "
            f"(partsong keys set {name} keeps a key)"
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"{name}: the key in {provider.key_env} has characters that no key can have")
    return key


def tool_key_of(name: str, server: ToolServer) -> str | None:
    """The key of a server with tools, from the environment or as kept; `None` if it needs no key.

    Raises `ConfigurationError` if the key is missing or has characters that HTTP headers forbid.
    """
    if server.key_env is None:
        return None
    key = key_in(server.key_env)
    if not key:
        raise ConfigurationError(f"tools.{name}: needs a key, but the environment variable {server.key_env} is not set")
    if not key.isascii() or not key.isprintable():
        raise ConfigurationError(f"tools.{name}: the key in {server.key_env} has characters that no key can have")
    return key


def key_told(provider: Provider) -> str:
    """Where the provider's API key is and where the provider gives keys, for messages; "" if it needs no key."""
    if provider.key_env is None:
        return ""
    variable = provider.key_env
    place = f"in the environment variable {variable}" if os.environ.get(variable) else f"kept for {variable}"
    return f"the key is {place}" + (f"; {provider.key_page} gives keys" if provider.key_page else "")


def _names_variable(text: str) -> bool:
    """Whether the text can be the name of an environment variable, and does not look like a key put in its place."""
    looks = len(text) >= 20 and re.search("[a-z]", text) and re.search("[0-9]", text)
    return bool(re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,99}", text)) and not looks


def known_providers() -> dict[str, Provider]:
    """The providers that need no entry in `partsong.toml`, by name."""
    return dict(_known_providers())


@cache  # a recipe with hundreds of models would otherwise read the file for each of them
def _known_providers() -> dict[str, Provider]:
    text = (resources.files("partsong") / "providers" / "known.toml").read_text(encoding="utf-8")
    return toml.convert(tomllib.loads(text), dict[str, Provider], "known.toml", ConfigurationError)


def _check_dollars(name: str, dollars: Decimal | None) -> None:
    if dollars is not None and not (dollars.is_finite() and dollars >= 0):
        raise ValueError(f"{name} is {dollars}, but must be 0 dollars or more")


def _check_store(store: str, keep: Kept | None) -> None:
    """Raise `ValueError` for a store that is neither a mode nor an address. The message never has a password."""
    if addresses.is_address(store):
        if (wrong := addresses.fault_of(store)) is not None:
            raise ValueError(f"store: {wrong}")
    elif store not in _MODES:
        # A mistyped address may have a password, too.
        said = "an address of another kind" if "://" in store or "@" in store else f'"{shown(store)}"'
        raise ValueError(f'store is {said}, but must be "full", "metadata", "off" or {addresses.FORM}')
    elif keep is not None:
        raise ValueError('keep is for a store at a postgresql:// address; for the local file, say store = "metadata"')
