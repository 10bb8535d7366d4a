"""`partsong recipes`: lists the shipped recipes and the user's own, or prints one to copy and edit.

With `--template`, it prints a recipe for a known method with the user's own models.
"""

import sys
from typing import Annotated

from cyclopts import Parameter

from partsong.cli import candidates
from partsong.cli.printable import printable
from partsong.cli.table import print_table
from partsong.errors import RecipeError
from partsong.folders import recipes_folder
from partsong.recipes.finding import find_recipe, named_recipe, shipped, source_named, source_of
from partsong.recipes.templates import TEMPLATES, from_template


def recipes(
    name: Annotated[
        str | None, Parameter(completer=candidates.recipes, help="Recipe to print: its name, or a TOML file.")
    ] = None,
    /,
    *,
    template: Annotated[
        str | None, Parameter(metavar="NAME", help="Print a recipe for this method, with your own models.")
    ] = None,
    models: Annotated[
        str | None,
        Parameter(metavar="A,B,C", help="Ids of the models for --template, from the cheapest to the strongest."),
    ] = None,
) -> int:
    """List the shipped recipes and your own, or print one to copy and edit."""
    if template is not None:
        if name is not None:
            raise RecipeError(f'--template prints a recipe of its own, so that "{name}" cannot be printed too')
        return put(from_template(template, named(models)))
    if models is not None:
        raise RecipeError(f"--models needs --template with one of: {', '.join(TEMPLATES)}")
    if name is not None:
        named_recipe(name)  # raises if the recipe cannot be performed
        return put(source_of(source_named(name)))
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
    print("Begin with a method: partsong recipes --template NAME --models A,B,C")
    print(f"Templates: {', '.join(TEMPLATES)}")
    return 0


def named(models: str | None) -> list[str]:
    """The ids in a list with commas between them."""
    return [] if models is None else [each.strip() for each in models.split(",")]


def put(text: str) -> int:
    """Print the text of a recipe, so that a file that it is written to is a recipe."""
    sys.stdout.write(printable(text, sys.stdout.encoding) if sys.stdout.isatty() else text)
    return 0
