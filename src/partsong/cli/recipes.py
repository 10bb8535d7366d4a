"""`partsong recipes`: the recipes that come with partsong, and the text of one, to copy and edit."""

import sys
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.table import print_table
from partsong.recipe import find_recipe, shipped, source_of


def recipes(
    name: Annotated[str | None, Parameter(help="A recipe to print: its name, or a TOML file.")] = None, /
) -> int:
    """List the shipped recipes, or print one to copy and edit."""
    if name is not None:
        find_recipe(name)  # what is printed can be performed
        sys.stdout.write(source_of(name))
        return 0
    rows = [
        # As in the paper, the aggregator counts as a layer.
        (each.name, str(each.calls), str(len(each.layers) + 1), str(each.date or ""), each.about)
        for each in shipped()
    ]
    print_table(("recipe", "calls", "layers", "date", "about"), rows)
    print("\nPrint one with: partsong recipes NAME")
    return 0
