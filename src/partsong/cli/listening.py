"""Chooses how a run is shown: drawn on the terminal, as the plain answer, or as lines of JSON.

`ask` and `replay` share this choice, so that a stored run looks like a live one.
"""

import sys
import time
from collections.abc import Callable
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
    clock: Callable[[], float] = time.monotonic,
) -> Emit:
    """Return the function that hears the events of a run and shows them on standard output.

    stack: what the listener opens is closed with this stack
    drawn: whether the run is drawn on a terminal; ignored with `json`
    proposals: whether the proposals are shown too; ignored with `json`
    json: whether each event is printed as a line of JSON
    quiet: whether only the answer is shown; ignored with `json`
    clock: returns the time in seconds, for speeds and durations; the monotonic clock by default
    """
    if json:
        from partsong.cli.jsonl import JsonLines

        return JsonLines(Output(sys.stdout.buffer)).hear
    if not drawn:
        from partsong.cli.plain import Plain

        return Plain(Output(sys.stdout), None if quiet else Output(sys.stderr), proposals=proposals).hear
    from rich.console import Console

    from partsong.cli.region import Region
    from partsong.cli.terminal import Terminal

    region = Region(Console(highlight=False, markup=False, emoji=False))
    terminal = Terminal(region, proposals=proposals, quiet=quiet, clock=clock)
    await stack.enter_async_context(region.drawing(terminal.frame))
    return terminal.hear
