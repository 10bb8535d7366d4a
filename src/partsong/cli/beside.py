"""Writes the answer to a pipe or a file, and draws the seats on standard error while they work.

A pipe may lead to the same terminal (`partsong ask … | cat`), and nobody can tell when its reader writes. So the table
stands still from the first word of the answer on, and its last lines are drawn when the run has ended. A regular file
cannot lead to the terminal, so the table stays alive.
"""

import os
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from partsong.cli.output import Output
from partsong.cli.plain import Plain
from partsong.events import AnyEvent, RunFailed, RunFinished

if TYPE_CHECKING:
    from rich.console import RenderableType

    from partsong.cli.terminal import Terminal


class Beside:
    """A listener for an answer on standard output beside a table on standard error.

    out: where the answer is written
    terminal: draws the table, without the answer
    proposals: whether the proposals are written before the answer
    """

    def __init__(self, out: TextIO, terminal: "Terminal", *, proposals: bool) -> None:
        self.terminal = terminal
        self.still = False  # whether the table must not be redrawn, because words may stand below it
        self._plain = Plain(_Told(out, None if is_file(out) else self.stop), None, proposals=proposals)

    async def hear(self, event: AnyEvent) -> None:
        """Hear one event: the answer is written at once, and the table is drawn with the next frame."""
        await self.terminal.hear(event)
        await self._plain.hear(event)
        if isinstance(event, RunFinished | RunFailed) and self.still:
            self.terminal.finished.insert(0, Text())
            self.still = False

    def stop(self) -> None:
        """Erase the lines of the table that still change, and draw none until the run has ended."""
        if not self.still:
            self.terminal.region.draw([*self.terminal.frame()[0], Text()])
            self.still = True

    def frame(self) -> tuple[Sequence["RenderableType"], Sequence["RenderableType"]]:
        """Return what `Region.drawing` draws: the frame of the table, or nothing while the table stands still."""
        return ((), ()) if self.still else self.terminal.frame()


class _Told(Output[str]):
    """An output that calls a function before each write."""

    def __init__(self, file: TextIO, before: Callable[[], None] | None) -> None:
        super().__init__(file)
        self._before = before

    def write(self, text: str) -> None:
        if self._before is not None:
            self._before()
        super().write(text)


def is_file(stream: TextIO) -> bool:
    """Whether a stream writes to a regular file. Streams without a descriptor do not."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False
