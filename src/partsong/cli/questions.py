"""Reads the questions of a batch: a file with one question on each line, which is checked before any model is called.

A line is a JSON string, or an object with a `question`, and optionally an `id` and a `system` prompt. Errors have the
number of the line.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import QuestionError
from partsong.model import Conversation, asking


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

    line: number of the question's line in the file, from 1
    id: id of the question, or the number of its line if the line has no id
    conversation: messages to send
    question: text of the question
    """

    line: int
    id: str | int
    conversation: Conversation
    question: str


_line: msgspec.json.Decoder[str | Question] = msgspec.json.Decoder(str | Question)


def read_questions(path: Path) -> list[ParsedRequest]:
    """Read the questions of a file, in file order. Blank lines are skipped.

    Raises `QuestionError` if the file cannot be read or has no question. If a line is wrong or repeats an id, the
    message has the number of the line.
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
    """Decode one line of the file. `where` (file and line) begins error messages.

    Raises `QuestionError` if the line is not a question in JSON, or if the question is empty.
    """
    try:
        found = _line.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise QuestionError(f"{where}: {problem}; a line is a question in JSON, such as {EXAMPLE}") from None
    question = Question(found) if isinstance(found, str) else found
    if not question.question.strip():
        raise QuestionError(f"{where}: the question is empty")
    return question


def as_written(identity: str | int) -> str:
    """Return an id in JSON, as in the file: with quotes if the id is a string."""
    return msgspec.json.encode(identity).decode()
