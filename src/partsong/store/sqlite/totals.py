"""What a caller's runs come to: day by day (UTC), and model by model.

Money is added up as far as its price is known, and how often it was not stands beside the sum.
"""

import sqlite3

from msgspec import Struct


class DayTotal(Struct, frozen=True):
    """The runs that began on a day; of `unpriced` of them the price is unknown, so that it is not in `dollars`."""

    day: str
    runs: int = 0
    dollars: float = 0.0
    tokens: int = 0
    lost: int = 0
    unpriced: int = 0


class ModelTotal(Struct, frozen=True):
    """What a model has done in these runs; in `unpriced` of them for a price that is not known."""

    model: str
    calls: int
    dollars: float
    tokens: int
    lost: int
    unpriced: int


def by_day(connection: sqlite3.Connection, caller: str, since: float) -> list[DayTotal]:
    """The days on which there were runs, the first one first."""
    rows = connection.execute(
        "SELECT strftime('%Y-%m-%d', started, 'unixepoch') AS day, count(*), "
        "round(total(CAST(dollars AS REAL)), 9), sum(tokens), sum(losses), sum(dollars IS NULL AND status != 'open') "
        "FROM runs WHERE caller = ? AND started >= ? GROUP BY day ORDER BY day",
        (caller, since),
    )
    return [DayTotal(*row) for row in rows.fetchall()]


def by_model(connection: sqlite3.Connection, caller: str, since: float) -> list[ModelTotal]:
    """The models, the dearest one first."""
    rows = connection.execute(
        "SELECT shares.model, sum(shares.calls), round(total(CAST(shares.dollars AS REAL)), 9) AS cost, "
        "sum(shares.tokens), sum(shares.losses), sum(shares.dollars IS NULL) "
        "FROM runs JOIN shares ON shares.run = runs.id WHERE runs.caller = ? AND runs.started >= ? "
        "GROUP BY shares.model ORDER BY cost DESC, sum(shares.tokens) DESC, shares.model",
        (caller, since),
    )
    return [ModelTotal(*row) for row in rows.fetchall()]
