"""Chooses how a run is shown: drawn on the terminal, as the plain answer, or as lines of JSON.

The plain answer of a pipe or a file has the table of the seats beside it, if standard error is a terminal.

`ask` and `replay` share this choice, so that a stored run looks like a live one.
"""

import sys
import time
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack

from partsong.cli.output import Output
from partsong.engine.performance import Emit


async def listen(
    stack: AsyncExitStack,
    *,
    drawn: bool,
    proposals: bool,
    json: bool,
    quiet: bool,
    loading: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Emit:
    """Return the function that hears the events of a run and shows them on standard output.

    stack: what the listener opens is closed with this stack
    drawn: whether the run is drawn on a terminal; ignored with `json`
    proposals: whether the proposals are shown too; ignored with `json`
    json: whether each event is printed as a line of JSON
    quiet: whether only the answer is shown; ignored with `json`
    loading: names of the local models that are being loaded into memory, while they are; none by default
    clock: returns the time in seconds, for speeds and durations; the monotonic clock by default
    """
    if json:
        from partsong.cli.jsonl import JsonLines

        return JsonLines(Output(sys.stdout.buffer)).hear
    if not drawn and not beside(json=json, quiet=quiet):
        from partsong.cli.plain import Plain

        return Plain(Output(sys.stdout), None if quiet else Output(sys.stderr), proposals=proposals).hear
    from rich.console import Console

    from partsong.cli.region import Region
    from partsong.cli.terminal import Terminal

    region = Region(Console(stderr=not drawn, highlight=False, markup=False, emoji=False))
    if drawn:
        terminal = Terminal(region, proposals=proposals, quiet=quiet, loading=loading, clock=clock)
        await stack.enter_async_context(region.drawing(terminal.frame))
        return terminal.hear

    from partsong.cli.beside import Beside

    table = Beside(sys.stdout, Terminal(region, words=False, loading=loading, clock=clock), proposals=proposals)
    await stack.enter_async_context(region.drawing(table.frame))
    return table.hear


def beside(*, json: bool, quiet: bool) -> bool:
    """Whether the seats are drawn on standard error, if the run is not drawn on standard output."""
    return not json and not quiet and sys.stderr is not None and sys.stderr.isatty()
