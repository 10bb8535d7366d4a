"""The answers of a batch on disk: each as soon as it is there, in a file beside; all of them in order at the end.

The file beside (`.partial`) has the answers in the order in which they came, each under a digest of all that was asked,
so that a batch that is started again takes them from there, whatever ended it. A line that was being written when the
process died has no end, and counts for nothing. The file itself is there when it is whole, and never before.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs, to_builtins

from partsong.cli.questions import ParsedRequest
from partsong.errors import InputError
from partsong.events import Failure, Loss
from partsong.model import Conversation, Usage
from partsong.recipe import Recipe


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What came of a question: an answer or an error. `usage` is what its calls used when they were made."""

    key: str
    usage: Usage
    answer: str | None = None
    error: Failure | None = None
    model: str = ""
    losses: tuple[Loss, ...] = ()

    def line(self, asked: ParsedRequest) -> dict[str, Any]:
        """The line of the file of answers, as plain values."""
        answered = {"answer": self.answer} if self.error is None else {"answer": None, "error": to_builtins(self.error)}
        return {
            "id": asked.id,
            "question": asked.question,
            **answered,
            "model": self.model or None,
            "usage": to_builtins(self.usage),
            "losses": to_builtins(self.losses),
        }


_outcome = msgspec.json.Decoder(Outcome)


def key_of(recipe: Recipe, conversation: Conversation) -> str:
    """What an answer is found under: a digest of all that is asked, and of whom.

    Not of what it may cost: money that is added later is for the questions that have no answer yet.
    """
    asked = (structs.replace(recipe, max_dollars=None), conversation)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


class Answers:
    """The file `path` and the one beside it. `kept` are the outcomes that are there, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(path.name + ".partial")
        self.kept: dict[str, Outcome] = {}
        self._file: int | None = None

    def open(self) -> None:
        """Read what an earlier start has left, and be ready to add to it. Raises `InputError`."""
        try:
            self._file = os.open(self.beside, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            whole = self._read(self.beside.read_bytes())
            os.ftruncate(self._file, whole)
        except OSError as problem:
            self.close()
            raise InputError(f"{self.beside}: cannot be written: {problem.strerror}") from None

    def _read(self, data: bytes) -> int:
        """Take in the lines that are whole; return how many bytes they are."""
        end = 0
        for line in data.splitlines(keepends=True):
            try:
                outcome = _outcome.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            if not line.endswith(b"\n"):
                break
            self.kept[outcome.key] = outcome
            end += len(line)
        return end

    def keep(self, outcome: Outcome) -> None:
        """Write down an answer. Once this returns, it outlives the process."""
        assert self._file is not None, "the file is not open"
        self.kept[outcome.key] = outcome
        line = msgspec.json.encode(outcome) + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def finish(self, questions: Sequence[tuple[str, ParsedRequest]], failed: Mapping[str, Outcome]) -> None:
        """Write the file of answers, in the order of the questions; what failed stands there with its error."""
        outcomes = {**failed, **self.kept}
        lines = (msgspec.json.encode(outcomes[key].line(asked)) + b"\n" for key, asked in questions)
        whole = self.path.with_name(self.path.name + ".whole")
        with whole.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(self.path)
        if not failed:  # else the answers that are there are kept for the next start
            self.close()
            self.beside.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
