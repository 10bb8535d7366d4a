"""The answers of a batch on disk: a file of answers, and beside it a partial file that keeps them until all are there.

The partial file (`.partial`) is an SQLite database of this batch alone. Each answer is committed as soon as it is
finished, so it outlives the process, however the process dies. The key of an answer is a digest of recipe and
conversation: a batch that is started again finds its answers, also if other questions were added meanwhile. The file of
answers has the answers in the order of the questions. It is written as a whole when the batch has ended.

If the answers go to a device or a pipe, the partial file is a temporary one, and such a batch cannot be continued.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs, to_builtins

from partsong.batch.questions import ParsedRequest, Place, Questions
from partsong.errors import InputError
from partsong.events import Failure, Loss
from partsong.files import kind_of, open_to_append, target_of
from partsong.model import Conversation, Usage
from partsong.recipe import Recipe

APPLICATION = 0x70736261  # "psba": tells our file from a file of another program
PAGE = 4096  # bytes of a page in SQLite, unless it is told otherwise
TABLES = (
    f"PRAGMA application_id = {APPLICATION}",
    "CREATE TABLE outcomes (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, outcome BLOB NOT NULL)",
    # The questions that failed, with the place before each, so that only these are asked again.
    """
    CREATE TABLE failed (
        line INTEGER PRIMARY KEY,
        offset INTEGER NOT NULL,
        before INTEGER NOT NULL,
        outcome BLOB NOT NULL
    )
    """,
    # Most dollars of each question that is being answered: they count as spent if the process dies.
    "CREATE TABLE holds (line INTEGER PRIMARY KEY, dollars TEXT NOT NULL)",
    # The place before which every question is over, and how many these are; and what was spent in all starts.
    """
    CREATE TABLE state (
        source BLOB NOT NULL,
        offset INTEGER NOT NULL,
        line INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        spent TEXT NOT NULL
    )
    """,
    "INSERT INTO state VALUES ('', 0, 0, 0, '0')",
)


class InUseError(InputError):
    """Another process writes these answers."""


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The outcome of one question: an answer or an error.

    usage: tokens and dollars of all calls; an answer from the store counts with the usage of its original call
    answer: text of the answer; `None` if the run failed
    error: why the run failed; `None` if there is an answer
    model: id of the model that wrote the answer; empty if unknown
    losses: losses of the run (failed, late, replaced, truncated or shortened seats)
    """

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


def keys_for(recipe: Recipe) -> Callable[[Conversation], bytes]:
    """Return a function that returns the key of an answer: a SHA-256 digest of the recipe and the conversation.

    The recipe's cap in dollars is left out of the digest. So a user can raise the cap for the questions that failed,
    and the other answers are kept.
    """
    beginning = hashlib.sha256(msgspec.json.encode(structs.replace(recipe, max_dollars=None)) + b"\0")

    def key_of(conversation: Conversation) -> bytes:
        digest = beginning.copy()
        digest.update(msgspec.json.encode(conversation))
        return digest.digest()

    return key_of


class Answers:
    """The file of answers and the partial file.

    path: file of answers
    beside: partial file
    streams: whether the answers go to a device or a pipe, so that there is no partial file

    Raises `InputError` if the path leads to something that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = kind_of(path) == "stream"
        # If `path` is a link, the partial file is in the folder of the link's target.
        target = path if self.streams else target_of(path)
        self.beside = target.with_name(target.name + ".partial")
        self._connection: sqlite3.Connection | None = None

    def open(self, source: bytes) -> None:
        """Open the partial file, or make one.

        source: what tells the file of questions and the recipe from others; if they have changed, every question is
            looked up by its key again

        Raises `InUseError` if the batch of this partial file goes on, and `InputError` if the file cannot be read or
        written, or is no partial file.
        """
        if not self.streams:
            self._check_beside()
        try:
            self._connection = sqlite3.connect(
                "" if self.streams else self.beside, isolation_level=None, check_same_thread=False
            )
            # The lock is held until the end, so no second batch writes. It also lets the log work on network disks.
            self._execute("PRAGMA locking_mode = EXCLUSIVE")
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = NORMAL")
            if not self._row("SELECT count(*) FROM sqlite_master")[0]:
                with self._transaction():
                    for statement in TABLES:
                        self._execute(statement)
            self._execute("UPDATE state SET offset = 0, line = 0, rows = 0 WHERE source != ?", (source,))
            self._execute("DELETE FROM failed WHERE (SELECT source FROM state) != ?", (source,))
            self._execute("UPDATE state SET source = ?", (source,))
            # The questions after this place are read again.
            self._execute("DELETE FROM failed WHERE line > (SELECT line FROM state)")
            # What a process that died may have spent counts as spent.
            for (dollars,) in self._execute("SELECT dollars FROM holds").fetchall():
                self._spend(Decimal(dollars))
            self._execute("DELETE FROM holds")
        except sqlite3.Error as problem:
            self.close()
            if getattr(problem, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise InUseError(f"{self.beside}: another batch writes these answers; name another --out") from None
            raise self._named(problem) from None

    def _check_beside(self) -> None:
        """Raise `InputError` for a file that no batch has made, so that no byte of it is changed."""
        try:
            file = open_to_append(self.beside)
            try:
                head, size = os.pread(file, 100, 0), os.fstat(file).st_size
            finally:
                os.close(file)
        except OSError as problem:
            raise InputError(f"{self.beside}: cannot be written: {problem.strerror}") from None
        begun = size == PAGE and head[68:72] == bytes(4)  # a batch that was killed before it had made its tables
        if head and not (head.startswith(b"SQLite format 3\0") and (begun or head[68:72] == _NUMBER)):
            raise InputError(
                f"{self.beside}: is not the file of a batch that was stopped; move it, or name another --out"
            )

    @property
    def begun(self) -> tuple[Place, int]:
        """The place before which every question was answered or has failed, and how many questions these are."""
        offset, line, rows = self._row("SELECT offset, line, rows FROM state")
        return Place(offset, line), rows

    @property
    def spent(self) -> Decimal:
        """Dollars that the batch has spent in all its starts, at most."""
        return Decimal(self._row("SELECT spent FROM state")[0])

    def failed(self) -> Iterator[Place]:
        """The places before the questions that have failed, in file order."""
        after = -1
        while row := self._found("SELECT line, offset, before FROM failed WHERE line > ? ORDER BY line", (after,)):
            after = row[0]
            yield Place(row[1], row[2])

    def count_failed(self) -> tuple[int, int]:
        """How many questions have failed, and the line of the first."""
        count, first = self._row("SELECT count(*), min(line) FROM failed")
        return count, first or 0

    def find(self, key: bytes) -> Outcome | None:
        """The answer with this key; `None` if there is none."""
        row = self._found("SELECT outcome FROM outcomes WHERE key = ?", (key,))
        return None if row is None else _outcome.decode(row[0])

    def hold(self, line: int, dollars: Decimal) -> None:
        """Note that the question on this line is about to cost up to so many dollars."""
        self._execute("INSERT OR REPLACE INTO holds VALUES (?, ?)", (line, str(dollars)))

    def keep(self, request: ParsedRequest, before: Place, key: bytes, outcome: Outcome, spent: Decimal) -> None:
        """Commit an outcome at once, so that it outlives the process.

        before: the place before the question
        spent: dollars that the question has cost now
        """
        with self._transaction():
            data = msgspec.json.encode(outcome)
            if outcome.error is None:
                self._execute("INSERT OR IGNORE INTO outcomes (key, outcome) VALUES (?, ?)", (key, data))
                self._execute("DELETE FROM failed WHERE line = ?", (request.line,))
            else:
                row = (request.line, before.offset, before.line, data)
                self._execute("INSERT OR REPLACE INTO failed VALUES (?, ?, ?, ?)", row)
            self._execute("DELETE FROM holds WHERE line = ?", (request.line,))
            self._spend(spent)

    def spend(self, line: int, dollars: Decimal) -> None:
        """Replace what was held under this number by the dollars that were spent."""
        with self._transaction():
            self._execute("DELETE FROM holds WHERE line = ?", (line,))
            self._spend(dollars)

    @property
    def connection(self) -> sqlite3.Connection:
        """The partial file, for what else a batch keeps in it."""
        assert self._connection is not None, "the file is not open"
        return self._connection

    def forget_failure(self, line: int) -> None:
        """Note that the question on this line has an answer, which an equal question was given."""
        self._execute("DELETE FROM failed WHERE line = ?", (line,))

    def reach(self, place: Place, rows: int) -> None:
        """Note that every question before `place` was answered or has failed, and how many questions these are."""
        self._execute("UPDATE state SET offset = ?, line = ?, rows = ?", (place.offset, place.line, rows))

    def lines(self, questions: Questions, key_of: Callable[[Conversation], bytes]) -> Iterator[dict[str, Any]]:
        """The lines of the file of answers, in the order of the questions."""
        for request, _ in questions.read(questions.begin()):
            key = key_of(request.conversation)
            if request.wrong or (row := self._found("SELECT outcome FROM outcomes WHERE key = ?", (key,))) is None:
                row = self._row("SELECT outcome FROM failed WHERE line = ?", (request.line,))
            yield _outcome.decode(row[0]).line(request)

    def remove(self) -> None:
        """Remove the partial file, after the file of answers was written."""
        self.close()
        if not self.streams:
            for ending in ("", "-wal", "-shm"):
                self.beside.with_name(self.beside.name + ending).unlink(missing_ok=True)

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _spend(self, dollars: Decimal) -> None:
        if dollars:
            self._execute("UPDATE state SET spent = ?", (str(self.spent + dollars),))

    def _transaction(self) -> "_Transaction":
        return _Transaction(self)

    def _execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        assert self._connection is not None, "the file is not open"
        try:
            return self._connection.execute(statement, tuple(values))
        except sqlite3.OperationalError as problem:
            if self._connection.in_transaction or problem.sqlite_errorname in ("SQLITE_FULL", "SQLITE_IOERR"):
                raise self._named(problem) from None
            raise

    def _found(self, statement: str, values: Iterable[Any] = ()) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._execute(statement, values).fetchone()
        return row

    def _row(self, statement: str, values: Iterable[Any] = ()) -> tuple[Any, ...]:
        row = self._found(statement, values)
        assert row is not None, f"a row was expected: {statement}"
        return row

    def _named(self, problem: sqlite3.Error) -> Exception:
        """The error with the name of the file, which the user knows."""
        name = getattr(problem, "sqlite_errorname", "")
        if name.startswith("SQLITE_FULL"):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.beside))
        return InputError(f"{self.beside}: cannot be used: {problem}; move it, or name another --out")


_NUMBER = APPLICATION.to_bytes(4, "big")


class _Transaction:
    """Commits what its block executes, or nothing of it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __enter__(self) -> None:
        self._answers._execute("BEGIN")

    def __exit__(self, kind: object, *_: object) -> None:
        self._answers._execute("COMMIT" if kind is None else "ROLLBACK")
