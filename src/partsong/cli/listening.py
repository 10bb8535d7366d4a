"""Who hears a run on the command line: the terminal that draws it, the plain answer, or lines of JSON.

One choice for everybody who has events to show, whether they happen now (`ask`) or have happened (`replay`).
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
    """Whoever shows the run: until the stack is left. Speeds and seconds are those of `clock`."""
    if json:
        from partsong.cli.jsonl import JsonLines

        return JsonLines(Output(sys.stdout.buffer), ascii_only=sys.stdout.isatty()).hear
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
