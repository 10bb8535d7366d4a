"""Totals over a caller's runs, by day and by model.

A sum of dollars leaves out runs with an unknown price, and `unpriced` counts those runs: unknown is not 0.
"""

from msgspec import Struct


class DayTotal(Struct, frozen=True):
    """The runs that began on one day.

    day: the date in UTC, such as 2026-05-31
    lost: losses of all runs
    unpriced: runs that have ended and whose price is unknown
    """

    day: str
    runs: int = 0
    dollars: float = 0.0
    tokens: int = 0
    lost: int = 0
    unpriced: int = 0


class ModelTotal(Struct, frozen=True):
    """The calls, dollars, tokens and losses of one model in several runs.

    lost: losses of the model's seats
    unpriced: runs in which the price of the model is unknown
    """

    model: str
    calls: int
    dollars: float
    tokens: int
    lost: int
    unpriced: int
