"""`partsong doctor`: checks the configuration, the keys and the endpoints. No key is ever printed.

An endpoint is called if its provider is configured, if the provider's key is set, or if the provider needs no key. Only
a provider that the user has set up is reported as broken. A shipped local server that is not running is no fault.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

from partsong.addresses import shown
from partsong.assembly import assembling, missing, open_journal, reachable
from partsong.cli.ask import DEFAULT_RECIPE
from partsong.cli.loop import complete
from partsong.cli.models import key_of
from partsong.cli.options import Config
from partsong.cli.printable import single_line
from partsong.cli.table import print_table
from partsong.configuration import FILE, Configuration, Provider, find_configuration, has_key, known_providers
from partsong.errors import ConfigurationError, RecipeError, StoreError
from partsong.folders import store_path, user_folder, weights_folder
from partsong.recipes.finding import named_recipe

GIGABYTE = 1e9


def doctor(*, config: Config = None) -> int:
    """Check the configuration, the keys and the endpoints of the providers."""
    configuration = find_configuration(config)
    providers = known_providers() | configuration.providers
    asked = [name for name, provider in providers.items() if is_asked(name, provider, configuration)]
    problems = complete(reachable(asked, configuration))
    broken = [f"{name}: {why}" for name, why in problems.items() if why and is_set_up(name, configuration, providers)]
    recipe, wrong = default_recipe(configuration, providers)
    if configuration.recipe is not None:
        broken += [f"recipe {configuration.recipe}: {why}" for why in wrong]
    store, fault = store_of(configuration)
    broken += [f"store: {fault}"] if fault else []
    print_table(
        ("what", "found"),
        [
            (
                "partsong",
                f"{version('partsong')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
            ),
            (
                "local models",
                version("xllamacpp", "xllamacpp ") or 'xllamacpp is not installed: pip install "partsong[local]"',
            ),
            ("configuration", str(configuration.path or f"none ({FILE} here, or in {user_folder('config')})")),
            ("recipe", recipe),
            ("store", store),
            ("weights", weights()),
        ],
    )
    print()
    print_table(
        ("provider", "key", "endpoint"),
        [
            (name, key_of(provider), endpoint(name, problems, is_set_up(name, configuration, providers)))
            for name, provider in providers.items()
            if provider.base_url
        ],
    )
    if configuration.tools:
        listed = complete(tools_of(configuration))
        broken += [f"tools.{name}: {why}" for name, (_, why) in listed.items() if why]
        print()
        print_table(("server with tools", "tools"), [(name, found or "none") for name, (found, _) in listed.items()])
    for problem in broken:
        print(f"\nbroken: {single_line(problem, sys.stdout.encoding)}")
    return 1 if broken else 0


def store_of(configuration: Configuration) -> tuple[str, str]:
    """Return the store as text, and what is wrong with it ("" for nothing). A database is connected to."""
    if configuration.mode == "off":
        return "off", ""
    if configuration.database is None:
        return f"{store_path()} ({configuration.mode})", ""
    name = f"{shown(configuration.database)} ({configuration.mode})"
    try:
        complete(probe(configuration))
    except (StoreError, ConfigurationError) as problem:
        return f"{name}: cannot be used", str(problem)
    return f"{name}: can be written", ""


async def probe(configuration: Configuration) -> None:
    """Connect to the database and write to it. Raises `StoreError` if this cannot be done."""
    async with open_journal(configuration) as store:
        await store.probe()


async def tools_of(configuration: Configuration) -> dict[str, tuple[str, str]]:
    """Return the tools of each configured server as text, and what is wrong with the server ("" for nothing).

    Each server is started for the question and ended again. Raises `ConfigurationError` if the library is missing.
    """
    async with assembling(configuration) as assembly:
        servers = assembly.servers()
        offers = await servers.offers(servers.names)
        found: dict[str, tuple[str, str]] = {}
        for name, offer in offers.items():
            listed = await servers.listed(name)
            tools = ", ".join(tool if is_offered else f"({tool})" for tool, is_offered in listed)
            found[name] = single_line(tools, sys.stdout.encoding), offer.problem
        return found


def is_asked(name: str, provider: Provider, configuration: Configuration) -> bool:
    """Return whether to call the provider's endpoint.

    Shipped providers whose key is not set are not called, because they would only answer that a key is needed.
    """
    return bool(provider.base_url) and (name in configuration.providers or has_key(provider))


def is_set_up(name: str, configuration: Configuration, providers: dict[str, Provider]) -> bool:
    """Return whether the user has set up a provider whose endpoint was called: in the configuration, or with a key."""
    return name in configuration.providers or providers[name].key_env is not None


def endpoint(name: str, problems: dict[str, str | None], is_set_up: bool) -> str:
    """Return the state of a provider's endpoint as text; empty if the endpoint was not called.

    problems: for each provider that was called, what is wrong with its endpoint; `None` if the endpoint answers
    is_set_up: whether the user has set up the provider
    """
    if name not in problems:
        return ""
    problem = problems[name]
    return "answers" if problem is None else problem if is_set_up else "not running"


def default_recipe(configuration: Configuration, providers: dict[str, Provider]) -> tuple[str, list[str]]:
    """Return the default recipe as text, and the reasons why the recipe cannot be performed (none if it can)."""
    name = configuration.recipe or DEFAULT_RECIPE
    try:
        recipe = named_recipe(name)
    except RecipeError as problem:
        return f"{name}: cannot be read", [str(problem)]
    wrong = list(dict.fromkeys(why for model in recipe.models for why in unusable(model, providers)))
    return f"{name}, {recipe.calls} calls{''.join(f'; {why}' for why in wrong)}", wrong


def unusable(model: str, providers: dict[str, Provider]) -> Iterator[str]:
    """Yield the reasons why a model cannot be called; nothing if it can."""
    provider = model.partition(":")[0]
    if provider not in providers:
        yield f"{model}: there is no provider {provider}"
    elif not has_key(providers[provider]):
        yield f"{provider} needs a key, but {providers[provider].key_env} is not set"
    elif lacking := missing(providers[provider]):
        yield lacking


def weights() -> str:
    """Return the folder of the weights and the free space on its disk, as text."""
    folder = weights_folder()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = f"{shutil.disk_usage(there).free / GIGABYTE:,.1f} GB free"
    return f"{folder}, {free}{'' if os.access(there, os.W_OK) else ', but it cannot be written to'}"


def version(package: str, before: str = "") -> str:
    """Return the installed version of a package after the text `before`; empty if the package is not installed."""
    try:
        return before + metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
