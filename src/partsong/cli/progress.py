"""A line of progress on standard error, which is overwritten as work goes on. It is shown on terminals only."""

import asyncio
import sys
from collections.abc import Callable

from partsong.cli.printable import single_line

PAUSE = 0.2  # seconds between updates


class Progress:
    """A context manager that shows a line of progress while its block runs. `words` returns the current text."""

    def __init__(self, words: Callable[[], str]) -> None:
        self.words = words
        self.shown = sys.stderr.isatty()
        self.timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self.draw()

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.shown:
            print(f"\r\x1b[K{self.words()}", file=sys.stderr, flush=True)

    def draw(self) -> None:
        if self.shown:
            print(f"\r\x1b[K{self.words()}", end="", file=sys.stderr, flush=True)
            self.timer = asyncio.get_running_loop().call_later(PAUSE, self.draw)


def say(what: str) -> None:
    """Print a message on standard error, on one line after "partsong: "."""
    print(f"partsong: {single_line(what, sys.stderr.encoding)}", file=sys.stderr)
