"""The log: one line for each run and each refused request, as text or as JSON, without prompts and answers.

A thread writes the lines, so that a pipe that nobody reads blocks this thread and no request. Up to `WAITING` lines
wait for the thread. Further lines are dropped, and a line in the gap says how many. The usage of a run comes from its
report. Lines are ASCII: control characters and characters of direction, which a client or a model may have chosen, are
escaped, since people read logs in terminals. Long values are cut.
"""

import json
import logging
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Literal, TextIO

from partsong.server.report import Report
from partsong.wire.reply import Problem

WAITING = 10_000  # lines of about 200 bytes
LONGEST = 2000  # characters of a value; a trace of our own is seldom longer
FLUSH = 2.0  # seconds to write the last lines when the log is closed


class Log:
    """Writes lines in a thread of its own. A failure to write is ignored.

    kind: format of the lines, "text" or "json"
    out: where lines are written; by default standard error
    waiting: most lines that wait for the thread (default 10,000); further lines are dropped
    """

    def __init__(self, kind: Literal["text", "json"], out: TextIO | None = None, waiting: int = WAITING) -> None:
        self.kind, self.out, self.waiting = kind, out, waiting
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._lock = Lock()
        self._dropped = 0
        self._thread: Thread | None = None

    def run(self, api: str, caller: str, report: Report, began: float) -> None:
        """Write the line of a run that has ended.

        caller: name of the caller's key; "" on a server without keys
        began: when the request came, in seconds of the monotonic clock
        """
        end = "finished" if report.answer is not None else "left" if report.error is None else "failed"
        fields: dict[str, Any] = {
            "run": report.run,
            "caller": caller,
            "api": api,
            "recipe": report.recipe,
            "status": end,
            "cause": "" if report.error is None else report.error.cause,
            "seconds": round(time.monotonic() - began, 3),
            "tokens": report.usage.input_tokens + report.usage.output_tokens,
            "dollars": None if report.usage.dollars is None else str(report.usage.dollars),
            "losses": report.losses,
        }
        self._say("info" if report.error is None else "warning", fields)

    def refused(self, api: str, problem: Problem) -> None:
        """Write the line of a request that was refused and so started no run."""
        fields = {
            "api": api,
            "status": "refused",
            "code": problem.status,
            "message": problem.message,
            "request": problem.request_id,
        }
        self._say("warning", fields)

    @contextmanager
    def taking(self, logger: logging.Logger) -> Iterator[None]:
        """Write the records of `logger` to this log too, until the block is left.

        A plain handler of `logger` would write in the calling thread, and could block on a pipe that nobody reads.
        """
        handler = _Passing(self)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def message(self, level: str, text: str, trace: str = "") -> None:
        """Write a line with a message for the operator of the server."""
        self._say(level, {"message": text, "trace": trace})

    def close(self) -> None:
        """Write the waiting lines, for 2 seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._lines.put(None)
            thread.join(FLUSH)

    def _say(self, level: str, fields: dict[str, Any]) -> None:
        line = self._line(level, fields)
        with self._lock:
            if self._lines.qsize() >= self.waiting:
                self._dropped += 1
                return
            self._lines.put(line)
            if self._thread is None:
                self._thread = Thread(target=self._write, name="partsong-log", daemon=True)
                self._thread.start()

    def _line(self, level: str, fields: dict[str, Any]) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self.kind == "json":
            shown = {name: _cut(value) for name, value in fields.items()}
            return _escaped(json.dumps({"time": now, "level": level, **shown}, separators=(",", ":"))) + "\n"
        said = (f"{name}={_word(value)}" for name, value in fields.items() if value not in ("", None))
        return f"{now} {level} {' '.join(said)}\n"

    def _write(self) -> None:
        """Write lines until `None` comes. This is the main function of the thread."""
        going_on = True
        while going_on:
            lines = [self._lines.get()]
            try:
                while lines[-1] is not None:
                    lines.append(self._lines.get_nowait())
            except Empty:
                pass
            going_on = lines[-1] is not None
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                text = f"{dropped} lines of the log were dropped here, because they were not read fast enough"
                lines.append(self._line("warning", {"message": text}))
            _put(self.out or sys.stderr, "".join(line for line in lines if line is not None))


class _Passing(logging.Handler):
    """Passes the records of a logger on to the log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        self.log.message(record.levelname.lower(), record.getMessage(), trace)


def _put(out: TextIO, text: str) -> None:
    """Write the whole text to the descriptor of `out`, and ignore a failure.

    The buffer of `out` is bypassed: a blocked write would hold the buffer's lock, for which the process waits at exit.
    """
    try:
        descriptor = out.fileno()
    except (OSError, ValueError):  # an object like a file, without a descriptor
        _print(out, text)
        return
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    try:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                select.select([], [descriptor], [])
    except OSError:
        return


def _print(out: TextIO, text: str) -> None:
    try:
        out.write(text)
        out.flush()
    except (OSError, ValueError):
        return


def _word(value: Any) -> str:
    """The value as one word. Values with spaces or unprintable characters are quoted and escaped."""
    text = str(_cut(value))
    plain = text.isprintable() and text.isascii() and not any(letter in text for letter in ' "=')
    return text if plain else _escaped(json.dumps(text.encode("ascii", "backslashreplace").decode()))


def _cut(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= LONGEST:
        return value
    return f"{value[:LONGEST]}… ({len(value):,} characters)"


def _escaped(encoded: str) -> str:
    """JSON in ASCII without DEL, the only control character that encoders leave as it is."""
    return encoded.replace("\x7f", "\\u007f")
