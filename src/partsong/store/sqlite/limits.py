"""What a key has taken of its limits, in all processes that share the store: its places, and its debt.

A place belongs to a request at work, for a few seconds at a time: whoever holds it says again and again that it still
does, so what a process held that died comes free by itself. Requests a minute are a debt (GCRA): each adds its share of
a minute, which time pays off, and no more than a minute may be owed. Moments are Unix time.
"""

import sqlite3
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

MINUTE = 60.0
SLACK = 1e-6  # so that a wait that was just long enough does not end a rounding error too early


class Refusal(Struct, frozen=True):
    """Which limit a request would pass, and in how many seconds it may be worth to come again."""

    limit: Literal["at_once", "requests_per_minute"]
    wait: float


def owed(due: float, now: float, per_minute: int) -> tuple[float, float]:
    """When the debt is paid off with one more request, and the seconds until that may be made: 0, if now.

    `due` is when the debt so far is paid off. One further away than a minute was left by a clock that went back.
    """
    due = min(max(due, now), now + MINUTE) + MINUTE / per_minute
    wait = due - now - MINUTE
    return due, wait if wait > SLACK else 0.0


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
    """Take a place, held until then, and owe for a request; or take nothing, and say why not."""
    if at_once is not None:
        connection.execute("DELETE FROM places WHERE until <= ?", (now,))
        taken: int = connection.execute("SELECT count(*) FROM places WHERE caller = ?", (key,)).fetchone()[0]
        if taken >= at_once:
            return Refusal("at_once", 1.0)
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
    """Hold these places, of these keys, until then; also those that have come free in between."""
    connection.executemany(
        "INSERT OR REPLACE INTO places VALUES (?, ?, ?)", ((place, key, until) for place, key in places)
    )


def leave(connection: sqlite3.Connection, place: int) -> None:
    """Give a place back."""
    connection.execute("DELETE FROM places WHERE place = ?", (place,))
