"""`partsong keys`: manages the keys that clients need to call the server. A secret is printed once, when it is made.

`set` and `unset` are for the keys of providers, which are kept for this user and never printed.
"""

import os
import sys
from decimal import Decimal
from getpass import getpass
from typing import Annotated, Literal

from cyclopts import Parameter

from partsong import provider_keys, toml
from partsong.cli import known_keys
from partsong.cli.ages import read_age, written_age
from partsong.cli.json_output import print_json
from partsong.cli.options import Config
from partsong.cli.table import print_table
from partsong.configuration import Configuration, find_configuration, known_providers
from partsong.errors import ConfigurationError, InputError
from partsong.keys import Key


def keys(
    action: Annotated[
        Literal["add", "list", "remove", "set", "unset"], Parameter(help="What to do. Default: list.")
    ] = "list",
    name: Annotated[
        str | None, Parameter(help="Name of the key, for add and remove; of the provider, for set and unset.")
    ] = None,
    /,
    *,
    max_dollars_per_day: Annotated[
        Decimal | None, Parameter(metavar="D", help="Most that runs with the key may cost in a day (UTC), in dollars.")
    ] = None,
    recipes: Annotated[
        str, Parameter(metavar="A,B", help="Recipes that may be asked with the key. Default: all.")
    ] = "",
    requests_per_minute: Annotated[
        int | None, Parameter(metavar="N", help="Most requests in a minute. Default: any number.")
    ] = None,
    at_once: Annotated[
        int | None, Parameter(metavar="N", help="Most requests at the same time. Default: any number.")
    ] = None,
    keep_for: Annotated[
        str | None,
        Parameter(metavar="AGE", help="How long the key's runs are kept, such as 30d or 12h. Default: until deleted."),
    ] = None,
    tools: Annotated[
        bool,
        Parameter(
            negative="--no-tools", help="Let the key use recipes whose agents look things up with tools. Default: yes."
        ),
    ] = True,
    metrics: Annotated[bool, Parameter(help="Let the key read /metrics, and nothing else.")] = False,
    json: Annotated[bool, Parameter(help="With list: print each key as a line of JSON.")] = False,
    config: Config = None,
) -> int:
    """Make, list or remove the keys that clients need to call the server; or keep the key of a provider."""
    configuration = find_configuration(config)
    if action in ("set", "unset"):
        return of_provider(action, name, configuration)
    if action == "list":
        if json:
            for key in known_keys.all_keys(configuration):
                print_json(key)
            return 0
        rows = [
            (
                key.name,
                f"{key.created:%Y-%m-%d}",
                "any" if key.dollars_per_day is None else f"${key.dollars_per_day}",
                _recipes(key),
                "any" if key.requests_per_minute is None else f"{key.requests_per_minute:,}",
                "any" if key.at_once is None else f"{key.at_once:,}",
                "" if key.keep_for is None else written_age(key.keep_for),
            )
            for key in known_keys.all_keys(configuration)
        ]
        if rows:
            print_table(("key", "made", "dollars a day", "recipes", "a minute", "at once", "runs kept"), rows)
        else:
            print("There are no keys: the server answers this machine alone. Make one: partsong keys add NAME")
        return 0
    if name is None:
        raise InputError(f"keys {action} needs the key's name: partsong keys {action} NAME")
    if action == "remove":
        known_keys.remove(configuration, name)
        return 0
    allowed = tuple(each.strip() for each in recipes.split(",") if each.strip())
    secret = known_keys.add(
        configuration,
        name,
        dollars_per_day=max_dollars_per_day,
        recipes=allowed,
        requests_per_minute=requests_per_minute,
        at_once=at_once,
        metrics=metrics,
        tools=tools,
        keep_for=None if keep_for is None else read_age(keep_for, "--keep-for").total_seconds(),
    )
    print(secret)
    print(f"partsong: this is the key of {name}; it is shown this once", file=sys.stderr)
    return 0


def _recipes(key: Key) -> str:
    if key.metrics:
        return "/metrics alone"
    return f"{', '.join(key.recipes) or 'all'}{'' if key.tools else ', without tools'}"


def of_provider(action: Literal["set", "unset"], name: str | None, configuration: Configuration) -> int:
    """Keep or forget the key of a provider. The key is read from the terminal or standard input, and never shown.

    Raises `ConfigurationError` for an unknown provider, and `InputError` without a name or a key.
    """
    if name is None:
        raise InputError(f"keys {action} needs the name of a provider: partsong keys {action} openrouter")
    providers = known_providers() | configuration.providers
    if name not in providers:
        raise ConfigurationError(
            f'there is no provider "{name}"; known: {", ".join(providers)}{toml.closest(name, providers)}'
        )
    if (variable := providers[name].key_env) is None:
        raise InputError(f"{name} needs no key")
    if action == "unset":
        told = "the key is forgotten" if provider_keys.forget(variable) else "no key was kept"
        print(f"partsong: {name}: {told}", file=sys.stderr)
        return 0
    secret = getpass(f"Key of {name}: ") if sys.stdin.isatty() else sys.stdin.readline(provider_keys.LONGEST + 2)
    provider_keys.keep(variable, secret.strip())
    print(f"partsong: {name}: the key is kept in {provider_keys.keys_file()}, which only you can read", file=sys.stderr)
    if os.environ.get(variable):
        print(f"partsong: {variable} is set too, and goes first", file=sys.stderr)
    return 0
