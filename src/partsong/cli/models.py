"""`partsong models`: lists the providers, whether their keys are set, the local models, and the configured ones.

With a provider, it lists the models that the provider's endpoint has, with what is known of their windows and prices.
"""

import sys
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter

from partsong import toml
from partsong.assembly import assembling, info_without_model
from partsong.cli import candidates
from partsong.cli.loop import complete
from partsong.cli.options import Config
from partsong.cli.printable import single_line
from partsong.cli.table import print_table
from partsong.configuration import Configuration, Provider, find_configuration, has_key, key_told, known_providers
from partsong.errors import ConfigurationError, ModelError
from partsong.folders import weights_folder
from partsong.ids import LONGEST_MODEL, fault
from partsong.model import Usage
from partsong.weights.catalogue import entries
from partsong.weights.fetch import is_there
from partsong.weights.part import in_words

MILLION = 1_000_000


def models(
    provider: Annotated[
        str | None, Parameter(completer=candidates.providers, help="Provider whose models to list, such as openrouter.")
    ] = None,
    /,
    *,
    config: Config = None,
) -> int:
    """List the providers, whether their keys are set, and the local models; or the models of one provider."""
    configuration = find_configuration(config)
    providers = known_providers() | configuration.providers
    if provider is not None:
        if provider not in providers:
            raise ConfigurationError(
                f'there is no provider "{provider}"; known: {", ".join(providers)}{toml.closest(provider, providers)}'
            )
        return complete(models_of(provider, configuration))
    print_table(
        ("provider", "key", "endpoint"),
        [(name, key_of(provider), provider.base_url) for name, provider in providers.items() if provider.base_url],
    )
    print()
    print_table(
        ("local model", "size", "licence", "here", "about"),
        [
            (
                f"local:{entry.name}",
                in_words(entry.bytes) if entry.bytes else "",
                entry.licence,
                "yes" if is_there(entry, weights_folder()) else "no",
                entry.about,
            )
            for entry in entries()
        ],
    )
    if configuration.models:
        print(f"\nconfigured in {configuration.path}:")
        print_table(
            ("model", "window", "input $/M", "output $/M"),
            [
                (
                    name,
                    f"{known.window:,}" if known.window else "",
                    price(known.input_dollars_per_million),
                    price(known.output_dollars_per_million),
                )
                for name, known in configuration.models.items()
            ],
        )
    print('\nA model\'s id is "provider:model", such as openai:gpt-6.1-sol, ollama:qwen3 or local:smollm2-135m.')
    return 0


async def models_of(provider: str, configuration: Configuration) -> int:
    """Print the models that a provider lists; return the exit code.

    Raises `ConfigurationError` if the provider has no list, or needs a key that is not set.
    """
    settings = (known_providers() | configuration.providers)[provider]
    async with assembling(configuration) as assembly:
        try:
            names = await assembly.listed(provider)
        except ModelError as error:
            refused = error.cause == "auth" or error.status in (401, 403)
            where = key_told(settings) if refused else ""
            told = f" ({where})" if where else ""
            print(single_line(f"partsong: {provider}: {error}{told}", sys.stderr.encoding), file=sys.stderr)
            return 1
        if names is None:
            raise ConfigurationError(f"{provider}: has no list of models; any id of the form {provider}:MODEL is tried")
        rows = []
        for name in sorted(names):
            identity = f"{provider}:{name}"
            if fault(identity, LONGEST_MODEL):
                continue  # no request could name such a model
            window, dollars = assembly.window(identity), info_without_model(identity, configuration).dollars
            costs = [dollars(usage) if dollars else None for usage in (Usage(MILLION), Usage(0, MILLION))]
            rows.append((identity, f"{window:,}" if window else "", *(price(cost) for cost in costs)))
    print_table(("model", "window", "input $/M", "output $/M"), rows)
    return 0


def price(dollars: Decimal | None) -> str:
    """Return a price as text without a unit; empty if the price is unknown."""
    return "" if dollars is None else f"{dollars.normalize():f}"


def key_of(provider: Provider) -> str:
    """Return whether the provider's key is set, as text with the name of the key's environment variable.

    The value of the key is never shown.
    """
    if provider.key_env is None:
        return "none needed"
    return f"{provider.key_env}: {'set' if has_key(provider) else 'not set'}"
