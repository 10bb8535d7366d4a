"""What an answer states, as a vote counts it."""

from collections.abc import Hashable

from partsong.bench.equivalence import meaning, stated


def statement(text: str) -> Hashable | None:
    """Return what an answer states, in a form in which equal statements are equal; `None` if it states nothing."""
    return meaning(text) if stated(text) is not None else None
