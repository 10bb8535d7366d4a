"""Finds recipes by name: shipped recipes, TOML files, and the user's own recipes."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from partsong.folders import recipes_folder
from partsong.ids import fault
from partsong.recipe import Recipe
from partsong.recipes.reading import locate, read

LONGEST = 240  # bytes of a recipe's name: file systems allow 255 for the name of its file


def shipped() -> Iterator[Recipe]:
    """The shipped recipes, in the order of their names."""
    for file in _shipped_files():
        with resources.as_file(resources.files("partsong") / "recipes" / file) as path:
            yield read(path)


def is_shipped(name: str) -> bool:
    """Whether partsong ships a recipe with this name."""
    return f"{name}.toml" in _shipped_files()


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`: a TOML file if `name` ends in `.toml` or has a slash, else a shipped recipe.

    Raises `RecipeError` with the known names if there is no such recipe, and with the file and the field if the recipe
    is wrong.
    """
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return read(locate(name, Path(), folder))


def source_of(name: str) -> str:
    """The text of the recipe file that `find_recipe(name)` would read, without parsing it.

    Raises `RecipeError` if there is no shipped recipe with this name, and `OSError` if the file cannot be read.
    """
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return locate(name, Path(), folder).read_text(encoding="utf-8")


def named_recipe(name: str) -> Recipe:
    """The recipe called `name`: a shipped recipe, a TOML file, or a recipe in the user's own folder.

    Raises `RecipeError` as `find_recipe` does.
    """
    return find_recipe(source_named(name))


def source_named(name: str) -> str:
    """The path of the user's own recipe called `name`, for `find_recipe`; `name` itself if there is no such recipe.

    A shipped recipe of the same name takes precedence, so that `name` itself is returned.
    """
    own = recipes_folder() / f"{name}.toml"
    if name.endswith(".toml") or own.parent != recipes_folder() or fault(name, LONGEST) or is_shipped(name):
        return name
    return str(own) if own.is_file() else name


def _shipped_files() -> list[str]:
    """The names of the files of the shipped recipes, sorted."""
    folder = resources.files("partsong") / "recipes"
    return sorted(item.name for item in folder.iterdir() if item.name.endswith(".toml"))
