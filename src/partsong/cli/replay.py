"""`partsong replay`: sends the events of a stored run to the listeners of `ask` again, at any speed.

No model is called. The output and the exit code are those of `ask`. With --json, the output has the same lines.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated

from cyclopts import Parameter

from partsong.cli.journal import stored_run
from partsong.cli.listening import listen
from partsong.cli.loop import complete
from partsong.cli.options import RunName
from partsong.cli.printable import single_line
from partsong.engine.performance import Emit
from partsong.errors import InputError
from partsong.events import AnyEvent, RunFailed, RunFinished


def replay(
    run: RunName,
    /,
    *,
    speed: Annotated[float | None, Parameter(metavar="N", help="Replay N times as fast as the run was.")] = None,
    at_once: Annotated[bool, Parameter(help="Replay without pauses.")] = False,
    proposals: Annotated[bool, Parameter(help="Print the proposals before the answer.")] = False,
    json: Annotated[bool, Parameter(help="Print every event as a line of JSON.")] = False,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), help="Print the answer alone.")] = False,
) -> int:
    """Show a stored run again as it happened. No model is asked."""
    if at_once and speed is not None:
        raise InputError("--speed and --at-once exclude each other")
    if speed is not None and not 0 < speed < float("inf"):
        raise InputError(f"--speed is {speed:g}, but must be above 0: 2 is twice as fast, 0.5 half as fast")
    times = float("inf") if at_once else speed or 1.0
    return complete(replayed(run, times, proposals=proposals, json=json, quiet=quiet))


async def replayed(name: str, speed: float, *, proposals: bool, json: bool, quiet: bool) -> int:
    """Replay a stored run, and return the exit code that `ask` had.

    name: the run's id, the first letters of the id, or "last"
    speed: factor of the speed; infinite for no pauses
    proposals, json, quiet: the options of `ask` with these names

    Raises `InputError` if there is no such run, or if the run was stored without its events.
    """
    run, events = await stored_run(name)
    if not events:
        raise InputError(f'run {run.id} was stored without its words (store = "metadata"), so nothing can be replayed')
    clock = Clock(speed)
    async with AsyncExitStack() as stack:
        drawn = not json and sys.stdout.isatty()
        listener = await listen(stack, drawn=drawn, proposals=proposals, json=json, quiet=quiet, clock=clock.now)
        await tell(events, listener, clock)
    match events[-1][1]:
        case RunFinished():
            return 0
        case RunFailed(error=error, text=text):
            what = "the answer broke off" if text else "no answer"
            print(f"partsong: {what}: {single_line(error.message, sys.stderr.encoding)}", file=sys.stderr)
        case _:
            print("partsong: here the stored run ends: it goes on now, or its process was ended", file=sys.stderr)
    return 1


class Clock:
    """A clock of the stored run's seconds, which pass `speed` times as fast as real seconds.

    With an infinite speed, the clock jumps to the time of each event.
    """

    def __init__(self, speed: float) -> None:
        self.speed, self.told = speed, 0.0
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()

    def now(self) -> float:
        """Return the seconds since the start of the stored run."""
        return self.told if self.speed == float("inf") else (self.loop.time() - self.begun) * self.speed

    async def wait_until(self, seconds: float) -> None:
        """Wait until the clock shows this number of seconds since the start of the stored run."""
        self.told = seconds
        await asyncio.sleep(max(0.0, (seconds - self.now()) / self.speed))


async def tell(events: Sequence[tuple[float, AnyEvent]], listener: Emit, clock: Clock) -> None:
    """Send each event to the listener when the clock reaches the event's time (seconds since the start of the run)."""
    for seconds, event in events:
        await clock.wait_until(seconds)
        await listener(event)
