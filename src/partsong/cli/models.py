"""`partsong models`: lists the providers, whether their keys are set, the local models, and the configured ones."""

from decimal import Decimal

from partsong.cli.options import Config
from partsong.cli.table import print_table
from partsong.configuration import Provider, find_configuration, has_key, known_providers
from partsong.folders import weights_folder
from partsong.weights.catalogue import entries
from partsong.weights.fetch import is_there
from partsong.weights.part import in_words


def models(*, config: Config = None) -> int:
    """List the providers, whether their keys are set, and the local models."""
    configuration = find_configuration(config)
    providers = known_providers() | configuration.providers
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


def price(dollars: Decimal | None) -> str:
    """Return a price as text without a unit; empty if the price is unknown."""
    return "" if dollars is None else f"{dollars}"


def key_of(provider: Provider) -> str:
    """Return whether the provider's key is set, as text with the name of the key's environment variable.

    The value of the key is never shown.
    """
    if provider.key_env is None:
        return "none needed"
    return f"{provider.key_env}: {'set' if has_key(provider) else 'not set'}"
