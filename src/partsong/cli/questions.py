"""Reads the questions of a batch: a file with one question on each line, which is checked before any model is called.

A line is a JSON string, or an object with a `question`, and optionally an `id` and a `system` prompt. An error names
the line.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import QuestionError
from partsong.model import Conversation, asking


class Question(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file."""

    question: str
    id: str | int | None = None
    system: str = ""


class ParsedRequest(Struct, frozen=True):
    """One question of a batch.

    line: number of its line in the file, from 1
    id: its id, or the number of its line
    conversation: the messages to send
    question: the text of the question
    """

    line: int
    id: str | int
    conversation: Conversation
    question: str


_line: msgspec.json.Decoder[str | Question] = msgspec.json.Decoder(str | Question)


def read_questions(path: Path) -> list[ParsedRequest]:
    """Read the questions of the file, in its order. A question without an id gets the number of its line.

    Raises `QuestionError`, naming the file and the line.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as problem:
        raise QuestionError(f"{path}: cannot be read: {problem.strerror}") from None
    asked: list[ParsedRequest] = []
    seen: dict[str | int, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        question = read_question(line, f"{path}, line {number}")
        identity = number if question.id is None else question.id
        if identity in seen:
            raise QuestionError(
                f"{path}, line {number}: the id {as_written(identity)} is also that of line {seen[identity]}; "
                "each needs its own (a line without an id has its number)"
            )
        seen[identity] = number
        conversation = asking(question.question, system=question.system)
        asked.append(ParsedRequest(number, identity, conversation, question.question))
    if not asked:
        raise QuestionError(f"{path}: has no question; it needs one a line, in JSON, such as {EXAMPLE}")
    return asked


EXAMPLE = '{"question": "Why is the sky blue?"}'


def read_question(line: bytes, where: str) -> Question:
    """Read the question on one line. Raises `QuestionError`."""
    try:
        found = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise QuestionError(f"{where}: {problem}; a line is a question in JSON, such as {EXAMPLE}") from None
    question = Question(found) if isinstance(found, str) else found
    if not question.question.strip():
        raise QuestionError(f"{where}: the question is empty")
    return question


def as_written(identity: str | int) -> str:
    """An id as it is written in the file."""
    return msgspec.json.encode(identity).decode()
