"""Token counts in the usage that a server reports, read leniently: an implausible count is dropped, and no error.

A usage decides what a call costs and not what the model answered. So a count that cannot be read never fails a call.
An estimate that errs high replaces the count.
"""

from collections.abc import Iterable
from math import ceil, isfinite
from typing import Any

MOST_TOKENS = 100_000_000  # tokens in one call: more than any model reads or writes
MOST_USAGE = 1 << 16  # bytes of the JSON of a usage; a longer one is not read


def parse_count(value: Any) -> int | None:
    """Return the number of tokens in a JSON number or a numeric string, with fractions rounded up.

    Returns `None` for every other value, and for numbers that are negative, NaN, or above `MOST_TOKENS`.
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
    """Return the first value that is a count above 0, else 0.

    The values are fields in which different servers report the same count.
    """
    return next((count for value in values if (count := parse_count(value))), 0)


def fields_of(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else an empty dictionary."""
    return value if isinstance(value, dict) else {}
