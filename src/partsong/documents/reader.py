"""Reads the documents of a conversation, once for a run and before anything is spent on it.

Equal bytes give equal text, whatever the machine's speed: what takes too long is refused and not cut short. So every
seat reads the same, and calls that were stored are found again.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator

from msgspec.structs import replace

from partsong.configuration import DocumentLimits
from partsong.documents.pdf import Pages, read_pages
from partsong.errors import BusyError, QuestionError
from partsong.model import PDF, Conversation, Document, Part, ToolResult
from partsong.prompts import as_document, documents_of

AT_ONCE = max(2, os.cpu_count() or 2)  # PDFs that are read at the same time: each takes a core, and memory
LONGEST_WAIT = 60.0  # seconds for a turn, where others send PDFs that each take their full time
KEPT = 4_000_000  # characters of PDFs that a reader remembers: a chat sends its documents with every turn
BEGINNING = 1024  # bytes within which a PDF must begin, as readers commonly allow
LONGEST_NAME = 120  # characters


class DocumentReader:
    """Reads documents within the limits, and remembers the last ones. Belongs to one event loop."""

    def __init__(self, limits: DocumentLimits | None = None) -> None:
        self.limits = DocumentLimits() if limits is None else limits
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._pages: OrderedDict[bytes, Pages] = OrderedDict()

    async def read(self, conversation: Conversation) -> Conversation:
        """The conversation with its documents read.

        Raises `QuestionError`, which names the document, if one cannot be read or is beyond the limits, and `BusyError`
        if too many others are being read.
        """
        documents = documents_of(conversation.messages)
        if not documents:
            return conversation
        if len(documents) > self.limits.documents:
            raise QuestionError(
                f"the conversation has {len(documents):,} documents, but at most {self.limits.documents:,} are taken; "
                "see `documents` in [documents] of partsong.toml"
            )
        read: list[Document] = []
        left = self.limits.seconds
        for index, document in enumerate(documents):
            if document.is_read:
                read.append(document)
                continue
            name = _plain(document.name) or f"document {index + 1}"
            self._check(name, document)
            if not _is_pdf(document):
                read.append(self._text(name, document))
                continue
            pages, seconds = await self._read(name, document.data, left)
            left = max(0.1, left - seconds)
            read.append(_described(name, document, pages))
        following = iter(read)
        messages = tuple(
            replace(message, parts=tuple(_with(part, following) for part in message.parts))
            if documents_of((message,))
            else message
            for message in conversation.messages
        )
        return replace(conversation, messages=messages)

    def _check(self, name: str, document: Document) -> None:
        if not document.data:
            raise QuestionError(f"{name}: is empty")
        if len(document.data) > self.limits.megabytes * 1024 * 1024:
            raise QuestionError(
                f"{name}: has more than {self.limits.megabytes:,} MiB; see `megabytes` in [documents] of partsong.toml"
            )

    async def _read(self, name: str, data: bytes, seconds: float) -> tuple[Pages, float]:
        """The pages, and how long their reading took now."""
        digest = hashlib.sha256(data).digest()
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await self._turn.acquire()
        except TimeoutError:
            raise BusyError(f"{name}: other documents are being read; ask again a little later") from None
        try:
            if (known := self._pages.get(digest)) is not None:
                self._pages.move_to_end(digest)
                return known, 0.0
            pages = await read_pages(name, data, self.limits, seconds)
        finally:
            self._turn.release()
        self._pages[digest] = pages
        while len(self._pages) > 1 and sum(map(_length, self._pages.values())) > KEPT:
            self._pages.popitem(last=False)
        return pages, pages.seconds

    def _text(self, name: str, document: Document) -> Document:
        """A file of text, decoded."""
        if document.media_type == PDF:
            raise QuestionError(f"{name}: is declared as a PDF, but is none")
        try:
            text = document.data.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            if document.data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise QuestionError(f"{name}: is text in UTF-16; save it as UTF-8") from None
            raise QuestionError(
                f"{name}: is neither a PDF nor text in UTF-8 (byte {problem.start}); other files cannot be read"
            ) from None
        if "\0" in text:
            raise QuestionError(f"{name}: is neither a PDF nor text: it has NUL bytes")
        if not text.strip():
            raise QuestionError(f"{name}: is empty")
        if len(text) > self.limits.characters:
            raise QuestionError(
                f"{name}: has {len(text):,} characters, but at most {self.limits.characters:,} are taken; "
                "see `characters` in [documents] of partsong.toml"
            )
        kind = document.media_type or "text/plain"
        return replace(document, media_type=kind, name=name, text=as_document(name, text))


def _is_pdf(document: Document) -> bool:
    return b"%PDF-" in document.data[:BEGINNING]


def _described(name: str, document: Document, pages: Pages) -> Document:
    """The document with the text of its pages, and with what is left out of it."""
    if not pages.pages:
        raise QuestionError(f"{name}: has no pages")
    read, blank = len(pages.texts), not any(pages.texts)
    lacks: list[str] = []
    if read < pages.pages:
        lacks.append(f"pages {read + 1}-{pages.pages} of {pages.pages}")
    if blank:
        lacks.append("all contents (no page has text that can be read)")
    elif pages.pictures:
        lacks.append(_count(pages.pictures, "picture"))
    if pages.attachments:
        lacks.append(_count(pages.attachments, "attached file"))
    extent = _count(read, "page") if read == pages.pages else f"pages 1-{read} of {pages.pages}"
    text = "\n\n".join(f"[page {number}]\n{text}" for number, text in enumerate(pages.texts, 1) if text)
    return replace(
        document,
        media_type=PDF,
        name=name,
        text="" if blank else as_document(name, text, extent),
        pages=pages.pages,
        pages_read=read,
        left_out=", ".join(lacks),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _plain(name: str) -> str:
    """The name on one line, without the signs that stand around it in a prompt."""
    kept = "".join(letter for letter in name if letter.isprintable() and letter not in "[]<>")
    return " ".join(kept.split())[:LONGEST_NAME]


def _length(pages: Pages) -> int:
    return sum(map(len, pages.texts))


def _with(part: Part, following: Iterator[Document]) -> Part:
    """The part with the next of the documents that were read in place of each of its own."""
    if isinstance(part, Document):
        return next(following)
    if isinstance(part, ToolResult):
        return replace(
            part, parts=tuple(next(following) if isinstance(piece, Document) else piece for piece in part.parts)
        )
    return part
