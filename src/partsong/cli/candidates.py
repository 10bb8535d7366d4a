"""What the shell offers when a user presses the tab key: names of recipes, models, providers and stored runs.

The script of `partsong completion` asks this process for the candidates. Nothing is asked over the network, so a model
is offered if a recipe, the configuration or the catalogue of local models names the model. An error offers nothing.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    from partsong.recipe import Recipe

MOST_RUNS = 30
LONGEST_TEXT = 60  # characters of the text beside a candidate

Candidates = dict[str, str]  # texts that explain the candidates, by candidate


def recipes(context: "CompletionContext") -> Candidates:
    """The names of the shipped recipes and of the user's own, and the TOML files of the folder."""
    from pathlib import Path

    known = {recipe.name: _short(recipe.about) for recipe in _known()}
    return known | {str(path): "a file" for path in sorted(Path().glob("*.toml")) if path.name != "partsong.toml"}


def models(context: "CompletionContext") -> Candidates:
    """The ids of the models that recipes, the configuration and the catalogue of local models name."""
    from partsong.configuration import find_configuration, known_providers
    from partsong.weights.catalogue import entries

    found = {f"local:{entry.name}": "runs on this machine" for entry in entries()}
    for recipe in _known():
        found |= {model: f"in {recipe.name}" for model in recipe.models if model not in found}
    configuration = find_configuration()
    found |= dict.fromkeys(configuration.models, "in the configuration")
    every = known_providers() | configuration.providers
    return found | {f"{provider}:": "a model of this provider" for provider in sorted(every)}


def providers(context: "CompletionContext") -> Candidates:
    """The names of the known and the configured providers."""
    from partsong.configuration import find_configuration, known_providers

    return dict.fromkeys(known_providers() | find_configuration().providers, "")


def runs(context: "CompletionContext") -> Candidates:
    """The word `last`, and the ids of the newest runs with their questions."""
    return {"last": "the newest run"} | asyncio.run(_newest())


async def _newest() -> Candidates:
    from partsong.cli.journal import reading

    async with reading() as store:
        found = [] if store is None else await store.runs(MOST_RUNS, apart=False)
    return {run.id: _short(run.question) for run in found}


def _known() -> Iterator["Recipe"]:
    """The shipped recipes, and the user's own that can be read."""
    from partsong.errors import RecipeError
    from partsong.folders import recipes_folder
    from partsong.recipes.finding import find_recipe, shipped

    yield from shipped()
    for path in sorted(recipes_folder().glob("*.toml")):
        try:
            yield find_recipe(str(path))
        except RecipeError:  # a broken recipe must not hide the other recipes
            continue


def _short(text: str) -> str:
    """The text on one line, without what could steer a terminal, cut if it is long."""
    from partsong.cli.printable import single_line

    line = single_line(text)
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"
