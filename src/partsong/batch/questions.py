"""Reads the questions of a batch from a file, one after the other: JSON Lines, or Parquet.

A line of JSON is a string, or an object with a `question`, and optionally an `id` and a `system` prompt. A Parquet file
has the same names as columns. No file is held in memory. A part of a file (see `Part`) begins at a byte or a row, so
that many processes share a file and none reads all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from partsong.errors import InputError, QuestionError
from partsong.model import Conversation, asking

LONGEST = 64 << 20  # bytes of a line
CHECKED = 20_000  # questions that are checked before the first call
CHECKED_BYTES = 64 << 20  # bytes of lines after which no further question is checked before the first call
PIECE = 1 << 20  # bytes that are read at a time to count lines
PARQUET_ROWS = 1000  # rows that are read at a time
EXAMPLE = '{"question": "Why is the sky blue?"}'


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file, decoded.

    question: text of the question
    id: id of the question in the file of answers; `None` for the number of the line
    system: system prompt; empty for none
    """

    question: str
    id: str | int | None = None
    system: str = ""


class ParsedRequest(Struct, frozen=True):
    """One question of a batch.

    line: number of the question's line (or row) in the file, from 1
    id: id of the question, or the number of its line if the line has no id
    conversation: messages to send; empty if the line is wrong
    question: text of the question
    wrong: what is wrong with the line, with file and line; empty if nothing is
    """

    line: int
    id: str | int
    conversation: Conversation
    question: str
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file: number `index` (from 0) of `count` parts of about the same length, which follow each other."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, between two questions.

    offset: bytes before the place; for Parquet, rows before it
    line: lines before the place
    """

    offset: int = 0
    line: int = 0


class Questions(Protocol):
    """A file of questions, or a part of one."""

    path: Path
    part: Part

    def begin(self) -> Place:
        """Where the part begins."""

    def read(self, place: Place) -> Iterator[tuple[ParsedRequest, Place]]:
        """Each question from `place` on, and the place after the question. A wrong line is a request with `wrong`."""

    def count(self) -> int:
        """The number of lines of the part, at most; blank lines count."""


def open_questions(path: Path, part: Part = WHOLE) -> Questions:
    """A file of questions. Raises `QuestionError` if the file cannot be read."""
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
    except OSError as problem:
        raise QuestionError(f"{path}: cannot be read: {problem.strerror}") from None
    return ParquetRows(path, part) if parquet else JsonLines(path, part)


class JsonLines:
    """Questions in JSON, one a line. Implements `Questions`. Blank lines are skipped."""

    def __init__(self, path: Path, part: Part = WHOLE) -> None:
        self.path, self.part = path, part
        size = path.stat().st_size
        self._from, self._until = (size * index // part.count for index in (part.index, part.index + 1))

    def begin(self) -> Place:
        """Where the part begins: at the first line that begins within its bytes."""
        if self._from == 0:
            return Place()
        with self.path.open("rb") as file:
            line = _newlines(file, self._from - 1)
            rest = file.readline(LONGEST)
            return Place(self._from - 1 + len(rest), line + 1)

    def read(self, place: Place) -> Iterator[tuple[ParsedRequest, Place]]:
        offset, number = place.offset, place.line
        with self.path.open("rb") as file:
            file.seek(offset)
            while offset < self._until and (line := file.readline(LONGEST + 1)):
                number += 1
                offset += len(line)
                where = f"{self.path}, line {number}"
                if len(line) > LONGEST:
                    raise QuestionError(f"{where}: has more than {LONGEST >> 20} MiB")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                try:
                    request = parsed(read_question(line.rstrip(b"\r\n"), where), number)
                except QuestionError as problem:
                    request = ParsedRequest(number, number, Conversation(()), "", str(problem))
                yield request, Place(offset, number)

    def count(self) -> int:
        place = self.begin()
        with self.path.open("rb") as file:
            file.seek(place.offset)
            lines = _newlines(file, max(0, self._until - place.offset))
            unended = self._until > place.offset and not _ends_line(file, self._until)
        return lines + unended


class ParquetRows:
    """Questions in the columns `question`, `id` and `system` of a Parquet file. Implements `Questions`."""

    def __init__(self, path: Path, part: Part = WHOLE) -> None:
        self.path, self.part = path, part
        with self._opened() as file:
            rows = file.metadata.num_rows
            names = set(file.schema_arrow.names)
        if "question" not in names:
            raise QuestionError(f"{path}: has no column `question`; its columns are {', '.join(sorted(names))}")
        self._columns = [name for name in ("question", "id", "system") if name in names]
        self._from, self._until = (rows * index // part.count for index in (part.index, part.index + 1))

    def begin(self) -> Place:
        return Place(self._from, self._from)

    def read(self, place: Place) -> Iterator[tuple[ParsedRequest, Place]]:
        number = 0
        with self._opened() as file:
            for group in range(file.metadata.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                if number + size <= place.offset or number >= self._until:
                    number += size
                    continue
                for rows in file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=self._columns):
                    for row in rows.to_pylist():
                        number += 1
                        if place.offset < number <= self._until:
                            yield self._request(row, number), Place(number, number)

    def _request(self, row: dict[str, Any], number: int) -> ParsedRequest:
        where = f"{self.path}, row {number}"
        try:
            question = msgspec.convert({name: value for name, value in row.items() if value is not None}, Question)
            return parsed(_not_empty(question, where), number)
        except msgspec.ValidationError as problem:
            return ParsedRequest(number, number, Conversation(()), "", f"{where}: {problem}")
        except QuestionError as problem:
            return ParsedRequest(number, number, Conversation(()), "", str(problem))

    def count(self) -> int:
        return int(self._until - self._from)

    def _opened(self) -> Any:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            needed = "Parquet needs the extra `parquet`: pip install 'partsong[parquet]'"
            raise InputError(f"{self.path}: {needed}") from None
        try:
            return ParquetFile(self.path)
        except (OSError, ArrowException) as problem:
            raise QuestionError(f"{self.path}: cannot be read as Parquet: {problem}") from None


def checked(questions: Questions) -> Iterator[ParsedRequest]:
    """The questions that are checked before the first call."""
    begin = questions.begin()
    for number, (request, place) in enumerate(questions.read(begin), 1):
        yield request
        if number >= CHECKED or place.offset - begin.offset > CHECKED_BYTES:
            return


def check_first(questions: Questions) -> tuple[int, bool]:
    """Check the first questions of the file: all, unless the file is long. Returns their number, and whether all were.

    Raises `QuestionError` for a wrong line, for an id that two of them have, and for a file without a question.
    """
    seen: dict[str | int, int] = {}
    for request in checked(questions):
        if request.wrong:
            raise QuestionError(request.wrong)
        if (before := seen.get(request.id)) is not None:
            raise QuestionError(
                f"{questions.path}, line {request.line}: the id {as_written(request.id)} is also that of line "
                f"{before}; each needs its own (a line without an id has its number)"
            )
        seen[request.id] = request.line
    if not seen and questions.part == WHOLE:
        raise QuestionError(f"{questions.path}: has no question; it needs one a line, in JSON, such as {EXAMPLE}")
    return len(seen), len(seen) == sum(1 for _ in islice(questions.read(questions.begin()), len(seen) + 1))


def read_question(line: bytes, where: str) -> Question:
    """Decode one line of the file. `where` (file and line) begins error messages.

    Raises `QuestionError` if the line is not a question in JSON, or if the question is empty.
    """
    try:
        found = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise QuestionError(f"{where}: {problem}; a line is a question in JSON, such as {EXAMPLE}") from None
    return _not_empty(Question(found) if isinstance(found, str) else found, where)


def parsed(question: Question, number: int) -> ParsedRequest:
    """The request for a question. `number`: its line or row, from 1."""
    conversation = asking(question.question, system=question.system)
    return ParsedRequest(number, number if question.id is None else question.id, conversation, question.question)


def as_written(identity: str | int) -> str:
    """Return an id in JSON, as in the file: with quotes if the id is a string."""
    return msgspec.json.encode(identity).decode()


_line: msgspec.json.Decoder[str | Question] = msgspec.json.Decoder(str | Question)


def _not_empty(question: Question, where: str) -> Question:
    if not question.question.strip():
        raise QuestionError(f"{where}: the question is empty")
    return question


def _newlines(file: Any, size: int) -> int:
    """The newlines in the next `size` bytes of a file."""
    found = 0
    while size > 0 and (piece := file.read(min(PIECE, size))):
        found += piece.count(b"\n")
        size -= len(piece)
    return found


def _ends_line(file: Any, offset: int) -> bool:
    file.seek(offset - 1)
    return bool(file.read(1) == b"\n")
