"""The calls of a batch that goes layer by layer: wanted, under way at a provider, and made. They outlive the process.

They are in the partial file of the batch. An answer that the store keeps is not kept here a second time.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from partsong.events import Failure
from partsong.model import Answer, Request, Usage

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS wanted (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        model TEXT NOT NULL,
        request BLOB NOT NULL,
        job INTEGER
    )
    """,
    "CREATE INDEX IF NOT EXISTS wanted_by_model ON wanted (model, number) WHERE job IS NULL",
    "CREATE INDEX IF NOT EXISTS wanted_by_job ON wanted (job, number) WHERE job IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY, outcome BLOB NOT NULL) WITHOUT ROWID",
    # Jobs of a provider's Batch API. `label` is written before the job is submitted, and `name` is the provider's id.
    """
    CREATE TABLE IF NOT EXISTS jobs (
        number INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        label TEXT NOT NULL,
        began REAL NOT NULL,
        size INTEGER NOT NULL,
        name TEXT
    )
    """,
)


class Made(Struct, frozen=True, omit_defaults=True):
    """How a call has ended: an answer that the store does not keep, or a failure.

    usage: tokens and dollars of a call that has failed; `None` if they are not known
    """

    answer: Answer | None = None
    error: Failure | None = None
    usage: Usage | None = None


class Wanted(Struct, frozen=True):
    """A call that is to be made.

    key: key of the call in the store, see `call_key`
    model: id of the model
    """

    key: bytes
    model: str
    request: Request


class Job(Struct, frozen=True):
    """A job of a provider's Batch API.

    number: number of the job in this batch
    model: id of the model that the job asks
    label: name that partsong gives to the job, by which a job is recognised that was submitted by a process that died
    began: Unix time just before the job was submitted
    size: number of calls
    name: the provider's id; `None` as long as it is not known whether the provider has the job
    """

    number: int
    model: str
    label: str
    began: float
    size: int
    name: str | None


_made = msgspec.json.Decoder(Made)
_request = msgspec.json.Decoder(Request)


class Calls:
    """The calls of a batch, in the SQLite file `connection`. For one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for statement in TABLES:
            connection.execute(statement)

    def forget_failures(self) -> None:
        """Forget how calls have failed, so that a new start makes them again."""
        failed = [
            key
            for key, outcome in self._all("SELECT key, outcome FROM made")
            if _made.decode(outcome).error is not None
        ]
        self._connection.executemany("DELETE FROM made WHERE key = ?", [(key,) for key in failed])

    def find(self, key: bytes) -> Made | None:
        """How the call with this key has ended; `None` if it has not, or if the store has its answer."""
        row = self._connection.execute("SELECT outcome FROM made WHERE key = ?", (key,)).fetchone()
        return None if row is None else _made.decode(row[0])

    def want(self, wanted: Wanted) -> bool:
        """Note that a call is to be made. Returns whether this was new."""
        done = self._connection.execute(
            "INSERT OR IGNORE INTO wanted (key, model, request) VALUES (?, ?, ?)",
            (wanted.key, wanted.model, msgspec.json.encode(wanted.request)),
        )
        return done.rowcount > 0

    def models(self) -> Mapping[str, int]:
        """How many calls of each model wait to be made, in the order in which the models were first wanted."""
        rows = self._all("SELECT model, count(*) FROM wanted WHERE job IS NULL GROUP BY model ORDER BY min(number)")
        return dict(rows)

    def waiting(self, model: str) -> Iterator[Wanted]:
        """The calls of a model that wait to be made and are in no job. Calls may be ended meanwhile."""
        after = 0
        query = "SELECT number, key, request FROM wanted WHERE model = ? AND job IS NULL AND number > ? ORDER BY number"
        while rows := self._connection.execute(f"{query} LIMIT 100", (model, after)).fetchall():
            for number, key, request in rows:
                after = number
                yield Wanted(key, model, _request.decode(request))

    def end(self, key: bytes, made: Made | None) -> None:
        """Note that a call has ended. `made`: how; `None` if the store has its answer."""
        self._connection.execute("BEGIN")
        if made is not None:
            row = (key, msgspec.json.encode(made))
            self._connection.execute("INSERT OR REPLACE INTO made VALUES (?, ?)", row)
        self._connection.execute("DELETE FROM wanted WHERE key = ?", (key,))
        self._connection.execute("COMMIT")

    def wants(self, key: bytes) -> Wanted | None:
        """The wanted call with this key."""
        row = self._connection.execute("SELECT model, request FROM wanted WHERE key = ?", (key,)).fetchone()
        return None if row is None else Wanted(key, row[0], _request.decode(row[1]))

    # Jobs of a provider's Batch API

    def jobs(self) -> list[Job]:
        """The jobs that have not ended."""
        rows = self._all("SELECT number, model, label, began, size, name FROM jobs ORDER BY number")
        return [Job(*row) for row in rows]

    def begin_job(self, model: str, label: str, began: float, keys: list[bytes]) -> Job:
        """Note that these calls are about to be submitted as one job."""
        self._connection.execute("BEGIN")
        number = self._connection.execute(
            "INSERT INTO jobs (model, label, began, size) VALUES (?, ?, ?, ?)", (model, label, began, len(keys))
        ).lastrowid
        assert number is not None, "an inserted row has a number"
        self._connection.executemany("UPDATE wanted SET job = ? WHERE key = ?", [(number, key) for key in keys])
        self._connection.execute("COMMIT")
        return Job(number, model, label, began, len(keys), None)

    def name_job(self, job: Job, name: str) -> None:
        """Note the provider's id of a job."""
        self._connection.execute("UPDATE jobs SET name = ? WHERE number = ?", (name, job.number))

    def in_job(self, job: Job) -> Iterator[Wanted]:
        """The calls of a job that have not ended."""
        after = 0
        query = "SELECT number, key, request FROM wanted WHERE job = ? AND number > ? ORDER BY number LIMIT 100"
        while rows := self._connection.execute(query, (job.number, after)).fetchall():
            for number, key, request in rows:
                after = number
                yield Wanted(key, job.model, _request.decode(request))

    def end_job(self, job: Job) -> int:
        """Note that a job has ended. Its calls that have not ended wait again; returns how many these are."""
        self._connection.execute("BEGIN")
        left = self._connection.execute("UPDATE wanted SET job = NULL WHERE job = ?", (job.number,)).rowcount
        self._connection.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
        self._connection.execute("COMMIT")
        return left

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query).fetchall()
