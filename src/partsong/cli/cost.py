"""`partsong cost`: what a question costs, layer by layer, before anybody is asked.

"At most" is what a budget reserves. "Typically" is a guess; `partsong.money.typical` says of what.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from partsong.assembly import info_without_model
from partsong.cli.journal import reading
from partsong.cli.loop import complete
from partsong.cli.table import print_table
from partsong.configuration import find_configuration
from partsong.errors import InputError, StoreError
from partsong.money.budget import shown
from partsong.money.planning import lines_for
from partsong.money.typical import Row, Sum, all_of, is_priced, rows_of
from partsong.recipe import Recipe
from partsong.recipes.finding import named_recipe

MOST_PROMPT_TOKENS = 100_000_000


def cost(
    recipe: Annotated[str, Parameter(help="A shipped recipe, or a TOML file.")],
    /,
    *,
    prompt_tokens: Annotated[int, Parameter(metavar="N", help="How many tokens the question has.")],
    json: Annotated[bool, Parameter(help="Print it as JSON.")] = False,
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Say what a question would cost, typically and at most; nobody is asked, and no key is needed."""
    if not 1 <= prompt_tokens <= MOST_PROMPT_TOKENS:
        raise InputError(f"--prompt-tokens is {prompt_tokens:,}, but must be from 1 to {MOST_PROMPT_TOKENS:,}")
    configuration = find_configuration(config)
    chosen = named_recipe(recipe)
    info = {name: info_without_model(name, configuration) for name in chosen.models}
    rows = rows_of(chosen, prompt_tokens, info, complete(usual_tokens(chosen.models)))
    everything = all_of(rows)
    unknown = [name for name in chosen.models if not is_priced(info[name])]
    if json:
        print(as_json(chosen, prompt_tokens, rows, everything, unknown))
        return 0
    names = [*(f"layer {number}" for number in range(len(rows) - 1)), "aggregator", "all"]
    print_table(
        ("", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"),
        [
            (name, f"{row.calls:,}", *cells(row.typical), *cells(row.most))
            for name, row in zip(names, (*rows, everything), strict=True)
        ],
    )
    if unknown:
        print(f"\nThe price of {', '.join(unknown)} is unknown. In partsong.toml, say what a million tokens cost:")
        print("".join(map(lines_for, unknown)).removeprefix("\n"))
    return 0


def cells(part: Sum) -> tuple[str, str, str]:
    dollars = "unknown" if part.dollars is None else shown(part.dollars)
    return f"{part.input_tokens:,}", f"{part.output_tokens:,}", dollars


def as_json(recipe: Recipe, tokens: int, rows: Sequence[Row], everything: Row, unknown: Sequence[str]) -> str:
    document: dict[str, Any] = {
        "recipe": recipe.name,
        "prompt_tokens": tokens,
        "layers": rows[:-1],
        "aggregator": rows[-1],
        "all": everything,
        "unknown_prices": unknown,
    }
    return msgspec.json.encode(document).decode()


async def usual_tokens(names: Sequence[str]) -> Mapping[str, int]:
    """How much the models have written of late, as far as the store remembers."""
    try:
        async with reading() as store:
            throughputs = {} if store is None else await store.throughputs(names)
    except StoreError:
        return {}
    return {name: pace.tokens for name, pace in throughputs.items()}
