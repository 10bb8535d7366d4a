"""One transaction: what its jobs ask of the database, and the totals and conversations that they change.

Two replicas that change the same rows in different orders would wait for each other. So jobs say what changes, and the
rows are written at the end of the transaction, in one order.
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
# A conversation is listed as long as it has a run.
_HAS_RUNS = (
    "(EXISTS (SELECT 1 FROM runs WHERE runs.id = %(id)s AND runs.caller = %(caller)s) OR EXISTS (SELECT 1 FROM runs "
    "WHERE runs.caller = %(caller)s AND runs.conversation = %(id)s AND runs.conversation != ''))"
)
_LIST = (
    "INSERT INTO conversations AS listed (caller, id, latest, title, folded, pinned, archived) "
    "SELECT %(caller)s, %(id)s, %(latest)s, coalesce(%(title)s::bytea, ''), coalesce(%(folded)s::bytea, ''), "
    f"coalesce(%(pinned)s::boolean, false), coalesce(%(archived)s::boolean, false) WHERE {_HAS_RUNS} "
    "ON CONFLICT (caller, id) DO UPDATE SET latest = greatest(listed.latest, excluded.latest), "
    "title = coalesce(%(title)s::bytea, listed.title), folded = coalesce(%(folded)s::bytea, listed.folded), "
    "pinned = coalesce(%(pinned)s::boolean, listed.pinned), archived = coalesce(%(archived)s::boolean, listed.archived)"
)
_UNLIST = f"DELETE FROM conversations WHERE caller = %(caller)s AND id = %(id)s AND NOT {_HAS_RUNS}"
_OF_A_DAY = ("runs", "dollars", "tokens", "lost", "unpriced")
_OF_A_MODEL = ("runs", "calls", "dollars", "tokens", "lost", "unpriced")


class Transaction:
    """A transaction that is open on `connection`, for jobs that read or write."""

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self.connection = connection
        self._days: Changes = {}
        self._models: Changes = {}
        self._conversations: dict[tuple[bytes, bytes], dict[str, Any]] = {}

    def execute(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> "psycopg.Cursor[Row]":
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

    def change_conversation(
        self,
        caller: bytes,
        conversation: bytes,
        latest: float,
        title: tuple[bytes, bytes] | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
    ) -> None:
        """List a conversation, and change what is not `None`. It is unlisted if it has no run at the end.

        latest: Unix time of the beginning of one of its runs
        title: new title, and the same in folded case
        """
        before = self._conversations.setdefault((caller, conversation), {"latest": latest})
        before["latest"] = latest if before["latest"] is None else max(before["latest"], latest)
        named = {} if title is None else dict(zip(("title", "folded"), title, strict=True))
        changed = {"pinned": pinned, "archived": archived}
        before |= named | {name: value for name, value in changed.items() if value is not None}

    def forget_conversation(self, caller: bytes, conversation: bytes) -> None:
        """Unlist a conversation if it has no run at the end."""
        self._conversations.setdefault((caller, conversation), {"latest": None})

    def finish(self) -> None:
        """Write the totals and the conversations that have changed."""
        for query, names, changes in ((_DAY, _OF_A_DAY, self._days), (_MODEL, _OF_A_MODEL, self._models)):
            rows = [(*key, *(changes[key][name] for name in names)) for key in sorted(changes)]
            self.many(query, [row for row in rows if any(row[len(row) - len(names) :])])
        nothing = dict.fromkeys(("title", "folded", "pinned", "archived"))
        for (caller, conversation), changed in sorted(self._conversations.items(), key=lambda each: each[0]):
            values = nothing | changed | {"caller": caller, "id": conversation}
            if changed["latest"] is not None:
                self.execute(_LIST, values)
            self.execute(_UNLIST, values)


def _add(changes: Changes, key: tuple[Any, ...], change: Mapping[str, int | Decimal]) -> None:
    found = changes.setdefault(key, Counter())
    for name, number in change.items():
        found[name] += number  # type: ignore[assignment]  # dollars are decimals
