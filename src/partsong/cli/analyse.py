"""`partsong analyse`: where the proposals of a stored run agree, where they contradict each other, and what is missing.

If the run had an analyst, its analysis is printed. Otherwise a model is asked once. The store answers the next time.
"""

import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from msgspec import to_builtins

from partsong.assembly import assemble, daily_funds
from partsong.cli.ask import keep
from partsong.cli.downloads import Downloads
from partsong.cli.findings import findings
from partsong.cli.journal import stored_run
from partsong.cli.json_output import print_json
from partsong.cli.loop import complete
from partsong.cli.losses import short_id
from partsong.cli.options import Config, RunName
from partsong.cli.printable import printable
from partsong.cli.summary import dollars
from partsong.configuration import Configuration, find_configuration
from partsong.errors import InputError
from partsong.recipe import replace

if TYPE_CHECKING:
    from partsong.engine.analyst import Comparison
    from partsong.store import StoredRun, Timed


def analyse(
    run: RunName,
    /,
    *,
    model: Annotated[
        str | None,
        Parameter(name=("--model", "-m"), help="Model that compares. Default: the recipe's analyst, or aggregator."),
    ] = None,
    max_dollars: Annotated[
        Decimal | None, Parameter(metavar="D", help="Most that the analysis may cost, in dollars.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print the analysis as one JSON object.")] = False,
    config: Config = None,
) -> int:
    """Compare the proposals of a stored run: agreements, contradictions, single points and gaps."""
    return complete(print_analysis(run, find_configuration(config), model, max_dollars, json=json))


async def print_analysis(
    name: str, configuration: Configuration, model: str | None, max_dollars: Decimal | None, *, json: bool
) -> int:
    """Print the analysis of a stored run; return the exit code.

    name: the run's id, the first letters of the id, or "last"
    model: id of the model that compares; `None` for the recipe's analyst, or else its aggregator
    max_dollars: most dollars that the analysis may cost; `None` for the configured cap of a run

    Raises `InputError` if there is no such run or if it has no two proposals, and `ModelError` if the model fails.
    """
    run, events = await stored_run(name)
    layer, found = await compared(run, events, configuration, model, max_dollars)
    if json:
        print_json(
            {
                "run": run.id,
                "layer": layer,
                "model": found.model,
                "stored": found.stored,
                "usage": to_builtins(found.usage),
                "analysis": to_builtins(found.analysis),
            }
        )
        return 0
    text = findings(found.analysis, layer)
    if sys.stdout.isatty():
        from rich.console import Console

        from partsong.cli.markdown import GrowingMarkdown

        whole = GrowingMarkdown()
        whole.add(printable(text))
        console = Console(highlight=False, markup=False, emoji=False)
        for piece in whole.finish():
            console.print(piece)
    else:
        print(printable(text, sys.stdout.encoding))
    price = "found in the store" if found.stored else dollars(found.usage.dollars)
    told = f"partsong: layer {layer} of run {run.id}, compared by {short_id(found.model)} ({price})"
    print(f"{told}; the quotes are checked, the statements are not", file=sys.stderr)
    return 0


async def compared(
    run: "StoredRun",
    events: "list[Timed]",
    configuration: Configuration,
    model: str | None,
    max_dollars: Decimal | None,
) -> "tuple[int, Comparison]":
    """Return the index of the layer that was compared, and its analysis. See `print_analysis` for the rest."""
    from partsong.engine.again import stored_analysis, to_compare
    from partsong.engine.analyst import compare
    from partsong.transcript import Transcript

    if not events:
        raise InputError(f'run {run.id} was stored without its words (store = "metadata"): its proposals are not there')
    transcript = Transcript()
    for _, event in events:
        transcript.hear(event)
    if (known := stored_analysis(transcript, model)) is not None:
        return known
    asked = to_compare(run.id, transcript, model)
    recipe = asked.recipe
    caps = (max_dollars, recipe.max_dollars, configuration.dollars_per_run)
    recipe = replace(recipe, max_dollars=next((cap for cap in caps if cap is not None), None))
    async with AsyncExitStack() as stack:
        store = await keep(stack, configuration, None)
        with Downloads(sys.stderr) as downloads:
            models = await stack.enter_async_context(
                assemble(asked.analyst.models, configuration, fetching=downloads.hear, store=store)
            )
        funds = daily_funds(configuration, store)
        found = await compare(
            recipe, asked.analyst, asked.conversation, asked.proposals, models, funds=funds, record=run.id
        )
    return asked.layer, found
