"""The text of a PDF, read in a process that is ended when it takes too long, too much memory, or says too much."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import IO, Literal

import msgspec
from msgspec import Struct

from partsong.configuration import DocumentLimits
from partsong.errors import QuestionError

PROGRAM = Path(__file__).with_name("extract.py")
BYTES_A_CHARACTER = 6  # of JSON, at most
ROOM = 1 << 20  # bytes that the program may print beside the text
# Windows programs find their libraries by these variables. No others are passed on: some hold keys.
VARIABLES = ("SYSTEMROOT", "WINDIR", "TEMP", "TMP")
REASONS = {
    "missing": 'PDFs are read with pypdfium2, which is not installed: run pip install "partsong[documents]"',
    "encrypted": "is encrypted: save it without a password",
    "damaged": "is no PDF that can be read: it is damaged or incomplete",
}


class Pages(Struct, frozen=True):
    """What was read of a PDF.

    pages: pages of the PDF
    texts: the text of each page that was read, from the first
    pictures: pictures on these pages
    attachments: files within the PDF
    seconds: how long the reading took
    """

    pages: int
    texts: tuple[str, ...]
    pictures: int = 0
    attachments: int = 0
    seconds: float = 0.0


class _Printed(Struct, frozen=True):
    """What the program prints."""

    pages: int = 0
    texts: tuple[str, ...] = ()
    pictures: int = 0
    attachments: int = 0
    error: Literal["", "missing", "encrypted", "damaged", "memory", "long"] = ""


async def read_pages(name: str, data: bytes, limits: DocumentLimits, seconds: float) -> Pages:
    """The text of a PDF, read within so many seconds.

    Raises `QuestionError`, which names the file, if the PDF cannot be read. If this is cancelled, the process ends.
    """
    library = importlib.util.find_spec("pypdfium2")
    if library is None or library.origin is None:
        raise QuestionError(f"{name}: {REASONS['missing']}")
    process = _Process(limits, seconds, Path(library.origin).parents[1])
    loop = asyncio.get_running_loop()
    try:
        # In a thread, since not every event loop can start processes.
        return await loop.run_in_executor(None, process.read, name, data)
    finally:
        process.kill()


class _Process:
    """The process that reads one PDF. It is started and heard in one thread, and may be ended from any."""

    def __init__(self, limits: DocumentLimits, seconds: float, packages: Path) -> None:
        """`packages` is the folder of the library, which an isolated Python would not find everywhere."""
        self.limits, self.seconds, self.packages = limits, seconds, packages
        self.late = False
        self._ended = False
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str, data: bytes) -> Pages:
        """The text, or `QuestionError`."""
        began = time.monotonic()
        timer = threading.Timer(self.seconds, self.time_out)
        timer.start()
        try:
            printed, code = self.converse(data)
        finally:
            timer.cancel()
        if self.late:
            raise QuestionError(
                f"{name}: it was not read within {self.limits.seconds:g} seconds; "
                "see `seconds` in [documents] of partsong.toml"
            )
        try:
            read = msgspec.json.decode(printed, type=_Printed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # The parser ends its process if it gets no memory, and so does a fault of the parser's.
            told = f"exit code {code}" if code >= 0 else f"signal {-code}"
            raise QuestionError(
                f"{name}: cannot be read: its reader broke down ({told}), or would have needed more than "
                f"{self.limits.memory:,} MiB; see `memory` in [documents] of partsong.toml"
            ) from None
        if read.error:
            raise QuestionError(f"{name}: {self.reason(read.error)}")
        return Pages(read.pages, read.texts, read.pictures, read.attachments, time.monotonic() - began)

    def reason(self, error: str) -> str:
        """Why the file cannot be read, in words."""
        match error:
            case "memory":
                return f"would need more than {self.limits.memory:,} MiB to be read; see `memory` in [documents]"
            case "long":
                return f"its first page alone has more than {self.limits.characters:,} characters"
            case _:
                return REASONS[error]

    def converse(self, data: bytes) -> tuple[bytes, int]:
        """What the process prints, no more than the limits allow, and its exit code."""
        limits = self.limits
        arguments = (limits.pages, limits.characters, limits.memory, ceil(self.seconds))
        with self._lock:
            if self._ended:
                return b"", 0
            process = self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(PROGRAM), *map(str, arguments), str(self.packages)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in VARIABLES if name in os.environ},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, data), daemon=True)
        feeder.start()
        with process.stdout:
            printed = process.stdout.read(BYTES_A_CHARACTER * limits.characters + ROOM)
        if len(printed) == BYTES_A_CHARACTER * limits.characters + ROOM:
            printed = b""  # it says more than it may: it does not do what it was written to do
            self.kill()
        code = process.wait()
        feeder.join()
        return printed, code

    def time_out(self) -> None:
        self.late = True
        self.kill()

    def kill(self) -> None:
        """End the process, or see to it that none is started."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with suppress(OSError, ValueError):  # it has ended before it read everything
        pipe.write(data)
    with suppress(OSError, ValueError):
        pipe.close()
