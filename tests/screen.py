"""A command on a terminal of its own: what a person would see there, and what a person can type.

The terminal is a real pseudo-terminal, and the screen is drawn by a terminal emulator from the very bytes that the
command writes, so that a test looks at a screen and not at escape sequences.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pyte

HUNG = 60.0  # seconds; nothing is measured by it, it only ends a test that would hang


class Screen:
    """`partsong` with these arguments on a terminal. `lines` is the scrollback and the screen.

    pipe: what a shell reads behind the command, such as `| cat` or `> file`
    """

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        pipe: str = "",
    ) -> None:
        self.output = b""
        self._screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=1.0)
        self._stream = pyte.ByteStream(self._screen)
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:  # the child: nothing of the test may go on here
            try:
                if folder is not None:
                    os.chdir(folder)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                command = [sys.executable, "-m", "partsong", *arguments]
                if pipe:
                    command = ["/bin/sh", "-c", f'"$@" {pipe}', "sh", *command]
                os.execve(command[0], command, kept | {"TERM": "xterm-256color"} | dict(environment or {}))
            finally:
                os._exit(127)

    def wait_for(self, text: str) -> None:
        """Read until this stands on the screen."""
        end = time.monotonic() + HUNG
        while text not in self.text:
            assert time.monotonic() < end, f"{text!r} never came; on the screen was:\n{self.text}"
            assert self._read(), f"{text!r} never came; at the end was:\n{self.text}"

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Read to the end; return the exit code."""
        end = time.monotonic() + HUNG
        while self._read():
            assert time.monotonic() < end, f"it never ended; on the screen was:\n{self.text}"
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.output += data
        self._stream.feed(data)
        return bool(data)

    @property
    def lines(self) -> list[str]:
        above = ["".join(line[column].data for column in sorted(line)) for line in self._screen.history.top]
        lines = [line.rstrip() for line in (*above, *self._screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def cursor_is_visible(self) -> bool:
        return not self._screen.cursor.hidden
