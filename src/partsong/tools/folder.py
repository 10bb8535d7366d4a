"""The files of one folder, for whoever may read them and nothing else: listed, searched, and read as text.

Nothing outside the folder is ever read. A path is opened one part at a time, each part without following links, so that
not even a link that is put there meanwhile leads out. Hidden files are left out, since some hold keys.
"""

import asyncio
import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from partsong.configuration import DocumentLimits
from partsong.documents.pdf import read_pages
from partsong.errors import InputError, QuestionError

MOST_FILES = 5000  # files that are looked at in the folder and all folders in it
DEEPEST = 20  # folders within each other
MOST_LISTED = 500  # files in one listing
LONGEST_READ = 15_000  # characters of a file in one result
MOST_PASSAGES = 20  # passages in the result of a search
LONGEST_PASSAGE = 500  # characters of a passage
MOST_SEARCHED = 100_000_000  # characters of text that one search looks at
MOST_KEPT = 50_000_000  # characters of text that are remembered, so that a second search takes no time
LONGEST_QUERY = 500  # characters of what is searched
MOST_WORDS = 20  # words of a search
PDF_AT = b"%PDF-"
_LINKS = {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}
_FOLDER = getattr(os, "O_DIRECTORY", 0)
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WORD = re.compile(r"\w+")
# In a search by words these decide nothing.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by did do does for from has have how in is it its of on or that the their this to was "
        "what when where which who why will with",
    )
)


class FolderError(InputError):
    """A file cannot be read: it is not there, not in the folder, or no text. The message names the file."""


class File(Struct, frozen=True):
    """A file of the folder.

    name: path from the folder, with slashes
    size: bytes
    """

    name: str
    size: int


class Passage(Struct, frozen=True):
    """A part of a file that fits a search.

    file: name of the file
    start: index of the passage's first character in the text of the file
    text: the passage
    """

    file: str
    start: int
    text: str


class Folder:
    """The files of one folder.

    path: the folder; links in the path of the folder itself are followed once, now
    limits: limits on each file, as on any document

    Raises `FolderError` if there is no such folder.
    """

    def __init__(self, path: Path, limits: DocumentLimits) -> None:
        try:
            self.root = path.resolve(strict=True)
        except OSError as problem:
            raise FolderError(f"{path}: {problem.strerror}") from None
        if os.open not in os.supports_dir_fd or os.scandir not in os.supports_fd:
            raise FolderError(f"{path}: this system cannot open a file within a folder without following links")
        if not self.root.is_dir():
            raise FolderError(f"{path}: is no folder")
        self.limits = limits
        self._texts: OrderedDict[tuple[str, int, int], str] = OrderedDict()

    def files(self, within: str = "") -> tuple[File, ...]:
        """The files of the folder and of all folders in it, by name. Raises `FolderError` for a wrong folder.

        within: a folder in the folder; "" (default) for all of it
        """
        parts = _parts(within)
        with _opened(self.root, parts, folder=True) as start:
            found = sorted(_walk(start, "/".join(parts)), key=lambda file: file.name)
        return tuple(found)

    async def text(self, name: str) -> str:
        """The text of a file. Raises `FolderError` if the file cannot be read, or has no text."""
        data, key = await asyncio.to_thread(self._bytes, name)
        if (known := self._texts.get(key)) is not None:
            self._texts.move_to_end(key)
            return known
        text = await self._pdf(name, data) if PDF_AT in data[:1024] else _decoded(name, data)
        self._texts[key] = text
        while len(self._texts) > 1 and sum(map(len, self._texts.values())) > MOST_KEPT:
            self._texts.popitem(last=False)
        return text

    async def search(self, query: str, within: str = "") -> tuple[tuple[Passage, ...], int]:
        """The passages that have most of the words of a query, the best first, and how many files were not looked at.

        within: a folder in the folder; "" (default) for all of it

        Raises `FolderError` for a query without words, or a wrong folder.
        """
        words = _words(query)
        if not words:
            raise FolderError("query: has no words to look for")
        best: list[tuple[float, str, int, Passage]] = []
        looked, left_out = 0, 0
        for file in await asyncio.to_thread(self.files, within):
            if looked > MOST_SEARCHED:
                left_out += 1
                continue
            try:
                text = await self.text(file.name)
            except FolderError:
                left_out += 1
                continue
            looked += len(text)
            best += await asyncio.to_thread(_passages, file.name, text, words)
            best.sort(key=lambda each: (-each[0], each[1], each[2]))
            del best[MOST_PASSAGES:]
        return tuple(passage for *_, passage in best), left_out

    def _bytes(self, name: str) -> tuple[bytes, tuple[str, int, int]]:
        """The bytes of a file, and what tells whether the file has changed since."""
        most = self.limits.megabytes * 1024 * 1024
        with _opened(self.root, _parts(name)) as file:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                raise FolderError(f"{name}: is no file")
            if state.st_size > most:
                raise FolderError(f"{name}: has more than {self.limits.megabytes} MiB")
            pieces, length = [], 0
            while length <= most and (piece := os.read(file, 1 << 20)):
                pieces.append(piece)
                length += len(piece)
            if length > most:
                raise FolderError(f"{name}: has more than {self.limits.megabytes} MiB")
        return b"".join(pieces), ("/".join(_parts(name)), state.st_mtime_ns, length)

    async def _pdf(self, name: str, data: bytes) -> str:
        try:
            pages = await read_pages(name, data, self.limits, self.limits.seconds)
        except QuestionError as problem:
            raise FolderError(str(problem)) from None
        text = "\n\n".join(f"[page {number}]\n{text}" for number, text in enumerate(pages.texts, 1) if text)
        if not text:
            raise FolderError(f"{name}: has no text that can be read (its pages may be scanned)")
        return text


@contextmanager
def _opened(root: Path, parts: tuple[str, ...], *, folder: bool = False) -> Iterator[int]:
    """A file or folder of the folder as a descriptor, open within the context. No link is followed on the way."""
    here = -1
    try:
        try:
            here = os.open(root, os.O_RDONLY | _FOLDER)
            for index, part in enumerate(parts):
                inside = folder or index < len(parts) - 1
                below = os.open(part, _FLAGS | (_FOLDER if inside else 0), dir_fd=here)
                os.close(here)
                here = below
        except (OSError, ValueError) as problem:
            raise FolderError(f"{'/'.join(parts) or '.'}: {_told(problem)}") from None
        yield here
    finally:
        if here >= 0:
            os.close(here)


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path in the folder. Raises `FolderError` for one that leads out of it, or to a hidden file."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise FolderError(f"{name}: is an absolute path; give a path from the folder, as in the listing")
    if any(part == ".." for part in parts):
        raise FolderError(f"{name}: leads out of the folder")
    if any(part.startswith(".") for part in parts):
        raise FolderError(f"{name}: is hidden")
    return parts


def _walk(folder: int, name: str) -> Iterator[File]:
    """The files below an open folder, without links and hidden files."""
    open_folders = [(os.dup(folder), name, 0)]
    count = 0
    try:
        while open_folders:
            here, path, depth = open_folders.pop()
            try:
                with os.scandir(here) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name):
                        if entry.name.startswith(".") or entry.is_symlink() or not entry.name.isprintable():
                            continue
                        inside = f"{path}/{entry.name}" if path else entry.name
                        if entry.is_file(follow_symlinks=False):
                            yield File(inside, entry.stat(follow_symlinks=False).st_size)
                            if (count := count + 1) >= MOST_FILES:
                                return
                        elif entry.is_dir(follow_symlinks=False) and depth < DEEPEST:
                            with suppress(OSError):
                                below = os.open(entry.name, _FLAGS | _FOLDER, dir_fd=here)
                                open_folders.append((below, inside, depth + 1))
            finally:
                os.close(here)
    finally:
        for here, *_ in open_folders:
            os.close(here)


def _decoded(name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FolderError(f"{name}: is neither a PDF nor text in UTF-8") from None
    if "\0" in text:
        raise FolderError(f"{name}: is neither a PDF nor text: it has NUL bytes")
    return text


def _words(query: str) -> tuple[str, ...]:
    """The words of a query, without those that decide nothing, unless there are no others."""
    words = tuple(dict.fromkeys(_WORD.findall(query[:LONGEST_QUERY].lower())))
    return (tuple(word for word in words if word not in _COMMON) or words)[:MOST_WORDS]


def _passages(name: str, text: str, words: tuple[str, ...]) -> list[tuple[float, str, int, Passage]]:
    """The best passages of a text, with their ranks: the share of the words that they have, or that the name has."""
    lower = text.lower()
    if len(lower) != len(text):  # a few letters have two in lower case; then places would differ
        lower = text
    named = {word for word in words if word in name.lower()}
    ranked: list[tuple[float, int, int]] = []
    start = 0
    while start < len(text):
        end = min(len(text), start + LONGEST_PASSAGE)
        if end < len(text):  # to the end of a line or of a word
            cut = max(text.rfind("\n", start + LONGEST_PASSAGE // 2, end), text.rfind(" ", end - 50, end))
            end = cut + 1 if cut > start else end
        found = {word for word in words if lower.find(word, start, end) >= 0}
        if found:
            ranked.append((len(found) + 0.5 * len(named - found), start, end))
        start = end
    if not ranked and named:
        ranked.append((0.5 * len(named), 0, min(len(text), LONGEST_PASSAGE)))
    ranked.sort(key=lambda each: (-each[0], each[1]))
    return [
        (rank, name, start, Passage(name, start, text[start:end].strip()))
        for rank, start, end in ranked[:MOST_PASSAGES]
    ]


def _told(problem: OSError | ValueError) -> str:
    if isinstance(problem, FileNotFoundError):
        return "there is no such file in the folder"
    if isinstance(problem, OSError) and problem.strerror is not None:
        # ELOOP: a link, which is never followed, whatever it leads to.
        return "is a link, or is not in the folder" if problem.errno in _LINKS else problem.strerror
    return "is no path"
