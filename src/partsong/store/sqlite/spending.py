"""The money of a day (UTC), in scopes that the caller names: all money, that of a provider, that of a key.

The worst case is held before a call and settled after it. Calls that are made at the same time, in any number of
processes, therefore never exceed a cap together. A hold that a crash left behind stays at its worst case: the sum may
be too high, and is never too low.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from decimal import Decimal


def left(connection: sqlite3.Connection, day: str, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Dollars that may still be spent on a day in each scope; negative if a cap was lowered."""
    return {scope: cap - _taken(connection, day, scope) for scope, cap in caps.items()}


def hold(
    connection: sqlite3.Connection, day: str, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]
) -> int | None:
    """Hold the amounts and return the id of the hold; `None`, and nothing is held, if a cap would be exceeded."""
    if any(amounts.get(scope, Decimal(0)) > room for scope, room in left(connection, day, caps).items()):
        return None
    connection.execute("UPDATE last_hold SET id = id + 1")
    hold_id: int = connection.execute("SELECT id FROM last_hold").fetchone()[0]
    connection.executemany(
        "INSERT INTO holds VALUES (?, ?, ?, ?)",
        ((hold_id, day, scope, str(amount)) for scope, amount in amounts.items()),
    )
    return hold_id


def settle(connection: sqlite3.Connection, hold_id: int, amounts: Mapping[str, Decimal]) -> None:
    """Replace a hold by what was spent, on the day of the hold. Only the first settling of a hold counts."""
    row = connection.execute("SELECT day FROM holds WHERE id = ?", (hold_id,)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM holds WHERE id = ?", (hold_id,))
    for scope, amount in amounts.items():
        spent = amount + _sum(
            connection.execute("SELECT dollars FROM spent WHERE day = ? AND scope = ?", (row[0], scope))
        )
        connection.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", (row[0], scope, str(spent)))


def prune(connection: sqlite3.Connection, before: str) -> None:
    """Delete the days before this day."""
    connection.execute("DELETE FROM spent WHERE day < ?", (before,))
    connection.execute("DELETE FROM holds WHERE day < ?", (before,))


def _taken(connection: sqlite3.Connection, day: str, scope: str) -> Decimal:
    """Dollars that are spent or held on a day in a scope."""
    return _sum(
        connection.execute(
            "SELECT dollars FROM spent WHERE day = ?1 AND scope = ?2 "
            "UNION ALL SELECT dollars FROM holds WHERE day = ?1 AND scope = ?2",
            (day, scope),
        )
    )


def _sum(rows: Iterable[tuple[str]]) -> Decimal:
    return sum((Decimal(text) for (text,) in rows), Decimal(0))
