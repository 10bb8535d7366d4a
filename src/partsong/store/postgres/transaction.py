"""One transaction: what its jobs ask of the database, and the totals that they change.

Two replicas that change the same rows of totals in different orders would wait for each other. So jobs add to `totals`,
and the changed rows are written at the end of the transaction, in one order.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg

Row = tuple[Any, ...]
Changes = dict[tuple[Any, ...], Counter[str]]

_DAY = (
    "INSERT INTO day_totals (caller, day, runs, dollars, tokens, lost, unpriced) VALUES (%s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (caller, day) DO UPDATE SET runs = day_totals.runs + excluded.runs, "
    "dollars = day_totals.dollars + excluded.dollars, tokens = day_totals.tokens + excluded.tokens, "
    "lost = day_totals.lost + excluded.lost, unpriced = day_totals.unpriced + excluded.unpriced"
)
_MODEL = (
    "INSERT INTO model_totals (caller, day, model, runs, calls, dollars, tokens, lost, unpriced) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (caller, day, model) DO UPDATE SET runs = model_totals.runs + excluded.runs, "
    "calls = model_totals.calls + excluded.calls, dollars = model_totals.dollars + excluded.dollars, "
    "tokens = model_totals.tokens + excluded.tokens, lost = model_totals.lost + excluded.lost, "
    "unpriced = model_totals.unpriced + excluded.unpriced"
)
_OF_A_DAY = ("runs", "dollars", "tokens", "lost", "unpriced")
_OF_A_MODEL = ("runs", "calls", "dollars", "tokens", "lost", "unpriced")


class Transaction:
    """A transaction that is open on `connection`, for jobs that read or write."""

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self.connection = connection
        self._days: Changes = {}
        self._models: Changes = {}

    def execute(self, query: str, values: Sequence[Any] = ()) -> "psycopg.Cursor[Row]":
        """Do one statement."""
        return self.connection.execute(query.encode(), values or None)

    def many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Do one statement for each row of values."""
        if len(rows) == 1:
            self.execute(query, rows[0])
        elif rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(query.encode(), rows)

    def row(self, query: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of the statement's result; `None` if there is no row."""
        return self.execute(query, values).fetchone()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of the statement's result."""
        return self.execute(query, values).fetchall()

    def count_day(self, caller: bytes, day: date, change: Mapping[str, int | Decimal]) -> None:
        """Add to the totals of a caller's day."""
        _add(self._days, (caller, day), change)

    def count_model(self, caller: bytes, day: date, model: bytes, change: Mapping[str, int | Decimal]) -> None:
        """Add to the totals of a model on a caller's day."""
        _add(self._models, (caller, day, model), change)

    def finish(self) -> None:
        """Write the totals that have changed."""
        for query, names, changes in ((_DAY, _OF_A_DAY, self._days), (_MODEL, _OF_A_MODEL, self._models)):
            rows = [(*key, *(changes[key][name] for name in names)) for key in sorted(changes)]
            self.many(query, [row for row in rows if any(row[len(row) - len(names) :])])


def _add(changes: Changes, key: tuple[Any, ...], change: Mapping[str, int | Decimal]) -> None:
    found = changes.setdefault(key, Counter())
    for name, number in change.items():
        found[name] += number  # type: ignore[assignment]  # dollars are decimals
