"""The live part of a terminal: lines that are redrawn again and again, below everything that was printed for good.

Each frame is one write. Finished lines are printed above and stay in the scrollback, and the live lines overwrite the
old ones in place, so that nothing flickers. The live part never fills the screen, because lines that have left its top
cannot be redrawn. If the cursor cannot be moved (`TERM=dumb`), only finished lines are printed.
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
SHARE = 0.1  # share of the time that drawing may take; the rest is for the models
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"

_STYLING = re.compile(r"\x1b\[[\d;]*m")
_PADDING = re.compile(r" +(\x1b\[0m)?$")  # a narrower terminal would make lines of it

Frame = Callable[[], tuple[Sequence[RenderableType], Sequence[RenderableType]]]


class Region:
    """The live lines of a terminal. They are drawn between `take` and `release`; `drawing` does both."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal and not console.legacy_windows
        self._lengths: list[int] = []  # of the live lines on the screen

    @property
    def width(self) -> int:
        return self.console.width

    @property
    def room(self) -> int:
        """The largest number of live lines. One line of the screen stays free for the cursor."""
        return max(1, self.console.height - 1)

    def lines(self, *pieces: RenderableType) -> list[tuple[str, int]]:
        """The pieces as lines with escape sequences for this terminal, each with its width in columns."""
        with self.console.capture() as capture:
            self.console.print(Group(*pieces))
        text = encodable(capture.get(), self.console.encoding).removesuffix("\n")
        lines = [_PADDING.sub(r"\1", line) for line in text.split("\n")] if text else []
        return [(line, cell_len(_STYLING.sub("", line))) for line in lines]

    def draw(self, finished: Sequence[RenderableType], live: Sequence[RenderableType] = ()) -> None:
        """Print the finished pieces for good, and redraw the live ones below them."""
        above = self.lines(*finished)
        below = self.lines(*live)[-self.room :] if self.live else []
        if not above and not below and not self._lengths:
            return
        frame = [self._back(), *(self._ended(*line) for line in above)]
        if below:
            # Without wrapping, the terminal cuts a line that is too wide, and our count of lines stays right.
            frame += [NO_WRAP, *(self._ended(*line) for line in below), WRAP]
        if self.live:
            frame.append("\x1b[J")
        self._lengths = [length for _, length in below]
        self._write("".join(frame))

    def _ended(self, line: str, length: int) -> str:
        """The line with its line end; the rest of an older line is erased, unless this line fills the width."""
        return f"{line}\x1b[K\n" if self.live and length < self.width else f"{line}\n"

    def _back(self) -> str:
        """The escape sequence that moves the cursor to the first live line.

        Lines are counted anew each time, because a terminal that became narrower has wrapped them into more lines.
        """
        width = max(1, self.width)
        rows = sum(max(1, -(-length // width)) for length in self._lengths)
        return f"\r\x1b[{rows}A" if rows else ""

    def take(self) -> None:
        """Hide the cursor until `release`, except while Ctrl-Z suspends the process. Needs a running event loop."""
        if self.live:
            self._write(HIDE_CURSOR)
            with suppress(NotImplementedError, AttributeError):  # Windows knows no Ctrl-Z
                asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self._pause)

    def release(self) -> None:
        """Show the cursor again."""
        if self.live:
            with suppress(NotImplementedError, AttributeError):
                asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)
            self._write(SHOW_CURSOR)

    @asynccontextmanager
    async def drawing(self, frame: Frame) -> AsyncIterator[None]:
        """Draw frames until the block is left. The live lines are then erased, and finished ones stay."""
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
        """Suspend the process after Ctrl-Z, with the cursor shown; when resumed, go on below."""
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
