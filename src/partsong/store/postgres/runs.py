"""Runs: a row with the summary of each run, and its events in pieces.

Several replicas may write the same run: one performs the run while another one deletes it. So whoever changes a run
locks its row first.
"""

import datetime
import os
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from partsong.store.conversations import words_of
from partsong.store.encoding import join_events, pack_events, unpack_events
from partsong.store.postgres import calls, conversations, totals, votes
from partsong.store.postgres.shares import keep as keep_shares
from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Row, Transaction
from partsong.store.runs import CONVERSATION, Deleted, Search, StoredRun, Timed
from partsong.store.shares import Share

FILL = 65_536  # bytes, as many as a run with long answers has
EXAMINED = 20_000  # runs that a search with conditions looks at
_FIELDS = StoredRun.__struct_fields__
COLUMNS = ", ".join(_FIELDS)
_TEXTS = ("id", "mode", "recipe", "model", "question", "status", "cause", "caller", "source")
_ALL = (*_FIELDS, "conversation", "folded")
_SET = ", ".join(f"{name} = excluded.{name}" for name in _ALL if name != "id")
_MARKS = ", ".join(["%s"] * len(_ALL))
_SAVE = f"INSERT INTO runs ({', '.join(_ALL)}) VALUES ({_MARKS}) ON CONFLICT (id) DO UPDATE SET {_SET}"
_LATEST_BYTE = b"\xff"  # above every byte of UTF-8


def save(
    transaction: Transaction, run: StoredRun, index: int, events: Sequence[Timed], shares: Sequence[Share]
) -> None:
    """Replace the summary of a run, add a piece of events, and replace shares. See `Backend.save_run`."""
    identity = packed(run.id)
    # Most pieces of a run leave its totals as they are.
    query = "SELECT status, tokens, dollars, losses FROM runs WHERE id = %s FOR UPDATE"
    before = transaction.row(query, (identity,))
    if index == 0 and before is not None:
        delete_rows(transaction, [identity])
        before = None
    elif before is None and index > 0:
        return
    changed = bool(shares) or before != (packed(run.status), run.tokens, run.dollars, run.losses)
    if changed and before is not None:
        totals.count(transaction, [identity], -1)
    row: dict[str, Any] = structs.asdict(run)
    row |= {name: packed(row[name]) for name in _TEXTS}
    row |= {"started": run.started.timestamp(), "labels": msgspec.json.encode(run.labels)}
    conversation, folded = packed(run.labels.get(CONVERSATION, "")), packed(run.question.casefold())
    transaction.execute(_SAVE, (*(row[name] for name in _FIELDS), conversation, folded))
    keep_shares(transaction, identity, shares)
    if changed:
        totals.count(transaction, [identity], 1)
    if events:
        insert = "INSERT INTO pieces (run, number, events) VALUES (%s, %s, %s)"
        transaction.execute(insert, (identity, index, pack_events(events)))
    if conversation:
        if index == 0:
            transaction.change_conversation(row["caller"], conversation, row["started"])
        if words := words_of(events):
            conversations.keep_words(transaction, identity, row["caller"], conversation, words)


def join(transaction: Transaction, run: str) -> None:
    """Replace all pieces of events of a run by one piece."""
    identity = packed(run)
    if transaction.row("SELECT 1 FROM runs WHERE id = %s FOR UPDATE", (identity,)) is None:
        return
    pieces = _pieces(transaction, identity)
    if len(pieces) > 1:
        transaction.execute("DELETE FROM pieces WHERE run = %s", (identity,))
        insert = "INSERT INTO pieces (run, number, events) VALUES (%s, 0, %s)"
        transaction.execute(insert, (identity, join_events(pieces)))


def find(transaction: Transaction, run: str) -> StoredRun | None:
    """The summary of the run with the id `run`; `None` if there is no such run."""
    row = transaction.row(f"SELECT {COLUMNS} FROM runs WHERE id = %s", (packed(run),))
    return None if row is None else _run_of(row)


def ids(transaction: Transaction, prefix: str, limit: int | None) -> list[str]:
    """The ids that begin with `prefix`, the newest run first; at most `limit` of them."""
    first = packed(prefix)
    rows = transaction.rows(
        "SELECT id FROM runs WHERE id >= %s AND id < %s ORDER BY started DESC, id DESC LIMIT %s",
        (first, first + _LATEST_BYTE, limit),
    )
    return [unpacked(identity) for (identity,) in rows]


def latest(transaction: Transaction, limit: int, apart: bool) -> list[StoredRun]:
    """The newest runs, newest first. `apart`: also those of batches and benches."""
    which = "" if apart else "WHERE source = '' "
    rows = transaction.rows(f"SELECT {COLUMNS} FROM runs {which}ORDER BY started DESC, id DESC LIMIT %s", (limit,))
    return [_run_of(row) for row in rows]


def search(transaction: Transaction, search: Search) -> tuple[list[StoredRun], bool]:
    """The summaries of the runs that match, newest first, and whether there are more than `search.limit`.

    Only the newest `EXAMINED` runs of the caller are looked at, within `before` and `after`.
    """
    conditions: list[tuple[str, tuple[Any, ...]]] = [("caller = %s", (packed(search.caller),))]
    if search.before:
        condition = "(started, id) < (SELECT started, id FROM runs WHERE id = %s)"
        conditions.append((condition, (packed(search.before),)))
    if search.after is not None:
        conditions.append(("started >= %s", (search.after,)))
    if not search.apart:
        conditions.append(("source = ''", ()))
    filters = _filters(search)
    unseen = None
    if filters:
        condition, values = _all(conditions)
        unseen = transaction.row(
            f"SELECT started, id FROM runs WHERE {condition} ORDER BY started DESC, id DESC LIMIT 1 OFFSET %s",
            (*values, EXAMINED),
        )
    if unseen is not None:
        conditions.append(("(started, id) > (%s, %s)", unseen))
    condition, values = _all([*conditions, *filters])
    rows = transaction.rows(
        f"SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY started DESC, id DESC LIMIT %s",
        (*values, search.limit + 1),
    )
    return [_run_of(row) for row in rows[: search.limit]], len(rows) > search.limit


def _filters(search: Search) -> list[tuple[str, tuple[Any, ...]]]:
    """The conditions that no index decides."""
    filters: list[tuple[str, tuple[Any, ...]]] = []
    if search.recipe:
        filters.append(("recipe = %s", (packed(search.recipe),)))
    if search.model:
        model = packed(search.model)
        asked = "EXISTS (SELECT 1 FROM shares WHERE shares.run = runs.id AND shares.model = %s)"
        filters.append((f"(model = %s OR {asked})", (model, model)))
    if search.min_dollars is not None:
        filters.append(("dollars::double precision >= %s", (search.min_dollars,)))
    if search.lost:
        filters.append(("losses > 0", ()))
    filters.extend(("position(%s IN folded) > 0", (packed(word),)) for word in search.text.casefold().split())
    return filters


def _all(conditions: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[str, tuple[Any, ...]]:
    """The conditions joined, and their values."""
    condition = " AND ".join(condition for condition, _ in conditions)
    return condition, tuple(value for _, values in conditions for value in values)


def of_conversation(transaction: Transaction, caller: str, conversation: str, limit: int) -> list[StoredRun]:
    """The newest `limit` runs of a conversation of the caller, the oldest of them first."""
    name, owner = packed(conversation), packed(caller)
    rows = transaction.rows(
        f"SELECT {COLUMNS} FROM runs WHERE id = %s AND caller = %s "
        f"UNION (SELECT {COLUMNS} FROM runs WHERE caller = %s AND conversation = %s AND conversation != '' "
        "ORDER BY started DESC, id DESC LIMIT %s) ORDER BY started DESC, id DESC LIMIT %s",
        (name, owner, owner, name, limit, limit),
    )
    return [_run_of(row) for row in reversed(rows)]


def read_events(transaction: Transaction, run: str) -> tuple[str, list[Timed]] | None:
    """The mode of a run and its events; `None` if there is no such run. Raises `msgspec.DecodeError`."""
    # One statement, since the pieces may be joined between two.
    rows = transaction.rows(
        "SELECT runs.mode, pieces.events FROM runs LEFT JOIN pieces ON pieces.run = runs.id "
        "WHERE runs.id = %s ORDER BY pieces.number",
        (packed(run),),
    )
    return (unpacked(rows[0][0]), unpack_events(piece for _, piece in rows if piece is not None)) if rows else None


def delete(transaction: Transaction, run: str) -> Deleted:
    """Delete the run with this id, with all that belongs to it."""
    return _delete(transaction, [packed(run)])


def _delete(transaction: Transaction, runs: Sequence[bytes]) -> Deleted:
    """Delete these runs with all that belongs to them. Their rows are locked in one order."""
    rows = transaction.rows(
        "SELECT caller, id, conversation FROM runs WHERE id = ANY(%s::bytea[]) ORDER BY id FOR UPDATE", (list(runs),)
    )
    if not rows:
        return Deleted(0, 0)
    found = [run for _, run, _ in rows]
    votes.forget_runs(transaction, [(caller, run) for caller, run, _ in rows])
    deleted = calls.delete_of(transaction, found)
    delete_rows(transaction, found)
    _forget_conversations(transaction, rows)
    return Deleted(len(found), deleted)


def delete_rows(transaction: Transaction, runs: Sequence[bytes]) -> None:
    """Delete runs, whose rows are locked, their events, their shares and their words."""
    totals.count(transaction, runs, -1)
    for table, column in (("runs", "id"), ("pieces", "run"), ("shares", "run"), ("words", "run")):
        transaction.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s::bytea[])", (list(runs),))


def _forget_conversations(transaction: Transaction, rows: Sequence[Row]) -> None:
    """Unlist the conversations of these runs that have no run any more. `rows`: caller, id and conversation."""
    for caller, run, conversation in rows:
        for name in {run, conversation} - {b""}:
            transaction.forget_conversation(caller, name)


def delete_some(
    transaction: Transaction, caller: str, conversation: str, before: float | None, at_most: int
) -> Deleted:
    """Delete up to `at_most` of the caller's runs: of a conversation, or from before a Unix time, or all."""
    owner = packed(caller)
    if conversation:
        named = packed(conversation)
        rows = transaction.rows(
            "SELECT id FROM runs WHERE id = %s AND caller = %s UNION "
            "SELECT id FROM runs WHERE caller = %s AND conversation = %s AND conversation != '' ORDER BY id LIMIT %s",
            (named, owner, owner, named, at_most),
        )
    else:
        rows = transaction.rows(
            "SELECT id FROM runs WHERE caller = %s AND started < %s ORDER BY started, id LIMIT %s",
            (owner, float("inf") if before is None else before, at_most),
        )
    return _delete(transaction, [run for (run,) in rows])


def fill(transaction: Transaction) -> None:
    """Write a piece that belongs to no run, of about the size of a run."""
    transaction.execute(
        "INSERT INTO pieces (run, number, events) VALUES ('', 0, %s) "
        "ON CONFLICT (run, number) DO UPDATE SET events = excluded.events",
        (os.urandom(FILL),),
    )


def empty(transaction: Transaction) -> None:
    """Delete the piece that belongs to no run."""
    transaction.execute("DELETE FROM pieces WHERE run = ''")


def prune(transaction: Transaction, before: float, at_most: int) -> int:
    """Delete up to `at_most` runs that began before a Unix time, with their events and shares.

    Returns the number of deleted runs.
    """
    old = transaction.rows(
        "SELECT caller, id, conversation FROM runs WHERE started < %s ORDER BY started, id LIMIT %s FOR UPDATE",
        (before, at_most),
    )
    delete_rows(transaction, [run for _, run, _ in old])
    _forget_conversations(transaction, old)
    return len(old)


def _pieces(transaction: Transaction, run: bytes) -> list[bytes]:
    return [piece for (piece,) in transaction.rows("SELECT events FROM pieces WHERE run = %s ORDER BY number", (run,))]


def _run_of(row: Row) -> StoredRun:
    """The run in a row of `COLUMNS`."""
    values: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
    values |= {name: unpacked(values[name]) for name in _TEXTS}
    values["started"] = datetime.datetime.fromtimestamp(values["started"], datetime.UTC)
    values["labels"] = msgspec.json.decode(values["labels"], type=dict[str, str])
    return StoredRun(**values)
