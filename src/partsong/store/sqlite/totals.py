"""The totals of a caller's runs, by day (UTC) and by model."""

import sqlite3

from partsong.store.totals import DayTotal, ModelTotal


def by_day(connection: sqlite3.Connection, caller: str, since: float) -> list[DayTotal]:
    """The totals of each day on which runs of the caller began, since the Unix time `since`, in order of time."""
    rows = connection.execute(
        "SELECT strftime('%Y-%m-%d', started, 'unixepoch') AS day, count(*), "
        "round(total(CAST(dollars AS REAL)), 9), sum(tokens), sum(losses), sum(dollars IS NULL AND status != 'open') "
        "FROM runs WHERE caller = ? AND started >= ? GROUP BY day ORDER BY day",
        (caller, since),
    )
    return [DayTotal(*row) for row in rows.fetchall()]


def by_model(connection: sqlite3.Connection, caller: str, since: float) -> list[ModelTotal]:
    """The totals of each model in the caller's runs since the Unix time `since`, the most expensive model first."""
    rows = connection.execute(
        "SELECT shares.model, sum(shares.calls), round(total(CAST(shares.dollars AS REAL)), 9) AS cost, "
        "sum(shares.tokens), sum(shares.losses), sum(shares.dollars IS NULL) "
        "FROM runs JOIN shares ON shares.run = runs.id WHERE runs.caller = ? AND runs.started >= ? "
        "GROUP BY shares.model ORDER BY cost DESC, sum(shares.tokens) DESC, shares.model",
        (caller, since),
    )
    return [ModelTotal(*row) for row in rows.fetchall()]
