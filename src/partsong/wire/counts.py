"""Numbers that servers count with, read leniently: what is no plausible count is "not counted", and never an error.

The usage decides what a call costs, not what it answered. So a count that cannot be read never costs an answer; an
estimate stands in its place, which errs high.
"""

from collections.abc import Iterable
from math import ceil, isfinite
from typing import Any

MOST_TOKENS = 100_000_000  # of one call: more than any model reads or writes


def parse_count(value: Any) -> int | None:
    """A count of tokens out of a number or a string of digits; `None` for everything else.

    Negative, absurd, infinite and undefined numbers are no counts. Fractions are rounded up.
    """
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < 20 else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not isfinite(value):
            return None
        value = ceil(value)
    return value if 0 <= value <= MOST_TOKENS else None


def first_count(values: Iterable[Any]) -> int:
    """The first count above 0 among the values, else 0: servers give one number different names."""
    return next((count for value in values if (count := parse_count(value))), 0)


def fields_of(value: Any) -> dict[str, Any]:
    """A JSON object's fields; none for anything else."""
    return value if isinstance(value, dict) else {}
