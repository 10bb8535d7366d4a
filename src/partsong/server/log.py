"""The log: one line for each run and each refused request, as text or as JSON. No word of a prompt or an answer.

What a line says comes from the run's report; control characters of a caller's are never written as they came.
"""

import sys
import time
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from partsong.server.report import Report
from partsong.wire.reply import Problem


class Log:
    """Writes to `out`, standard error if not said. A log that cannot be written breaks nothing."""

    def __init__(self, kind: Literal["text", "json"], out: TextIO | None = None) -> None:
        self.kind, self.out = kind, out

    def run(self, api: str, caller: str, report: Report, began: float) -> None:
        """A run has ended, or was left."""
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
        self._write("info" if report.error is None else "warning", fields)

    def refused(self, api: str, problem: Problem) -> None:
        """A request got no run."""
        fields = {"api": api, "status": "refused", "code": problem.status, "message": problem.message}
        self._write("warning", fields)

    def _write(self, level: str, fields: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self.kind == "json":
            line = msgspec.json.encode({"time": now, "level": level, **fields}).decode()
        else:
            said = (f"{name}={_word(value)}" for name, value in fields.items() if value not in ("", None))
            line = f"{now} {level} {' '.join(said)}"
        try:
            print(line, file=self.out or sys.stderr, flush=True)
        except (OSError, ValueError):
            return


def _word(value: Any) -> str:
    """A value as one word: what has spaces, or what no terminal should be sent, stands in quotes and escaped."""
    text = str(value)
    plain = text.isprintable() and text.isascii() and not any(letter in text for letter in ' "=')
    return text if plain else msgspec.json.encode(text.encode("ascii", "backslashreplace").decode()).decode()
