"""Runs in the store: a row that says what came of each, and its events in pieces that keep their times."""

import datetime
import sqlite3
import zlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from partsong.errors import InputError, StoreError
from partsong.events import AnyEvent
from partsong.store.sqlite.shares import Share
from partsong.store.sqlite.shares import keep as keep_shares

Status = Literal["open", "finished", "failed"]
Timed = tuple[float, AnyEvent]  # seconds since the run's start, and what happened then

_lines = msgspec.json.Encoder(decimal_format="string")
_timed = msgspec.json.Decoder(Timed)


class StoredRun(Struct, frozen=True):
    """What came of a run, in a line. `open` is one that is going on, or whose process died.

    `calls` were asked of models, `stored` more were answered from the store. `model` wrote the answer, or was to.
    `question` is its first line, `cause` why it failed. In `mode` "metadata" there are neither words nor events.
    `caller` is the name of the key that asked the server for it, `labels` what the caller called it. `layers` counts
    the aggregator's, too; 0: nobody counted them yet.
    """

    id: str
    mode: str
    started: datetime.datetime
    seconds: float
    recipe: str
    model: str
    question: str
    status: Status
    cause: str
    calls: int
    stored: int
    tokens: int
    dollars: Decimal | None
    losses: int
    caller: str = ""
    labels: dict[str, str] = {}
    layers: int = 0


COLUMNS = ", ".join(StoredRun.__struct_fields__)
_LABELS = StoredRun.__struct_fields__.index("labels")
_MARKS = ", ".join("?" * len(StoredRun.__struct_fields__))


def save(
    connection: sqlite3.Connection, run: StoredRun, number: int, events: Sequence[Timed], shares: Sequence[Share] = ()
) -> None:
    """Write down what is known of the run by now, and its latest events as the piece `number`. 0 begins it anew.

    `shares` are those of its models, where they are known anew.
    """
    if number == 0:
        connection.execute("DELETE FROM pieces WHERE run = ?", (run.id,))
        connection.execute("DELETE FROM shares WHERE run = ?", (run.id,))
    keep_shares(connection, run.id, shares)
    labels = msgspec.json.encode(run.labels).decode()
    row = structs.asdict(run) | {"started": run.started.timestamp(), "labels": labels}
    if run.dollars is not None:
        row["dollars"] = str(run.dollars)
    connection.execute(f"INSERT OR REPLACE INTO runs ({COLUMNS}) VALUES ({_MARKS})", tuple(row.values()))
    if events:
        piece = zlib.compress(_lines.encode_lines(events), 1)
        connection.execute("INSERT INTO pieces VALUES (?, ?, ?)", (run.id, number, piece))


def join(connection: sqlite3.Connection, run: str) -> None:
    """Make one piece of them all: prompts and answers say the same words again, and shrink together."""
    pieces = _pieces(connection, run)
    if len(pieces) > 1:
        connection.execute("DELETE FROM pieces WHERE run = ?", (run,))
        whole = zlib.compress(b"".join(pieces), 6)
        connection.execute("INSERT INTO pieces VALUES (?, 0, ?)", (run, whole))


def latest(connection: sqlite3.Connection, limit: int) -> list[StoredRun]:
    """The newest runs, newest first."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM runs ORDER BY started DESC, id DESC LIMIT ?", (limit,))
    return [run_of(row) for row in rows.fetchall()]


def find(connection: sqlite3.Connection, prefix: str) -> StoredRun:
    """The run whose id begins like that; `last` is the newest. Raises `InputError`, which names runs that are near."""
    if prefix == "last":
        if newest := latest(connection, 1):
            return newest[0]
        raise InputError("no run is in the store yet")
    if found := connection.execute(f"SELECT {COLUMNS} FROM runs WHERE id = ?", (prefix,)).fetchone():
        return run_of(found)
    begins = connection.execute(
        f"SELECT {COLUMNS} FROM runs WHERE substr(id, 1, ?) = ? ORDER BY started DESC", (len(prefix), prefix)
    ).fetchall()
    if prefix and len(begins) == 1:
        return run_of(begins[0])
    if prefix and begins:
        raise InputError(f'{len(begins)} runs begin with "{prefix}": {_names(begins)}; give more of the id')
    near = connection.execute("SELECT id FROM runs ORDER BY started DESC LIMIT 200").fetchall()
    if not near:
        raise InputError(f'there is no run "{prefix}"; no run is in the store yet')
    near.sort(key=lambda row: -_alike(row[0], prefix))
    raise InputError(f'there is no run "{prefix}"; near it: {_names(near)} ("last" is the newest)')


def read_events(connection: sqlite3.Connection, run: str, path: Path) -> list[Timed]:
    """The events of the run of that id. Raises `InputError` where none were kept."""
    found = connection.execute("SELECT mode FROM runs WHERE id = ?", (run,)).fetchone()
    if found is None:
        raise InputError(f'there is no run "{run}"')
    if found[0] != "full":
        raise InputError(f'run {run} was stored without its words (store = "{found[0]}"), so its events are not there')
    try:
        return _timed.decode_lines(b"".join(_pieces(connection, run)))
    except (msgspec.DecodeError, zlib.error) as problem:
        raise StoreError(f"{path}: the events of run {run} cannot be read by this version: {problem}") from None


def delete(connection: sqlite3.Connection, run: str) -> None:
    """Delete the run of that id with its events, if there is one."""
    connection.execute("DELETE FROM runs WHERE id = ?", (run,))
    connection.execute("DELETE FROM pieces WHERE run = ?", (run,))
    connection.execute("DELETE FROM shares WHERE run = ?", (run,))


def prune(connection: sqlite3.Connection, before: float, at_most: int) -> int:
    """Delete up to so many runs that began before then, with their events; how many."""
    old = connection.execute("SELECT id FROM runs WHERE started < ? LIMIT ?", (before, at_most)).fetchall()
    connection.executemany("DELETE FROM runs WHERE id = ?", old)
    connection.executemany("DELETE FROM pieces WHERE run = ?", old)
    connection.executemany("DELETE FROM shares WHERE run = ?", old)
    return len(old)


def _pieces(connection: sqlite3.Connection, run: str) -> list[bytes]:
    rows = connection.execute("SELECT events FROM pieces WHERE run = ? ORDER BY number", (run,)).fetchall()
    return [zlib.decompress(piece) for (piece,) in rows]


def run_of(row: tuple[Any, ...]) -> StoredRun:
    """The run in a row of `COLUMNS`."""
    run = StoredRun(*row)
    return structs.replace(
        run,
        started=datetime.datetime.fromtimestamp(row[2], datetime.UTC),
        dollars=None if run.dollars is None else Decimal(run.dollars),
        labels=msgspec.json.decode(row[_LABELS], type=dict[str, str]),
    )


def _names(rows: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(row[0] for row in rows[:5]) + (", …" if len(rows) > 5 else "")


def _alike(identity: str, prefix: str) -> int:
    """How many letters the two begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(identity, prefix, strict=False)) if a != b), len(prefix))
