"""`partsong again`: a new run with the proposals of a stored one. Only what is new is asked and paid.

The proposals come from the store. So an aggregator that failed, or another one, can be asked without another proposal,
and a lost seat can be asked again without the others.
"""

import re
import sys
from decimal import Decimal
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.ask import answer
from partsong.cli.journal import stored_run
from partsong.cli.loop import complete
from partsong.cli.options import Config, RunName
from partsong.cli.options import Store as StoreOption
from partsong.configuration import Configuration, StoreMode, find_configuration
from partsong.engine.again import Changes, begin_again
from partsong.errors import InputError
from partsong.recipe import Method, replace
from partsong.store.runs import AGAIN, CONVERSATION
from partsong.transcript import Transcript

SEAT = re.compile(r"\(?\s*(\d{1,4})\s*[.,]\s*(\d{1,4})\s*\)?")


def again(
    run: RunName,
    /,
    *,
    aggregator: Annotated[
        str | None, Parameter(metavar="MODEL", help="Model that aggregates. Default: the aggregator of the run.")
    ] = None,
    method: Annotated[Method | None, Parameter(help="The aggregator's method. Default: that of the run.")] = None,
    without: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="SEAT", consume_multiple=False, help="Seat to leave out, such as 0.2: layer and seat, from 0."
        ),
    ] = (),
    retry: Annotated[
        tuple[str, ...],
        Parameter(metavar="SEAT", consume_multiple=False, help="Lost seat to ask again; repeat for more."),
    ] = (),
    best: Annotated[
        bool, Parameter(help="Take the proposal that is most like the others, and ask no aggregator.")
    ] = False,
    max_dollars: Annotated[
        Decimal | None, Parameter(metavar="D", help="Most that the new run may cost, in dollars.")
    ] = None,
    store: StoreOption = None,
    proposals: Annotated[bool, Parameter(help="Print the proposals before the answer.")] = False,
    json: Annotated[bool, Parameter(help="Print every event as a line of JSON.")] = False,
    quiet: Annotated[
        bool, Parameter(name=("--quiet", "-q"), help="Print only the answer, without losses and figures.")
    ] = False,
    config: Config = None,
) -> int:
    """Aggregate the proposals of a stored run again, in a new run."""
    changes = Changes(aggregator, method, tuple(map(seat_of, without)), tuple(map(seat_of, retry)), best)
    return complete(
        answer_again(
            run,
            changes,
            find_configuration(config),
            store,
            max_dollars=max_dollars,
            proposals=proposals,
            json=json,
            quiet=quiet,
        )
    )


def seat_of(text: str) -> tuple[int, int]:
    """Return the layer and the index of a seat that is written as `0.2`, `0,2` or `(0, 2)`. Raises `InputError`."""
    found = SEAT.fullmatch(text.strip())
    if found is None:
        raise InputError(f'"{text}" is no seat; write its layer and its number, such as 0.2 for (0, 2)')
    return int(found[1]), int(found[2])


async def answer_again(
    name: str,
    changes: Changes,
    configuration: Configuration,
    mode: StoreMode | None,
    *,
    max_dollars: Decimal | None,
    proposals: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Perform the new run, show it and store it; return the exit code. See `ask.answer` for the parameters.

    name: the earlier run's id, the first letters of the id, or "last"
    max_dollars: most dollars of the new run; `None` for the cap of the earlier run, or for the configured one

    Raises `InputError` if there is no such run, or if it was stored without its words.
    """
    run, events = await stored_run(name)
    if not events:
        raise InputError(f'run {run.id} was stored without its words (store = "metadata"): its proposals are not there')
    earlier = Transcript()
    for _, event in events:
        earlier.hear(event)
    recipe, conversation, found = begin_again(run.id, earlier, changes)
    caps = (max_dollars, recipe.max_dollars, configuration.dollars_per_run)
    recipe = replace(recipe, max_dollars=next((cap for cap in caps if cap is not None), None))
    if not quiet and not json:
        print(f"partsong: again from run {run.id}", file=sys.stderr)
    return await answer(
        recipe,
        conversation,
        configuration,
        mode,
        cache=None,
        proposals=proposals,
        json=json,
        quiet=quiet,
        again=found,
        labels={AGAIN: run.id, CONVERSATION: run.labels.get(CONVERSATION, run.id)},
    )
