"""The money of a day (UTC), in scopes that the caller names: all money, that of a provider, that of a key.

The worst case is held before a run and settled after it. Runs at the same time, in any number of processes, therefore
never exceed a cap together. A hold is a lease: once its process no longer renews it, only the part that has begun
counts. The process may come back, and must then find the money for whatever it begins next. Moments are Unix time.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from decimal import Decimal

Dollars = Mapping[str, Decimal]
NOTHING = Decimal(0)


def left(connection: sqlite3.Connection, day: str, caps: Dollars, now: float) -> dict[str, Decimal]:
    """Dollars that may still be spent on a day in each scope; negative if a cap was lowered."""
    return {scope: cap - _taken(connection, day, scope, now) for scope, cap in caps.items()}


def hold(
    connection: sqlite3.Connection, day: str, amounts: Dollars, caps: Dollars, now: float, until: float
) -> int | None:
    """Hold the amounts and return the id of the hold; `None`, and nothing is held, if a cap would be exceeded."""
    if any(amounts.get(scope, NOTHING) > room for scope, room in left(connection, day, caps, now).items()):
        return None
    connection.execute("UPDATE last_hold SET id = id + 1")
    hold_id: int = connection.execute("SELECT id FROM last_hold").fetchone()[0]
    connection.executemany(
        "INSERT INTO holds VALUES (?, ?, ?, ?, '0', ?)",
        ((hold_id, day, scope, str(amount), until) for scope, amount in amounts.items()),
    )
    return hold_id


def begin(
    connection: sqlite3.Connection, hold_id: int, amounts: Dollars, caps: Dollars, now: float, until: float
) -> bool:
    """Let the amounts of the hold count even if its process dies, and renew the hold.

    Returns `False`, and changes nothing, if the hold is settled, or has lapsed and a cap no longer allows the amounts.
    Without caps the amounts are written down whatever they are, and a hold that has lapsed stays so.
    """
    rows = connection.execute("SELECT scope, dollars, begun, until, day FROM holds WHERE id = ?", (hold_id,)).fetchall()
    if not rows:
        return False
    day, lives = rows[0][4], rows[0][3] > now
    begun = {scope: Decimal(text) for scope, _, text, _, _ in rows}
    if not lives and caps and any(amount > begun.get(scope, NOTHING) for scope, amount in amounts.items()):
        held = {scope: Decimal(text) for scope, text, _, _, _ in rows}
        room = left(connection, day, caps, now)
        if all(held.get(scope, NOTHING) - begun.get(scope, NOTHING) <= free for scope, free in room.items()):
            lives = True  # nobody has taken the rest meanwhile
        elif any(amounts.get(scope, NOTHING) - begun.get(scope, NOTHING) > free for scope, free in room.items()):
            return False
    connection.executemany(
        "INSERT INTO holds VALUES (?, ?, ?, '0', ?, ?) "
        "ON CONFLICT (id, scope) DO UPDATE SET begun = excluded.begun, until = excluded.until",
        (
            (hold_id, day, scope, str(amounts.get(scope, NOTHING)), until if lives else 0.0)
            for scope in {*begun, *amounts}
        ),
    )
    return True


def renew(connection: sqlite3.Connection, holds: Iterable[int], now: float, until: float) -> None:
    """Renew these holds. One that has lapsed stays so: its money may have been taken."""
    connection.executemany(
        "UPDATE holds SET until = ? WHERE id = ? AND until > ?", ((until, hold_id, now) for hold_id in holds)
    )


def settle(connection: sqlite3.Connection, hold_id: int, amounts: Dollars) -> None:
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


def _taken(connection: sqlite3.Connection, day: str, scope: str, now: float) -> Decimal:
    """Dollars that are spent, held or begun on a day in a scope."""
    spent = _sum(connection.execute("SELECT dollars FROM spent WHERE day = ? AND scope = ?", (day, scope)))
    holds = connection.execute("SELECT dollars, begun, until FROM holds WHERE day = ? AND scope = ?", (day, scope))
    for dollars, begun, until in holds.fetchall():
        spent += max(Decimal(dollars), Decimal(begun)) if until > now else Decimal(begun)
    return spent


def _sum(rows: Iterable[tuple[str]]) -> Decimal:
    return sum((Decimal(text) for (text,) in rows), NOTHING)
