"""The totals of a caller's runs, by day (UTC) and by model. They are kept up to date with the runs.

Dollars are rounded to millionths of a millionth, as in SQLite's back end, so that both give the same totals.
"""

import datetime
from collections.abc import Sequence
from decimal import Decimal

from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction
from partsong.store.totals import DayTotal, ModelTotal

DAY = datetime.timedelta(days=1)
_UNIT = Decimal("1e-12")
_LARGEST = Decimal(10**6)  # dollars of one run that are rounded: more digits than a decimal of Python has by default


def count(transaction: Transaction, runs: Sequence[bytes], sign: int) -> None:
    """Add runs and their shares to the totals (`sign` 1), or subtract them (-1).

    They count as the tables `runs` and `shares` have them. So a run must be subtracted before its rows change.
    """
    of: dict[bytes, tuple[bytes, datetime.date]] = {}  # the caller and the day of each run
    query = "SELECT id, caller, started, status, tokens, losses, dollars FROM runs WHERE id = ANY(%s::bytea[])"
    for run, caller, started, status, tokens, losses, dollars in transaction.rows(query, (list(runs),)):
        of[run] = caller, datetime.datetime.fromtimestamp(started, datetime.UTC).date()
        unpriced = int(dollars is None and status != b"open")
        of_run = {"runs": 1, "dollars": _rounded(dollars), "tokens": tokens, "lost": losses, "unpriced": unpriced}
        transaction.count_day(*of[run], {name: sign * number for name, number in of_run.items()})
    query = "SELECT run, model, calls, tokens, losses, dollars FROM shares WHERE run = ANY(%s::bytea[])"
    for run, model, calls, tokens, losses, dollars in transaction.rows(query, (list(of),)):
        of_model = {"runs": 1, "calls": calls, "dollars": _rounded(dollars), "tokens": tokens, "lost": losses}
        of_model["unpriced"] = int(dollars is None)
        transaction.count_model(*of[run], model, {name: sign * number for name, number in of_model.items()})


def _rounded(dollars: Decimal | None) -> Decimal:
    if dollars is None:
        return Decimal(0)
    return min(dollars, _LARGEST).quantize(_UNIT)


def by_day(transaction: Transaction, caller: str, since: float) -> list[DayTotal]:
    """The totals of each day on which runs of the caller began, since the Unix time `since`, in order of time."""
    rows = transaction.rows(
        "SELECT day, runs, dollars, tokens, lost, unpriced FROM day_totals "
        "WHERE caller = %s AND day >= %s AND runs > 0 ORDER BY day",
        (packed(caller), _first_day(since)),
    )
    return [
        DayTotal(day.isoformat(), runs, round(float(dollars), 9), int(tokens), int(lost), unpriced)
        for day, runs, dollars, tokens, lost, unpriced in rows
    ]


def by_model(transaction: Transaction, caller: str, since: float) -> list[ModelTotal]:
    """The totals of each model in the caller's runs since the Unix time `since`, the most expensive model first."""
    rows = transaction.rows(
        "SELECT model, sum(calls), sum(dollars) AS cost, sum(tokens), sum(lost), sum(unpriced) "
        "FROM model_totals WHERE caller = %s AND day >= %s AND runs > 0 "
        "GROUP BY model ORDER BY cost DESC, sum(tokens) DESC, model",
        (packed(caller), _first_day(since)),
    )
    return [
        ModelTotal(unpacked(model), int(calls), round(float(dollars), 9), int(tokens), int(lost), int(unpriced))
        for model, calls, dollars, tokens, lost, unpriced in rows
    ]


def _first_day(since: float) -> datetime.date:
    """The first day (UTC) that begins at the Unix time or later."""
    moment = datetime.datetime.fromtimestamp(max(0.0, since), datetime.UTC)
    day = datetime.datetime.combine(moment.date(), datetime.time(), datetime.UTC)
    return (day if day == moment else day + DAY).date()
