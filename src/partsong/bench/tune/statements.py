"""What an answer states, as a vote counts it: read as in a run, and not leniently as in the grading."""

from collections.abc import Hashable

from partsong.engine.stated import stated


def statement(text: str) -> Hashable | None:
    """Return what an answer states, in a form in which equal statements are equal; `None` if it states nothing.

    Units are left out: a number with a unit and the same number without one are equal in a run too. A run tells "5 km"
    from "5 m", and this function does not, so that the choice is a little rough there. The test is not.
    """
    said = stated(text)
    return None if said is None else (said.kind, said.key)
