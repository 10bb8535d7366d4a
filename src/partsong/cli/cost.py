"""`partsong cost`: estimates what a question costs, layer by layer, before any model is called.

"At most" is the amount that a budget reserves. "Typically" is an estimate, which `partsong.money.typical` explains.
"""

import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

from cyclopts import Parameter

from partsong.assembly import info_without_model
from partsong.cli import candidates
from partsong.cli.journal import reading
from partsong.cli.json_output import print_json
from partsong.cli.loop import complete
from partsong.cli.options import Config
from partsong.cli.printable import printable
from partsong.cli.table import print_table
from partsong.configuration import find_configuration
from partsong.errors import InputError, StoreError
from partsong.money.budget import shown
from partsong.money.planning import lines_for
from partsong.money.typical import RUNS, Row, Sum, all_of, is_counted, is_priced, rows_of, shares_of
from partsong.recipe import Recipe
from partsong.recipes.finding import named_recipe

MOST_PROMPT_TOKENS = 100_000_000
USUAL_TOKENS = 500  # of a question with a paragraph beside it


def cost(
    recipe: Annotated[str, Parameter(completer=candidates.recipes, help="Name of a recipe, or a TOML file.")],
    /,
    *,
    prompt_tokens: Annotated[
        int, Parameter(metavar="N", help=f"Length of the question, in tokens. Default: {USUAL_TOKENS}.")
    ] = USUAL_TOKENS,
    json: Annotated[bool, Parameter(help="Print the estimate as JSON.")] = False,
    config: Config = None,
) -> int:
    """Estimate what a question costs, typically and at most. No model is called, and no key is needed."""
    if not 1 <= prompt_tokens <= MOST_PROMPT_TOKENS:
        raise InputError(f"--prompt-tokens is {prompt_tokens:,}, but must be from 1 to {MOST_PROMPT_TOKENS:,}")
    configuration = find_configuration(config)
    chosen = named_recipe(recipe)
    info = {name: info_without_model(name, configuration) for name in chosen.models}
    shares = complete(usual_shares(chosen))
    rows = rows_of(chosen, prompt_tokens, info, complete(usual_tokens(chosen.models)), shares)
    everything = all_of(rows)
    unknown = [name for name in chosen.models if not is_priced(info[name])]
    if json:
        print_json(as_document(chosen, prompt_tokens, rows, everything, unknown))
        return 0
    analyst = () if chosen.analyst is None else ("analyst",)
    names = [*(f"layer {index}" for index in range(len(chosen.layers))), *analyst, "aggregator", "all"]
    print_table(
        ("", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"),
        [
            (name, f"{row.calls:,}", *cells(row.typical), *cells(row.most))
            for name, row in zip(names, (*rows, everything), strict=True)
        ],
    )
    if unknown:
        told = f"\nThe price of {', '.join(unknown)} is unknown. In partsong.toml, say what a million tokens cost:"
        print(printable(told, sys.stdout.encoding))
        print(printable("".join(map(lines_for, unknown)).removeprefix("\n"), sys.stdout.encoding))
    return 0


def cells(part: Sum) -> tuple[str, str, str]:
    """Return input tokens, output tokens and dollars as text."""
    dollars = "unknown" if part.dollars is None else shown(part.dollars)
    return f"{part.input_tokens:,}", f"{part.output_tokens:,}", dollars


def as_document(
    recipe: Recipe, tokens: int, rows: Sequence[Row], everything: Row, unknown: Sequence[str]
) -> dict[str, Any]:
    """Return the estimate as plain values, for JSON.

    tokens: length of the question in tokens
    rows: a row for each layer, the analyst's row if there is an analyst, and the aggregator's row
    everything: sum of all rows
    unknown: ids of the models whose price is unknown
    """
    return {
        "recipe": recipe.name,
        "prompt_tokens": tokens,
        "layers": rows[: len(recipe.layers)],
        "analyst": None if recipe.analyst is None else rows[-2],
        "aggregator": rows[-1],
        "all": everything,
        "unknown_prices": unknown,
    }


async def usual_shares(recipe: Recipe) -> Sequence[Decimal] | None:
    """Return the share of its calls that a recent run of the recipe made, for each layer and last for the aggregator.

    `None` if no call can be spared, or if no run of exactly this recipe is in a readable store.
    """
    if not is_counted(recipe):
        return None
    try:
        async with reading() as store:
            return None if store is None else shares_of(recipe, await store.runs_of(recipe.name, RUNS))
    except (StoreError, InputError):
        return None


async def usual_tokens(names: Sequence[str]) -> Mapping[str, int]:
    """Return the median output tokens of an answer, by model id, measured in recent calls.

    Models that the store has no calls of are left out. Empty without a readable store.
    """
    try:
        async with reading() as store:
            throughputs = {} if store is None else await store.throughputs(names)
    except StoreError:
        return {}
    return {name: pace.tokens for name, pace in throughputs.items()}
