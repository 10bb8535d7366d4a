"""Which recipes can be asked: those that were named, else the default one and every shipped one that works here."""

from pathlib import Path

from partsong.assembly import Assembly
from partsong.configuration import Configuration
from partsong.errors import ConfigurationError
from partsong.recipe import Recipe, find_recipe, shipped

DEFAULT_RECIPE = "local"


def offered(configuration: Configuration, assembly: Assembly) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The recipes that are offered, the default one first, and why others cannot be used.

    Raises `InputError` for one that was asked for by name and is none.
    """
    default = configuration.recipe or DEFAULT_RECIPE
    if configuration.server.recipes:
        found = [recipe for name in configuration.server.recipes for recipe in _at(name)]
    else:
        found = [find_recipe(default), *shipped()]
    recipes: dict[str, Recipe] = {}
    unusable: dict[str, str] = {}
    for recipe in found:
        try:
            assembly.check(recipe.models)
            recipes.setdefault(recipe.name, recipe)
        except ConfigurationError as problem:
            unusable.setdefault(recipe.name, str(problem))
    return recipes, unusable


def _at(name: str) -> list[Recipe]:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return [find_recipe(str(path)) for path in sorted(folder.glob("*.toml"))]
    return [find_recipe(name)]
