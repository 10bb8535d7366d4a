"""Runs looked for: one caller's own, newest first, by what was asked, by recipe, model, money, loss and time.

A page goes on where the one before ended (`before` is its last run), so that new runs never shift it.
"""

import sqlite3
from typing import Any

from msgspec import Struct

from partsong.errors import RequestError
from partsong.store.sqlite.runs import COLUMNS, StoredRun, run_of


class Search(Struct, frozen=True):
    """What to look for. `text` are words that the question must have, each of them, in capitals or not; `model` has
    answered in the run, or was to; `after` is a Unix time."""

    caller: str = ""
    text: str = ""
    recipe: str = ""
    model: str = ""
    min_dollars: float | None = None
    lost: bool = False
    after: float | None = None
    before: str = ""
    limit: int = 50


def find_some(connection: sqlite3.Connection, search: Search) -> tuple[list[StoredRun], bool]:
    """The runs, newest first, and whether there are more. Raises `RequestError` for a `before` that is no run."""
    where, values = ["caller = ?"], [search.caller]

    def ask(condition: str, *given: Any) -> None:
        where.append(condition)
        values.extend(given)

    if search.before:
        row = connection.execute(
            "SELECT started, id FROM runs WHERE id = ? AND caller = ?", (search.before, search.caller)
        ).fetchone()
        if row is None:
            raise RequestError(f'before: there is no run "{search.before}" of yours', "before")
        ask("(started, id) < (?, ?)", *row)
    if search.after is not None:
        ask("started >= ?", search.after)
    if search.recipe:
        ask("recipe = ?", search.recipe)
    if search.model:
        ask("(model = ? OR id IN (SELECT run FROM shares WHERE model = ?))", search.model, search.model)
    if search.min_dollars is not None:
        ask("CAST(dollars AS REAL) >= ?", search.min_dollars)
    if search.lost:
        ask("losses > 0")
    if words := search.text.casefold().split():
        # SQLite's own LIKE takes only the letters of ASCII for the same in capitals.
        connection.create_function("has_words", 1, lambda text: all(word in text.casefold() for word in words))
        where.append("has_words(question)")
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM runs WHERE {' AND '.join(where)} ORDER BY started DESC, id DESC LIMIT ?",
        (*values, search.limit + 1),
    ).fetchall()
    return [run_of(row) for row in rows[: search.limit]], len(rows) > search.limit
