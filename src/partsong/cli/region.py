"""The live part of a terminal: lines that are redrawn in every frame, below the lines that were printed once.

Each frame is one write. Finished lines are printed above and stay in the scrollback. Live lines overwrite the live
lines of the last frame in place, so that nothing flickers. The live part never fills the screen, because lines that
have left the screen at the top cannot be redrawn. If the cursor cannot be moved (`TERM=dumb`), only finished lines are
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
SHARE = 0.1  # most of the time that drawing may take, as a share; the models' answers are read in the rest
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"

_STYLING = re.compile(r"\x1b\[[\d;]*m")
_PADDING = re.compile(r" +(\x1b\[0m)?$")  # spaces at the end, which a narrower terminal would wrap into more lines

# Returns the pieces that were finished since the last frame, and the live pieces.
Frame = Callable[[], tuple[Sequence[RenderableType], Sequence[RenderableType]]]


class Region:
    """The live lines of a terminal. Lines are drawn between `take` and `release`; `drawing` calls both.

    live: whether the terminal can redraw lines; if not, only finished lines are printed
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal and not console.legacy_windows
        self._lengths: list[int] = []  # widths in columns of the live lines on the screen

    @property
    def width(self) -> int:
        return self.console.width

    @property
    def room(self) -> int:
        """Largest number of live lines. One line of the screen stays free for the cursor."""
        return max(1, self.console.height - 1)

    def lines(self, *pieces: RenderableType) -> list[tuple[str, int]]:
        """Render the pieces for this terminal. Returns for each line its text with escape sequences, and its width.

        The width is in columns.
        """
        with self.console.capture() as capture:
            self.console.print(Group(*pieces))
        text = encodable(capture.get(), self.console.encoding).removesuffix("\n")
        lines = [_PADDING.sub(r"\1", line) for line in text.split("\n")] if text else []
        return [(line, cell_len(_STYLING.sub("", line))) for line in lines]

    def draw(self, finished: Sequence[RenderableType], live: Sequence[RenderableType] = ()) -> None:
        """Print the finished pieces, which stay, and redraw the live pieces below them."""
        above = self.lines(*finished)
        below = self.lines(*live)[-self.room :] if self.live else []
        if not above and not below and not self._lengths:
            return
        frame = [self._back(), *(self._ended(*line) for line in above)]
        if below:
            # Without wrapping, the terminal cuts a line that is too wide, so that the number of lines stays known.
            frame += [NO_WRAP, *(self._ended(*line) for line in below), WRAP]
        if self.live:
            frame.append("\x1b[J")
        self._lengths = [length for _, length in below]
        self._write("".join(frame))

    def _ended(self, line: str, length: int) -> str:
        """Return the line with a line end. The rest of the line that it overwrites is erased first.

        If the line fills the width, nothing is left to erase.
        """
        return f"{line}\x1b[K\n" if self.live and length < self.width else f"{line}\n"

    def _back(self) -> str:
        """Return the escape sequence that moves the cursor up to the first live line.

        Lines are counted at every call, because a terminal that became narrower has wrapped them into more lines.
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
        """Draw frames until the block is left. Then the live lines are erased, and the finished lines stay.

        frame: called for each frame
        """
        self.take()
        task = asyncio.create_task(self._draw_often(frame))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task
            with suppress(OSError):  # the terminal may have been closed
                self.draw(frame()[0])
            with suppress(OSError):
                self.release()

    def _pause(self) -> None:
        """Show the cursor and suspend the process after Ctrl-Z. After it is resumed, drawing goes on below."""
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
