"""The answers of a batch on disk: each is written to a file beside as soon as it is there, and all in order at the end.

The file beside (`.partial`) has the answers in the order in which they came. The key of each is a digest of everything
that was asked, so that a batch that is started again finds its answers there. A last line without an end was being
written when the process died, and is removed. The file of answers itself is created only when it is complete.

Where the answers go to a device or a pipe, no file can stand beside. The answers are then held until all are there.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs, to_builtins

from partsong.cli.printable import printable_json
from partsong.cli.questions import ParsedRequest
from partsong.errors import InputError
from partsong.events import Failure, Loss
from partsong.files import append, kind_of, open_to_append, target_of, write_file
from partsong.model import Conversation, Usage
from partsong.recipe import Recipe


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The outcome of one question: an answer or an error.

    usage: tokens and dollars of all calls; a stored answer counts with what it used when it was made
    model: id of the model that wrote the answer
    losses: what the run lost
    """

    key: str
    usage: Usage
    answer: str | None = None
    error: Failure | None = None
    model: str = ""
    losses: tuple[Loss, ...] = ()

    def line(self, asked: ParsedRequest) -> dict[str, Any]:
        """The line for the file of answers, as plain values."""
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
_BEGINNING = b'{"key":"'  # of each line of the file beside


def key_of(recipe: Recipe, conversation: Conversation) -> str:
    """The key of an answer: a digest of the recipe and the conversation.

    The cap on the cost is left out, so that answers are kept if the user raises it for the questions without one.
    """
    asked = (structs.replace(recipe, max_dollars=None), conversation)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


class Answers:
    """The file of answers and the file beside it. `kept` holds the outcomes that are there, by key.

    Raises `InputError` if the path leads to something that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = kind_of(path) == "stream"
        # Through a link, the file beside stands where the answers will be.
        target = path if self.streams else target_of(path)
        self.beside = target.with_name(target.name + ".partial")
        self.kept: dict[str, Outcome] = {}
        self._file: int | None = None

    def open(self) -> None:
        """Read the answers of earlier starts, and open the file beside for more. Raises `InputError`."""
        if self.streams:
            return
        try:
            self._file = open_to_append(self.beside)
            whole = self._read(self.beside.read_bytes())
            os.ftruncate(self._file, whole)
        except OSError as problem:
            self.close()
            raise InputError(f"{self.beside}: cannot be written: {problem.strerror}") from None
        except InputError:
            self.close()
            raise

    def _read(self, data: bytes) -> int:
        """Read the lines that are whole; return their length in bytes. Raises `InputError` for a file of other lines.

        Only the beginning of a line of ours is ever cut off, so that no other file of this name loses a byte.
        """
        end = 0
        for line in data.splitlines(keepends=True):
            torn = not line.endswith(b"\n")
            if torn and (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                break
            try:
                outcome = _outcome.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise InputError(
                    f"{self.beside}: is not the file of a batch that was stopped; move it, or name another --out"
                ) from None
            self.kept[outcome.key] = outcome
            end += len(line)
        return end

    def keep(self, outcome: Outcome) -> None:
        """Write an outcome to the file beside, so that it outlives the process."""
        self.kept[outcome.key] = outcome
        if not self.streams:
            assert self._file is not None, "the file is not open"
            append(self._file, self.beside, msgspec.json.encode(outcome) + b"\n")

    def finish(self, questions: Sequence[tuple[str, ParsedRequest]], failed: Mapping[str, Outcome]) -> None:
        """Write the file of answers in the order of the questions. A failed question has its error there."""
        outcomes = {**failed, **self.kept}
        lines = (printable_json(msgspec.json.encode(outcomes[key].line(asked))) + b"\n" for key, asked in questions)
        write_file(self.path, lines, may_stream=True)
        if not failed and not self.streams:  # the next start needs the answers that are there
            self.close()
            self.beside.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
