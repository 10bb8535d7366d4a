"""`partsong history` lists the stored runs, newest first. `prune` removes old ones, and `delete` chosen ones.

The command must start fast, so it imports the store, but no provider and no table of prices.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from cyclopts import Parameter

from partsong.cli import known_keys
from partsong.cli.ages import read_age
from partsong.cli.journal import how_it_is_empty, reading, status, when
from partsong.cli.json_output import print_json
from partsong.cli.loop import complete
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.configuration import find_configuration
from partsong.errors import InputError
from partsong.keys import Key
from partsong.store import StoredRun
from partsong.store.document import plain
from partsong.store.runs import AGAIN

SHOWN = 20  # number of runs listed by default, which fit on a screen
MEGABYTE = 1e6
APART = "all stored runs are those of batches and benches: partsong history --all"


def history(
    action: Annotated[
        Literal["prune", "delete"] | None,
        Parameter(metavar="prune|delete", help="Remove old runs, or chosen ones, and the answers of their models."),
    ] = None,
    run: Annotated[
        str | None, Parameter(help="With delete: the run, by its id or the first letters of the id.")
    ] = None,
    /,
    *,
    limit: Annotated[int, Parameter(name=("--limit", "-n"), metavar="N", help="List the N newest runs.")] = (SHOWN),
    apart: Annotated[bool, Parameter(name="--all", help="List the runs of batches and benches too.")] = False,
    json: Annotated[bool, Parameter(help="Print each run as a line of JSON.")] = False,
    older_than: Annotated[
        str | None, Parameter(metavar="AGE", help="With prune: remove runs older than this, such as 30d, 12h or 2w.")
    ] = None,
    conversation: Annotated[
        str | None, Parameter(metavar="ID", help="With delete: all runs of this conversation, by its first run's id.")
    ] = None,
    key: Annotated[
        str | None,
        Parameter(metavar="NAME", help="With delete: everything of this key of the server."),
    ] = None,
) -> int:
    """List the stored runs, or remove some."""
    if action == "delete":
        keys = known_keys.all_keys(find_configuration()) if key else ()
        return complete(delete(run, conversation, key, keys))
    if (conversation, key, run) != (None, None, None):
        raise InputError("RUN, --conversation and --key belong to deleting: partsong history delete …")
    if action == "prune":
        if older_than is None:
            raise InputError("history prune removes nothing by itself: say how old with --older-than, such as 30d")
        return complete(prune(read_age(older_than, "--older-than"), older_than.strip()))
    if older_than is not None:
        raise InputError("--older-than belongs to pruning: partsong history prune --older-than AGE")
    if limit < 1:
        raise InputError(f"--limit is {limit}, but must be at least 1")
    return complete(print_runs(limit, json=json, apart=apart))


async def print_runs(limit: int, *, json: bool, apart: bool = False) -> int:
    """Print the `limit` newest runs as a table, or as JSON lines; return the exit code.

    apart: whether the runs of batches and benches are listed too (default: no)
    """
    async with reading() as store:
        runs = [] if store is None else await store.runs(limit, apart=apart)
        hidden = not runs and store is not None and bool(await store.runs(1))
    if json:
        for run in runs:
            print_json(plain(run))
        return 0
    if not runs:
        print(APART if hidden else how_it_is_empty(), file=sys.stderr)
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


async def delete(run: str | None, conversation: str | None, key: str | None, keys: Sequence[Key]) -> int:
    """Delete one run, one conversation, or everything of a key; say how much that was. `keys` are all keys."""
    if run is not None and (conversation, key) != (None, None):
        raise InputError("history delete takes a run, or --conversation, or --key, and not a run with one of these")
    if (run, conversation, key) == (None, None, None):
        raise InputError("history delete needs a run, --conversation ID, or --key NAME for everything of a key")
    async with reading() as store:
        if store is None:
            print(how_it_is_empty(), file=sys.stderr)
            return 0
        if run is not None:
            deleted = await store.delete_run((await store.find_run(run.strip())).id)
        elif conversation is not None:
            deleted = await store.delete_conversation(owner_of(key or "", keys), conversation.strip())
        else:
            deleted = await store.delete_everything(owner_of(key or "", keys))
    print(f"deleted {counted(deleted.runs, 'run')} and {counted(deleted.calls, 'call')}")
    return 0


def owner_of(name: str, keys: Sequence[Key]) -> str:
    """The owner of the runs of the key with this name. A key that was removed can be named by its owner itself."""
    return next((key.owner for key in keys if key.name == name), name)


def counted(number: int, word: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def row(run: StoredRun, now: datetime) -> tuple[str, ...]:
    """Return the cells of a stored run in the table. `now` is the current time in the user's time zone."""
    return (
        run.id,
        when(run.started, now),
        status(run),
        single_line(run.recipe.partition("?")[0]) + (" (again)" if run.labels.get(AGAIN) else ""),
        f"{run.calls:,}",
        f"{run.tokens:,}",
        dollars(run.dollars),
        f"{run.seconds:,.1f}",
        f"{run.losses:,}" if run.losses else "",
        single_line(run.question),
    )
