"""The totals of a caller's runs, by day (UTC) and by model.

The totals are kept up to date with the runs, because adding up a million runs takes seconds. Dollars are counted in
millionths of a millionth, and each run is rounded in the same way when it comes and when it goes.
"""

import datetime
import sqlite3

from partsong.store.totals import DayTotal, ModelTotal

DAY = datetime.timedelta(days=1)
_UNIT = 1e12  # of the column `dollars`
_MOST = 10**18  # units that one run counts at most, so that sums of runs fit the column
_UNITS = f"min({_MOST}, CAST(round(total(CAST({{0}} AS REAL)) * {_UNIT}) AS INTEGER))"
_DAY = "strftime('%Y-%m-%d', runs.started, 'unixepoch')"
_COUNT_RUN = (
    f"INSERT INTO day_totals SELECT caller, {_DAY}, :sign, :sign * {_UNITS.format('dollars')}, :sign * tokens, "
    ":sign * losses, :sign * (dollars IS NULL AND status != 'open') FROM runs WHERE id = :run GROUP BY id "
    "ON CONFLICT (caller, day) DO UPDATE SET runs = runs + excluded.runs, dollars = dollars + excluded.dollars, "
    "tokens = tokens + excluded.tokens, lost = lost + excluded.lost, unpriced = unpriced + excluded.unpriced"
)
_COUNT_SHARES = (
    f"INSERT INTO model_totals SELECT runs.caller, {_DAY}, shares.model, :sign, :sign * shares.calls, "
    f":sign * {_UNITS.format('shares.dollars')}, :sign * shares.tokens, :sign * shares.losses, "
    ":sign * (shares.dollars IS NULL) FROM runs JOIN shares ON shares.run = runs.id WHERE runs.id = :run "
    "GROUP BY shares.model "
    "ON CONFLICT (caller, day, model) DO UPDATE SET runs = runs + excluded.runs, calls = calls + excluded.calls, "
    "dollars = dollars + excluded.dollars, tokens = tokens + excluded.tokens, lost = lost + excluded.lost, "
    "unpriced = unpriced + excluded.unpriced"
)


def add(connection: sqlite3.Connection, run: str) -> None:
    """Add a run and its shares, as the tables `runs` and `shares` have them, to the totals."""
    connection.execute(_COUNT_RUN, {"sign": 1, "run": run})
    connection.execute(_COUNT_SHARES, {"sign": 1, "run": run})


def take_away(connection: sqlite3.Connection, run: str) -> None:
    """Subtract a run and its shares from the totals. Must be called before their rows change or are deleted."""
    connection.execute(_COUNT_RUN, {"sign": -1, "run": run})
    connection.execute(_COUNT_SHARES, {"sign": -1, "run": run})


def by_day(connection: sqlite3.Connection, caller: str, since: float) -> list[DayTotal]:
    """The totals of each day on which runs of the caller began, since the Unix time `since`, in order of time."""
    rows = connection.execute(
        f"SELECT day, runs, round(dollars / {_UNIT}, 9), tokens, lost, unpriced FROM day_totals "
        "WHERE caller = ? AND day >= ? AND runs > 0 ORDER BY day",
        (caller, _first_day(since)),
    )
    return [DayTotal(*row) for row in rows.fetchall()]


def by_model(connection: sqlite3.Connection, caller: str, since: float) -> list[ModelTotal]:
    """The totals of each model in the caller's runs since the Unix time `since`, the most expensive model first."""
    rows = connection.execute(
        f"SELECT model, sum(calls), round(sum(dollars) / {_UNIT}, 9) AS cost, sum(tokens), sum(lost), sum(unpriced) "
        "FROM model_totals WHERE caller = ? AND day >= ? AND runs > 0 "
        "GROUP BY model ORDER BY cost DESC, sum(tokens) DESC, model",
        (caller, _first_day(since)),
    )
    return [ModelTotal(*row) for row in rows.fetchall()]


def _first_day(since: float) -> str:
    """The first day (UTC) that begins at the Unix time or later."""
    moment = datetime.datetime.fromtimestamp(max(0.0, since), datetime.UTC)
    day = datetime.datetime.combine(moment.date(), datetime.time(), datetime.UTC)
    return (day if day == moment else day + DAY).date().isoformat()
