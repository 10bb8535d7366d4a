"""`partsong history` lists the stored runs, newest first, and `partsong history prune` removes old ones.

The command must start fast, so it imports the store, but no provider and no table of prices.
"""

import re
import sys
from datetime import datetime, timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from partsong.cli.journal import how_it_is_empty, reading, status, when
from partsong.cli.json_output import print_json
from partsong.cli.loop import complete
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.errors import InputError
from partsong.store import StoredRun
from partsong.store.document import plain

SHOWN = 20  # number of runs listed by default, which fit on a screen
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
MEGABYTE = 1e6
EVERYTHING = timedelta(days=36500)  # longest age, because a longer age would overflow the dates of Python


def history(
    action: Annotated[
        Literal["prune"] | None, Parameter(metavar="prune", help="Remove old runs and the answers of their models.")
    ] = None,
    /,
    *,
    limit: Annotated[int, Parameter(name=("--limit", "-n"), metavar="N", help="List the N newest runs.")] = (SHOWN),
    json: Annotated[bool, Parameter(help="Print each run as a line of JSON.")] = False,
    older_than: Annotated[
        str | None, Parameter(metavar="AGE", help="With prune: remove runs older than this, such as 30d, 12h or 2w.")
    ] = None,
) -> int:
    """List the stored runs, or remove old ones."""
    if action == "prune":
        if older_than is None:
            raise InputError("history prune removes nothing by itself: say how old with --older-than, such as 30d")
        return complete(prune(read_age(older_than), older_than.strip()))
    if older_than is not None:
        raise InputError("--older-than belongs to pruning: partsong history prune --older-than AGE")
    if limit < 1:
        raise InputError(f"--limit is {limit}, but must be at least 1")
    return complete(print_runs(limit, json=json))


async def print_runs(limit: int, *, json: bool) -> int:
    """Print the `limit` newest runs as a table, or as JSON lines; return the exit code."""
    async with reading() as store:
        runs = [] if store is None else await store.runs(limit)
    if json:
        for run in runs:
            print_json(plain(run))
        return 0
    if not runs:
        print(how_it_is_empty(), file=sys.stderr)
        return 0
    now = datetime.now().astimezone()
    print_table(
        ("run", "when", "status", "recipe", "calls", "tokens", "dollars", "seconds", "lost", "question"),
        [row(run, now) for run in runs],
        cut=True,
    )
    return 0


async def prune(age: timedelta, said: str) -> int:
    """Remove the runs and calls that are older than `age`, print their number, and return the exit code.

    said: the age as the user wrote it, for the message
    """
    async with reading() as store:
        if store is None:
            print(how_it_is_empty(), file=sys.stderr)
            return 0
        pruned = await store.prune(age)
    freed = f"; the store is {pruned.bytes / MEGABYTE:,.1f} MB smaller" if pruned.bytes >= MEGABYTE else ""
    removed = f"{counted(pruned.runs, 'run')} and {counted(pruned.calls, 'call')}"
    print(f"removed {removed} that were older than {said}{freed}")
    return 0


def counted(number: int, word: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def row(run: StoredRun, now: datetime) -> tuple[str, ...]:
    """Return the cells of a stored run in the table. `now` is the current time in the user's time zone."""
    return (
        run.id,
        when(run.started, now),
        status(run),
        single_line(run.recipe.partition("?")[0]),
        f"{run.calls:,}",
        f"{run.tokens:,}",
        dollars(run.dollars),
        f"{run.seconds:,.1f}",
        f"{run.losses:,}" if run.losses else "",
        single_line(run.question),
    )


def read_age(text: str) -> timedelta:
    """Return the age for a text such as `90m` (minutes), `12h` (hours), `30d` (days) or `2w` (weeks).

    Raises `InputError` for any other text.
    """
    found = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip().lower(), re.ASCII)
    if found is None:
        raise InputError(
            f'--older-than is "{text}", but must be a number with a unit: 90m (minutes), 12h (hours), 30d (days) '
            "or 2w (weeks)"
        )
    return min(int(found[1]) * UNITS[found[2]], EVERYTHING)
