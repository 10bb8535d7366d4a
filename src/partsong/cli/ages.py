"""Ages as people write them: `30d`, `12h`, `2w` or `90m`."""

import re
from datetime import timedelta

from partsong.errors import InputError

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
EVERYTHING = timedelta(days=36500)  # an age that the arithmetic of dates still allows


def read_age(text: str, option: str = "--older-than") -> timedelta:
    """The age that `30d`, `12h`, `2w` or `90m` means. Raises `InputError` for any other text of the option."""
    found = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip().lower(), re.ASCII)
    if found is None:
        raise InputError(
            f'{option} is "{text}", but must be a number with a unit: 90m (minutes), 12h (hours), 30d (days) '
            "or 2w (weeks)"
        )
    return min(int(found[1]) * UNITS[found[2]], EVERYTHING)


def written_age(seconds: float) -> str:
    """The age in the largest unit that leaves no rest."""
    age = timedelta(seconds=seconds)
    for unit in reversed(UNITS):
        if not age % UNITS[unit]:
            return f"{age // UNITS[unit]}{unit}"
    return f"{seconds:g} s"
