"""`partsong recipes`: lists the shipped recipes and the user's own, or prints one to copy and edit."""

import sys
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.printable import printable
from partsong.cli.table import print_table
from partsong.errors import RecipeError
from partsong.folders import recipes_folder
from partsong.recipes.finding import find_recipe, named_recipe, shipped, source_named, source_of


def recipes(name: Annotated[str | None, Parameter(help="Recipe to print: its name, or a TOML file.")] = None, /) -> int:
    """List the shipped recipes and your own, or print one to copy and edit."""
    if name is not None:
        named_recipe(name)  # raises if the recipe cannot be performed
        text = source_of(source_named(name))
        sys.stdout.write(printable(text, sys.stdout.encoding) if sys.stdout.isatty() else text)
        return 0
    known = list(shipped())
    for path in sorted(recipes_folder().glob("*.toml")):
        try:
            known.append(find_recipe(str(path)))
        except RecipeError as problem:  # a broken recipe must not hide the other recipes
            print(f"partsong: {printable(str(problem), sys.stderr.encoding)}", file=sys.stderr)
    rows = [
        # As in the paper, the aggregator counts as a layer.
        (each.name, str(each.calls), str(len(each.layers) + 1), str(each.date or ""), each.about)
        for each in known
    ]
    print_table(("recipe", "calls", "layers", "date", "about"), rows)
    print("\nPrint one with: partsong recipes NAME")
    return 0
