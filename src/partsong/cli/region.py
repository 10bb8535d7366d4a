"""The part of a terminal that is drawn again and again, below everything that was printed for good.

A frame is one write: what is finished goes above and stays in the scrollback, then the live lines overwrite the old
ones in place, so that nothing is blank in between and nothing flickers. The live part never fills the screen, since
what has left its top could not be drawn again. Where a cursor cannot be moved (`TERM=dumb`), only what is finished is
printed.
"""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType

from partsong.cli.printable import encodable

PAUSE = 0.1  # seconds between frames
SHARE = 0.1  # of the time is what drawing may take: the rest belongs to the models
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"

_STYLING = re.compile(r"\x1b\[[\d;]*m")
_PADDING = re.compile(r" +(\x1b\[0m)?$")  # would become lines of their own in a terminal that gets narrower

Frame = Callable[[], tuple[Sequence[RenderableType], Sequence[RenderableType]]]


class Region:
    """The live lines at a terminal's end. Drawn on between `take` and `release`; `drawing` does both."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal and not console.legacy_windows
        self._lengths: list[int] = []  # of the live lines on the screen

    @property
    def width(self) -> int:
        return self.console.width

    @property
    def room(self) -> int:
        """How many lines may be live: one stays free for the cursor."""
        return max(1, self.console.height - 1)

    def lines(self, *pieces: RenderableType) -> list[tuple[str, int]]:
        """The pieces as lines for this terminal, escape sequences and all, each with its width in columns."""
        with self.console.capture() as capture:
            self.console.print(Group(*pieces))
        text = encodable(capture.get(), self.console.encoding).removesuffix("\n")
        lines = [_PADDING.sub(r"\1", line) for line in text.split("\n")] if text else []
        return [(line, cell_len(_STYLING.sub("", line))) for line in lines]

    def draw(self, finished: Sequence[RenderableType], live: Sequence[RenderableType] = ()) -> None:
        """Print what is finished for good, and the live lines anew below it."""
        above = self.lines(*finished)
        below = self.lines(*live)[-self.room :] if self.live else []
        if not above and not below and not self._lengths:
            return
        frame = [self._back(), *(self._ended(*line) for line in above)]
        if below:
            # A line that the terminal finds wider than we do is cut there, so that the count of lines stays right.
            frame += [NO_WRAP, *(self._ended(*line) for line in below), WRAP]
        if self.live:
            frame.append("\x1b[J")
        self._lengths = [length for _, length in below]
        self._write("".join(frame))

    def _ended(self, line: str, length: int) -> str:
        """The line with its end, and with what stood there before taken off. A full line leaves nothing to take."""
        return f"{line}\x1b[K\n" if self.live and length < self.width else f"{line}\n"

    def _back(self) -> str:
        """The way to the first live line. Terminals wrap lines anew when they get narrower: then there are more."""
        width = max(1, self.width)
        rows = sum(max(1, -(-length // width)) for length in self._lengths)
        return f"\r\x1b[{rows}A" if rows else ""

    def take(self) -> None:
        """Begin to draw, on the loop that runs: the cursor is hidden until `release`, or while Ctrl-Z pauses it."""
        if self.live:
            self._write(HIDE_CURSOR)
            with suppress(NotImplementedError, AttributeError):  # Windows knows no Ctrl-Z
                asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self._pause)

    def release(self) -> None:
        """Give the terminal back as it was."""
        if self.live:
            with suppress(NotImplementedError, AttributeError):
                asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)
            self._write(SHOW_CURSOR)

    @asynccontextmanager
    async def drawing(self, frame: Frame) -> AsyncIterator[None]:
        """Draw frames until the block is left; then the last one, of which only the finished part is left standing."""
        self.take()
        task = asyncio.create_task(self._draw_often(frame))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task
            with suppress(OSError):  # a terminal that was closed needs nothing any more
                self.draw(frame()[0])
            with suppress(OSError):
                self.release()

    def _pause(self) -> None:
        """Leave the terminal to the shell, as it was, until we are called back; then go on below."""
        self._write(SHOW_CURSOR)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._write(HIDE_CURSOR)
        self._lengths = []

    async def _draw_often(self, frame: Frame) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            self.draw(*frame())
            await asyncio.sleep(max(PAUSE, (clock() - begun) / SHARE))

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()
