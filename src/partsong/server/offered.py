"""The recipes that a server offers: those in `[server] recipes`, else the default, the shipped and the user's own ones.

A recipe is offered if all its models are usable: their providers are known, and their keys are set.
"""

from pathlib import Path

from msgspec import Struct

from partsong.assembly import Assembly
from partsong.configuration import Configuration
from partsong.errors import ConfigurationError, RecipeError
from partsong.folders import recipes_folder
from partsong.recipe import Recipe
from partsong.recipes.finding import find_recipe, named_recipe, shipped, source_named

DEFAULT_RECIPE = "local"


class Found(Struct, frozen=True):
    """A recipe and its source: the name of a shipped recipe, or the path of a file."""

    recipe: Recipe
    source: str


def offered(configuration: Configuration, assembly: Assembly) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The usable recipes by name, the default first, and the reasons why the others are unusable, by name.

    Raises `InputError` if the configuration names a recipe that does not exist or is wrong.
    """
    known, broken = found(configuration)
    recipes, unusable = usable(known, assembly)
    return recipes, broken | unusable


def found(configuration: Configuration) -> tuple[list[Found], dict[str, str]]:
    """All recipes, the default first, whether usable or not, and the errors of the user's files that are no recipes.

    The errors are by the name of the file without `.toml`.

    Raises `InputError` if the configuration names a recipe that does not exist or is wrong.
    """
    if configuration.server.recipes:
        return [each for name in configuration.server.recipes for each in _at(name)], {}
    default = configuration.recipe or DEFAULT_RECIPE
    known = [Found(named_recipe(default), source_named(default)), *(Found(recipe, recipe.name) for recipe in shipped())]
    broken: dict[str, str] = {}
    for path in sorted(recipes_folder().glob("*.toml")):
        try:
            known.append(Found(find_recipe(str(path)), str(path)))
        except RecipeError as problem:
            broken[path.stem] = str(problem)
    return known, broken


def usable(known: list[Found], assembly: Assembly) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The recipes whose models are configured, by name, and the reasons why the others are unusable."""
    recipes: dict[str, Recipe] = {}
    unusable: dict[str, str] = {}
    for each in known:
        try:
            assembly.check(each.recipe.models)
            recipes.setdefault(each.recipe.name, each.recipe)
        except ConfigurationError as problem:
            unusable.setdefault(each.recipe.name, str(problem))
    return recipes, unusable


def _at(name: str) -> list[Found]:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return [Found(find_recipe(str(path)), str(path)) for path in sorted(folder.glob("*.toml"))]
    return [Found(named_recipe(name), source_named(name))]
