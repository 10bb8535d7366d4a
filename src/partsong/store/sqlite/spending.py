"""The money of a day (UTC), in as many scopes as the caller names: all of it, a provider's, a key's.

The worst case is held before a call and settled after it, so calls that are made at once, in however many processes,
cannot overdraw a cap together. A hold that a crash left behind stays at its worst case: too much, never too little.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from decimal import Decimal


def left(connection: sqlite3.Connection, day: str, caps: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What may still be spent in each scope on that day; below 0 where a cap was lowered."""
    return {scope: cap - _taken(connection, day, scope) for scope, cap in caps.items()}


def hold(
    connection: sqlite3.Connection, day: str, amounts: Mapping[str, Decimal], caps: Mapping[str, Decimal]
) -> int | None:
    """Take the amounts out of what is left; `None`, and nothing is taken, where a cap would be passed."""
    if any(amounts.get(scope, Decimal(0)) > room for scope, room in left(connection, day, caps).items()):
        return None
    connection.execute("UPDATE last_hold SET id = id + 1")
    number: int = connection.execute("SELECT id FROM last_hold").fetchone()[0]
    connection.executemany(
        "INSERT INTO holds VALUES (?, ?, ?, ?)",
        ((number, day, scope, str(amount)) for scope, amount in amounts.items()),
    )
    return number


def settle(connection: sqlite3.Connection, number: int, amounts: Mapping[str, Decimal]) -> None:
    """Put what was really spent in the place of a hold, on the hold's day. Only the first settling counts."""
    row = connection.execute("SELECT day FROM holds WHERE id = ?", (number,)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM holds WHERE id = ?", (number,))
    for scope, amount in amounts.items():
        spent = amount + _sum(
            connection.execute("SELECT dollars FROM spent WHERE day = ? AND scope = ?", (row[0], scope))
        )
        connection.execute("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", (row[0], scope, str(spent)))


def prune(connection: sqlite3.Connection, before: str) -> None:
    """Forget the days before that one."""
    connection.execute("DELETE FROM spent WHERE day < ?", (before,))
    connection.execute("DELETE FROM holds WHERE day < ?", (before,))


def _taken(connection: sqlite3.Connection, day: str, scope: str) -> Decimal:
    return _sum(
        connection.execute(
            "SELECT dollars FROM spent WHERE day = ?1 AND scope = ?2 "
            "UNION ALL SELECT dollars FROM holds WHERE day = ?1 AND scope = ?2",
            (day, scope),
        )
    )


def _sum(rows: Iterable[tuple[str]]) -> Decimal:
    return sum((Decimal(text) for (text,) in rows), Decimal(0))
