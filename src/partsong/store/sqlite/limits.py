"""The requests of keys: a place for each request under way, and a debt for the requests of the last minute.

A place is held for a few seconds at a time and kept again and again by the process that holds it. No process has to
find out whether another one still lives, which it could not do across containers. Moments are Unix time.
"""

import sqlite3
from collections.abc import Iterable

from partsong.store.limits import AGAIN, Refusal, owed


def take(
    connection: sqlite3.Connection,
    place: int,
    key: str,
    *,
    at_once: int | None,
    per_minute: int | None,
    now: float,
    until: float,
) -> Refusal | None:
    """Take a place for the key until the Unix time `until`, and count one request. If a limit forbids it, do neither.

    place: id of the place, chosen by the caller
    at_once: most requests of the key under way; `None` for no limit
    per_minute: most requests of the key in a minute; `None` for no limit
    now: the current Unix time
    """
    if at_once is not None:
        connection.execute("DELETE FROM places WHERE until <= ?", (now,))
        taken: int = connection.execute("SELECT count(*) FROM places WHERE caller = ?", (key,)).fetchone()[0]
        if taken >= at_once:
            return Refusal("at_once", AGAIN)
    if per_minute is not None:
        connection.execute("DELETE FROM debts WHERE due <= ?", (now,))
        row = connection.execute("SELECT due FROM debts WHERE caller = ?", (key,)).fetchone()
        due, wait = owed(now if row is None else row[0], now, per_minute)
        if wait:
            return Refusal("requests_per_minute", wait)
        connection.execute("INSERT OR REPLACE INTO debts VALUES (?, ?)", (key, due))
    if at_once is not None:
        connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (place, key, until))
    return None


def keep(connection: sqlite3.Connection, places: Iterable[tuple[int, str]], until: float) -> None:
    """Keep these places of these keys until a moment, also places that came free in between."""
    connection.executemany(
        "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", ((place, key, until) for place, key in places)
    )


def leave(connection: sqlite3.Connection, place: int) -> None:
    """Give a place back."""
    connection.execute("DELETE FROM places WHERE place = ?", (place,))
