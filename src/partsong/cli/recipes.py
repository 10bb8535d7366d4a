"""`partsong recipes`: the recipes that come with partsong, and the text of one, to copy and edit."""

import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.table import print_table
from partsong.recipe import find_recipe, shipped


def recipes(
    name: Annotated[str | None, Parameter(help="A recipe to print: its name, or a TOML file.")] = None, /
) -> int:
    """List the shipped recipes, or print one to copy and edit."""
    if name is not None:
        sys.stdout.write(source(name))
        return 0
    rows = [
        # As in the paper, the aggregator counts as a layer.
        (each.name, str(each.calls), str(len(each.layers) + 1), str(each.date or ""), each.about)
        for each in shipped()
    ]
    print_table(("recipe", "calls", "layers", "date", "about"), rows)
    print("\nPrint one with: partsong recipes NAME")
    return 0


def source(name: str) -> str:
    """The text of a recipe that can be performed. Raises `RecipeError` for one that cannot."""
    find_recipe(name)
    if name.endswith(".toml") or "/" in name or "\\" in name:
        return Path(name).expanduser().read_text(encoding="utf-8")
    return (resources.files("partsong") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
