"""Reads the question of a command from its arguments, standard input, and files of pictures and documents.

The arguments are joined with spaces. The argument `-` stands for standard input. Without arguments, standard input is
read too, unless it is a terminal. Reading stops at the default of the bound `question_characters`, so that a wrong file
is refused at once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from partsong.bounds import DEFAULTS
from partsong.configuration import DocumentLimits
from partsong.errors import QuestionError
from partsong.model import Document, Image

LARGEST_IMAGE = 20 * 1024 * 1024  # bytes; the highest limit of any provider
_BEGINNINGS = {  # first bytes of a file: media type
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


def read_question(words: Sequence[str], stdin: BinaryIO | None) -> str:
    """Return the question that the arguments and standard input make up.

    words: arguments of the command; `-` is replaced by the text on standard input
    stdin: standard input; `None` if it is closed

    Raises `QuestionError` if there is no question, if it is not UTF-8 text, or if standard input is too long.
    """
    words = [word.strip() for word in words]
    if not any(words) and (stdin is None or stdin.isatty()):
        raise QuestionError('there is no question: give it in quotes, or "-" to read it from standard input')
    if not any(words):
        words = ["-"]
    if words.count("-") > 1:
        raise QuestionError('standard input can be read once, but "-" stands in the question more than once')
    try:
        " ".join(words).encode()
    except UnicodeEncodeError:
        raise QuestionError("the question is not UTF-8 text") from None
    if "-" not in words:
        return " ".join(words)
    index = words.index("-")
    parts = " ".join(words[:index]), _read_text(stdin), " ".join(words[index + 1 :])
    return "\n\n".join(part for part in parts if part)


def read_image(source: str) -> Image:
    """Read a picture from a file. A URL (http or https) is not read here: the provider loads the picture.

    Raises `QuestionError` if the file cannot be read, is larger than `LARGEST_IMAGE`, is incomplete, or is not PNG,
    JPEG, GIF or WebP.
    """
    if source.startswith(("https://", "http://")):
        return Image(url=source)
    try:
        with Path(source).expanduser().open("rb") as file:
            data = file.read(LARGEST_IMAGE + 1)
    except OSError as problem:
        raise QuestionError(f"{source}: cannot be read: {problem.strerror}") from None
    if len(data) > LARGEST_IMAGE:
        raise QuestionError(
            f"{source}: is larger than {LARGEST_IMAGE // 1024 // 1024} MB, more than any provider takes"
        )
    media_type = next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), "")
    if not media_type or (media_type == "image/webp" and data[8:12] != b"WEBP"):
        raise QuestionError(f"{source}: is no picture that models take: those are PNG, JPEG, GIF and WebP")
    if not _is_whole(data, media_type):
        raise QuestionError(f"{source}: begins as a picture ({media_type}), but is broken or incomplete")
    return Image(data, media_type)


def read_document(source: str, limits: DocumentLimits) -> Document:
    """Read the bytes of a document, which is a PDF or a text file. The run extracts the text of the document later.

    limits: configured limits, of which the size in megabytes is checked here

    Raises `QuestionError` if the file cannot be read, or is larger than the limits allow.
    """
    largest = limits.megabytes * 1024 * 1024
    path = Path(source).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as problem:
        raise QuestionError(f"{source}: cannot be read: {problem.strerror}") from None
    if len(data) > largest:
        raise QuestionError(
            f"{source}: has more than {limits.megabytes:,} MiB; see `megabytes` in [documents] of partsong.toml"
        )
    return Document(data, name=path.name)


def _is_whole(data: bytes, media_type: str) -> bool:
    """Return whether the data has the end of a picture. Most broken files were cut off during a transfer."""
    match media_type:
        case "image/png":
            return data[12:16] == b"IHDR" and b"IEND" in data[16:]
        case "image/jpeg":
            return b"\xff\xd9" in data[3:]
        case "image/gif":
            return data[4:6] in (b"7a", b"9a") and data.rstrip(b"\0").endswith(b";")
        case _:
            return len(data) >= int.from_bytes(data[4:8], "little") + 8


def _read_text(stdin: BinaryIO | None) -> str:
    """Return the text on standard input. Raises `QuestionError` if it is closed, empty, too long or not UTF-8."""
    if stdin is None:
        raise QuestionError("standard input is closed")
    most = DEFAULTS.question_characters
    data = stdin.read(most + 1)
    if len(data) > most:
        raise QuestionError(f"standard input has more than {most:,} bytes, the longest question there is")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise QuestionError(f"standard input is not UTF-8 text (byte {problem.start})") from None
    if not text.strip():
        raise QuestionError("standard input is empty")
    return text.strip()
