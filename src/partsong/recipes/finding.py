"""Recipes by name: those that come with partsong, TOML files, and the user's own."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from partsong.folders import recipes_folder
from partsong.recipe import Recipe
from partsong.recipes.reading import locate, read


def shipped() -> Iterator[Recipe]:
    """The recipes in the package, by name."""
    folder = resources.files("partsong") / "recipes"
    for name in sorted(item.name for item in folder.iterdir() if item.name.endswith(".toml")):
        with resources.as_file(folder / name) as path:
            yield read(path)


def is_shipped(name: str) -> bool:
    """Whether a recipe of that name is in the package."""
    return (resources.files("partsong") / "recipes" / f"{name}.toml").is_file()


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`: a shipped one, or a TOML file where `name` ends in `.toml` or is a path.

    Raises `RecipeError` with the known names, or with the file and field that is wrong.
    """
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return read(locate(name, Path(), folder))


def source_of(name: str) -> str:
    """The text of the file called `name`, as its author wrote it, whether it is a recipe or not."""
    with resources.as_file(resources.files("partsong") / "recipes") as folder:
        return locate(name, Path(), folder).read_text(encoding="utf-8")


def named_recipe(name: str) -> Recipe:
    """The recipe called `name`: a shipped one, a TOML file, or one of the user's own. Raises `RecipeError`."""
    return find_recipe(source_named(name))


def source_named(name: str) -> str:
    """The file of the user's own recipe called `name`; else `name` itself. A shipped recipe has precedence."""
    own = recipes_folder() / f"{name}.toml"
    if name.endswith(".toml") or own.parent != recipes_folder() or is_shipped(name) or not own.is_file():
        return name
    return str(own)
