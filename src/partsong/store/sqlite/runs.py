"""Runs: a row with the summary of each run, and its events in pieces."""

import datetime
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from partsong.store.encoding import join_events, pack_events, unpack_events
from partsong.store.runs import CONVERSATION, Deleted, Search, StoredRun, Timed
from partsong.store.shares import Share
from partsong.store.sqlite import calls, conversations, totals, votes
from partsong.store.sqlite.shares import keep as keep_shares

JOINED = 1 << 20  # bytes of all pieces that are made one
FILL = 65_536  # bytes, as many as a run with long answers has
EXAMINED = 20_000  # runs that a search with conditions looks at: under a tenth of a second
COLUMNS = ", ".join(StoredRun.__struct_fields__)
_STARTED = StoredRun.__struct_fields__.index("started")
_LABELS = StoredRun.__struct_fields__.index("labels")
_MARKS = ", ".join("?" * len(StoredRun.__struct_fields__))


def save(
    connection: sqlite3.Connection,
    run: StoredRun,
    index: int,
    events: Sequence[Timed] | bytes,
    shares: Sequence[Share],
    words: str = "",
) -> None:
    """Replace the summary of a run, add a piece of events, and replace shares. See `Backend.save_run`.

    events: the events, or what `pack_events` has made of them
    words: words of these events by which a search finds the conversation of the run (default: none)
    """
    if index == 0:
        _delete_row(connection, run.id)
    labels = msgspec.json.encode(run.labels).decode()
    dollars = None if run.dollars is None else str(run.dollars)
    row = structs.asdict(run) | {"started": run.started.timestamp(), "labels": labels, "dollars": dollars}
    # Most pieces of a run leave its totals as they are.
    before = connection.execute("SELECT status, tokens, dollars, losses FROM runs WHERE id = ?", (run.id,)).fetchone()
    if before is None and index > 0:
        return
    changed = bool(shares) or before != (run.status, run.tokens, dollars, run.losses)
    if changed and before is not None:
        totals.take_away(connection, run.id)
    connection.execute(
        f"INSERT OR REPLACE INTO runs ({COLUMNS}, conversation) VALUES ({_MARKS}, ?)",
        (*row.values(), run.labels.get(CONVERSATION, "")),
    )
    keep_shares(connection, run.id, shares)
    if changed:
        totals.add(connection, run.id)
    if events:
        packed = events if isinstance(events, bytes) else pack_events(events)
        connection.execute("INSERT INTO pieces VALUES (?, ?, ?)", (run.id, index, packed))
    if conversation := run.labels.get(CONVERSATION):
        if index == 0:
            conversations.touch(connection, run.caller, conversation, run.started.timestamp())
        if words:
            conversations.keep_words(connection, run.id, run.caller, conversation, words)


def join(connection: sqlite3.Connection, run: str) -> None:
    """Replace all pieces of events of a run by one piece."""
    pieces = _pieces(connection, run)
    # Pieces of many megabytes stay as they are: joining them would hold up all other writes for seconds.
    if len(pieces) > 1 and sum(map(len, pieces)) <= JOINED:
        connection.execute("DELETE FROM pieces WHERE run = ?", (run,))
        connection.execute("INSERT INTO pieces VALUES (?, 0, ?)", (run, join_events(pieces)))


def find(connection: sqlite3.Connection, run: str) -> StoredRun | None:
    """The summary of the run with the id `run`; `None` if there is no such run."""
    row = connection.execute(f"SELECT {COLUMNS} FROM runs WHERE id = ?", (run,)).fetchone()
    return None if row is None else _run_of(row)


def ids(connection: sqlite3.Connection, prefix: str, limit: int | None) -> list[str]:
    """The ids that begin with `prefix`, the newest run first; at most `limit` of them."""
    within = "WHERE id >= :prefix AND id < :prefix || char(1114111) " if prefix else ""  # the last character of Unicode
    rows = connection.execute(
        f"SELECT id FROM runs {within}ORDER BY started DESC, id DESC LIMIT :most",
        {"prefix": prefix, "most": -1 if limit is None else limit},
    )
    return [identity for (identity,) in rows.fetchall()]


def latest(connection: sqlite3.Connection, limit: int, apart: bool) -> list[StoredRun]:
    """The newest runs, newest first. `apart`: also those of batches and benches."""
    which = "" if apart else "WHERE source = '' "
    rows = connection.execute(f"SELECT {COLUMNS} FROM runs {which}ORDER BY started DESC, id DESC LIMIT ?", (limit,))
    return [_run_of(row) for row in rows.fetchall()]


def search(connection: sqlite3.Connection, search: Search) -> tuple[list[StoredRun], bool]:
    """The summaries of the runs that match, newest first, and whether there are more than `search.limit`.

    Only the newest `EXAMINED` runs of the caller are looked at, within `before` and `after`.
    """
    conditions: list[tuple[str, tuple[Any, ...]]] = [("caller = ?", (search.caller,))]
    if search.before:
        conditions.append(("(started, id) < (SELECT started, id FROM runs WHERE id = ?)", (search.before,)))
    if search.after is not None:
        conditions.append(("started >= ?", (search.after,)))
    if not search.apart:
        conditions.append(("source = ''", ()))
    filters = _filters(connection, search)
    unseen = None
    if filters:
        condition, values = _all(conditions)
        unseen = connection.execute(
            f"SELECT started, id FROM runs WHERE {condition} ORDER BY started DESC, id DESC LIMIT 1 OFFSET ?",
            (*values, EXAMINED),
        ).fetchone()
    if unseen is not None:
        conditions.append(("(started, id) > (?, ?)", unseen))
    condition, values = _all([*conditions, *filters])
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY started DESC, id DESC LIMIT ?",
        (*values, search.limit + 1),
    ).fetchall()
    return [_run_of(row) for row in rows[: search.limit]], len(rows) > search.limit


def _filters(connection: sqlite3.Connection, search: Search) -> list[tuple[str, tuple[Any, ...]]]:
    """The conditions that no index decides."""
    filters: list[tuple[str, tuple[Any, ...]]] = []
    if search.recipe:
        filters.append(("recipe = ?", (search.recipe,)))
    if search.model:
        asked = "EXISTS (SELECT 1 FROM shares WHERE shares.run = runs.id AND shares.model = ?)"
        filters.append((f"(model = ? OR {asked})", (search.model, search.model)))
    if search.min_dollars is not None:
        filters.append(("CAST(dollars AS REAL) >= ?", (search.min_dollars,)))
    if search.lost:
        filters.append(("losses > 0", ()))
    if words := search.text.casefold().split():
        # SQLite's own LIKE ignores case for the letters of ASCII alone.
        connection.create_function("has_words", 1, lambda text: all(word in text.casefold() for word in words))
        filters.append(("has_words(question)", ()))
    return filters


def _all(conditions: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]]:
    """The conditions joined, and their values."""
    condition = " AND ".join(condition for condition, _ in conditions)
    return condition, tuple(value for _, values in conditions for value in values)


def of_conversation(connection: sqlite3.Connection, caller: str, conversation: str, limit: int) -> list[StoredRun]:
    """The newest `limit` runs of a conversation of the caller, the oldest of them first."""
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM runs WHERE id = :conversation AND caller = :caller "
        f"UNION SELECT {COLUMNS} FROM (SELECT * FROM runs WHERE caller = :caller AND conversation = :conversation "
        "AND conversation != '' ORDER BY started DESC, id DESC LIMIT :most)",
        {"caller": caller, "conversation": conversation, "most": limit},
    ).fetchall()
    found = sorted(map(_run_of, rows), key=lambda run: (run.started, run.id))
    return found[-limit:]


def read_events(connection: sqlite3.Connection, run: str) -> tuple[str, list[Timed]] | None:
    """The mode of a run and its events; `None` if there is no such run. Raises `msgspec.DecodeError`."""
    found = connection.execute("SELECT mode FROM runs WHERE id = ?", (run,)).fetchone()
    return None if found is None else (found[0], unpack_events(_pieces(connection, run)))


def delete(connection: sqlite3.Connection, run: str) -> Deleted:
    """Delete a run with all that belongs to it, so that no copy of its words stays in the file."""
    row = connection.execute("SELECT caller, conversation FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        return Deleted(0, 0)
    before: int = connection.execute("PRAGMA secure_delete").fetchone()[0]
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    try:
        votes.forget_run(connection, row[0], run)
        deleted = calls.delete_of(connection, run)
        _delete_row(connection, run)
        conversations.forget(connection, row[0], {row[1], run})
    finally:
        connection.execute(f"PRAGMA secure_delete = {before}").fetchall()
    return Deleted(1, deleted)


def _delete_row(connection: sqlite3.Connection, run: str) -> None:
    """Delete a run, its events, its shares and its words."""
    totals.take_away(connection, run)
    connection.execute("DELETE FROM runs WHERE id = ?", (run,))
    connection.execute("DELETE FROM pieces WHERE run = ?", (run,))
    connection.execute("DELETE FROM shares WHERE run = ?", (run,))
    conversations.forget_words(connection, run)


def delete_some(
    connection: sqlite3.Connection, caller: str, conversation: str, before: float | None, at_most: int
) -> Deleted:
    """Delete up to `at_most` of the caller's runs: of a conversation, or from before a Unix time, or all."""
    if conversation:
        rows = connection.execute(
            "SELECT id FROM runs WHERE id = :conversation AND caller = :caller "
            "UNION SELECT id FROM runs WHERE caller = :caller AND conversation = :conversation AND conversation != '' "
            "LIMIT :most",
            {"caller": caller, "conversation": conversation, "most": at_most},
        ).fetchall()
    else:
        rows = connection.execute(
            "SELECT id FROM runs WHERE caller = ? AND started < ? LIMIT ?",
            (caller, float("inf") if before is None else before, at_most),
        ).fetchall()
    deleted = [delete(connection, run) for (run,) in rows]
    return Deleted(len(deleted), sum(each.calls for each in deleted))


def fill(connection: sqlite3.Connection) -> None:
    """Write a piece that belongs to no run, of about the size of a run."""
    connection.execute("INSERT OR REPLACE INTO pieces VALUES ('', 0, zeroblob(?))", (FILL,))


def empty(connection: sqlite3.Connection) -> None:
    """Delete the piece that belongs to no run."""
    connection.execute("DELETE FROM pieces WHERE run = ''")


def prune(connection: sqlite3.Connection, before: float, at_most: int) -> int:
    """Delete up to `at_most` runs that began before a Unix time, with their events and shares.

    Returns the number of deleted runs.
    """
    query = "SELECT id, caller, conversation FROM runs WHERE started < ? LIMIT ?"
    old = connection.execute(query, (before, at_most)).fetchall()
    for run, _, _ in old:
        _delete_row(connection, run)
    for run, caller, conversation in old:
        conversations.forget(connection, caller, {conversation, run})
    return len(old)


def _pieces(connection: sqlite3.Connection, run: str) -> list[bytes]:
    rows = connection.execute("SELECT events FROM pieces WHERE run = ? ORDER BY number", (run,)).fetchall()
    return [piece for (piece,) in rows]


def _run_of(row: tuple[Any, ...]) -> StoredRun:
    """The run in a row of `COLUMNS`."""
    run = StoredRun(*row)
    return structs.replace(
        run,
        started=datetime.datetime.fromtimestamp(row[_STARTED], datetime.UTC),
        dollars=None if run.dollars is None else Decimal(run.dollars),
        labels=msgspec.json.decode(row[_LABELS], type=dict[str, str]),
    )
