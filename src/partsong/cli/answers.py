"""The answers of a batch on disk: a file of answers, and a partial file that has the answers while the batch runs.

Each answer is appended to the partial file (`.partial`) as soon as it is finished. The key of an answer is a digest of
recipe and conversation, so that a batch that is started again finds its answers in the partial file. A last line
without a line end was being written when the process died, and is removed. The file of answers has the answers in the
order of the questions, and is created only when the batch has ended.

If the answers go to a device or a pipe, no partial file can stand beside it. Then all answers are held in memory until
the batch has ended.
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

    key: key of the answer (see `key_of`)
    usage: tokens and dollars of all calls; an answer from the store counts with the usage of its original call
    answer: text of the answer; `None` if the run failed
    error: why the run failed; `None` if there is an answer
    model: id of the model that wrote the answer; empty if unknown
    losses: losses of the run (failed, late, replaced, truncated or shortened seats)
    """

    key: str
    usage: Usage
    answer: str | None = None
    error: Failure | None = None
    model: str = ""
    losses: tuple[Loss, ...] = ()

    def line(self, asked: ParsedRequest) -> dict[str, Any]:
        """Return the object for the line of the file of answers. `asked` is the question of this outcome."""
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
_BEGINNING = b'{"key":"'  # first bytes of each line of the partial file


def key_of(recipe: Recipe, conversation: Conversation) -> str:
    """Return the key of an answer: a SHA-256 digest of the recipe and the conversation, in hexadecimal.

    The recipe's cap in dollars is left out of the digest. So a user can raise the cap for the questions that failed,
    and the other answers are kept.
    """
    asked = (structs.replace(recipe, max_dollars=None), conversation)
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()


class Answers:
    """The file of answers and the partial file.

    path: file of answers
    beside: partial file
    kept: outcomes in the partial file, by key
    streams: whether the answers go to a device or a pipe, so that there is no partial file

    Raises `InputError` if the path leads to something that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = kind_of(path) == "stream"
        # If `path` is a link, the partial file is in the folder of the link's target.
        target = path if self.streams else target_of(path)
        self.beside = target.with_name(target.name + ".partial")
        self.kept: dict[str, Outcome] = {}
        self._file: int | None = None

    def open(self) -> None:
        """Read the answers of earlier starts from the partial file, and open it for more answers.

        Raises `InputError` if the partial file cannot be read or written, or has lines that are no outcomes.
        """
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
        """Read the complete lines of the partial file, and return their length in bytes.

        An incomplete last line is ignored only if it begins like an outcome. All other lines that are no outcomes raise
        `InputError`, so that the file of another program with this name never loses a byte.
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
        """Append an outcome to the partial file at once, so that the outcome outlives the process."""
        self.kept[outcome.key] = outcome
        if not self.streams:
            assert self._file is not None, "the file is not open"
            append(self._file, self.beside, msgspec.json.encode(outcome) + b"\n")

    def finish(self, questions: Sequence[tuple[str, ParsedRequest]], failed: Mapping[str, Outcome]) -> None:
        """Write the file of answers in the order of the questions, and remove the partial file if no question failed.

        questions: all questions with their keys
        failed: outcomes of the failed questions by key; their lines have the error instead of an answer
        """
        outcomes = {**failed, **self.kept}
        lines = (printable_json(msgspec.json.encode(outcomes[key].line(asked))) + b"\n" for key, asked in questions)
        write_file(self.path, lines, may_stream=True)
        # After a failure, the next start reads the other answers from the partial file.
        if not failed and not self.streams:
            self.close()
            self.beside.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
