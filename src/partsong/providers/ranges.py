"""Reads from a provider's refusal which values it would accept: "temperature must be between 0 and 1".

Refusals are matched in lower case. A range is searched near the field's name, in the wordings that providers use.
"""

import re
from math import inf

from msgspec import Struct

NUMBER = r"`?'?\"?(-?\d[\d,_]*(?:\.\d+)?)"
NEAR = 240  # characters before and after the field's name in which a range is searched
TO = r"\s*(?:,|;|to|and|through|\.\.\.?|-|–)\s*"
RANGES = (
    re.compile(rf"([\[(])\s*{NUMBER}\s*[,;:]\s*{NUMBER}\s*([\])])"),
    re.compile(
        rf"(?:between|from|range:?|in)\s+{NUMBER}(?: \((?:inclusive|exclusive)\))?{TO}{NUMBER}( \(exclusive\))?"
    ),
)
AROUND = rf"{NUMBER}\s*(<=|≤|<)\s*`?{{field}}`?\s*(<=|≤|<)\s*{NUMBER}"
ONLY = re.compile(rf"only (?:the )?(?:value )?{NUMBER} is (?:allowed|supported|permitted)")
HIGH = re.compile(
    rf"(?:<=|≤|less than or equal to|at most|up to|no (?:more|greater|higher|larger) than|supports? only"
    rf"|must not exceed|cannot exceed|can't exceed|should not exceed|not be (?:greater|more|larger|higher) than|\d >"
    rf"|(?:exceeds?|above|over) (?:the |its )?[\w' ]{{0,40}}?(?:limit|maximum|max)(?: value)?(?: of| is|:| \()?"
    rf"|(?:maximum|max|limit)(?: [\w']+){{0,6}}?(?: is| of|:| to| ="
    rf"| are)?)\s*{NUMBER}"
)
HIGH_EXCLUSIVE = re.compile(rf"(?:less than|<|below|smaller than)\s*{NUMBER}")
LOW = re.compile(
    rf"(?:>=|≥|greater than or equal to|at least|no less than|minimum(?: value)?(?: is| of|:)?)\s*{NUMBER}"
)
LOW_EXCLUSIVE = re.compile(rf"(?:greater than|>|above|larger than|more than)\s*{NUMBER}")
# Wordings that give the prompt's tokens and the window: "(40000 > 32768 - 5)", "188240 + 21333 > 200000". The function
# beside each pattern computes the tokens that the window leaves for the answer.
ROOM = (
    (re.compile(rf"{NUMBER} > {NUMBER} - {NUMBER}"), lambda given, window, asked: window - asked),
    (re.compile(rf"context limit: {NUMBER} \+ {NUMBER} > {NUMBER}"), lambda asked, given, window: window - asked),
    (
        re.compile(
            rf"length is {NUMBER} tokens.{{0,40}}requested (?:about )?{NUMBER} tokens \({NUMBER} (?:in|of) the [^)]*?,"
            rf" {NUMBER} in the (?:completion|output)"
        ),
        lambda window, total, asked, given: window - asked,
    ),
)
EFFORTS = ("none", "minimal", "low", "medium", "default", "high", "xhigh", "max")
WORD = re.compile(rf"\b({'|'.join(EFFORTS)})\b")


class Range(Struct, frozen=True):
    """The values that a field accepts, bounds included; a bound that the refusal does not give is infinite."""

    low: float = -inf
    high: float = inf

    def nearest(self, value: float, *, whole: bool) -> float:
        """Return the value, or the nearest value in the range. `whole`: whether the result must be a whole number."""
        near = min(max(value, self.low), self.high)
        return int(near) if whole else near


def read_range(words: str, field: str, *, whole: bool) -> Range | None:
    """Return the range that a refusal gives for a field; `None` if it gives none.

    words: the refusal in lower case
    field: pattern of the field's name
    whole: whether the field holds whole numbers

    An exclusive bound is moved inwards by 1 for whole numbers, and by 0.01 for others.
    """
    named = re.search(rf"\b{field}\b", words)
    if named is None:
        return None
    step = 1 if whole else 0.01
    if around := re.search(AROUND.format(field=field), words):
        low, high = _number(around[1]), _number(around[4])
        return Range(low + step if around[2] == "<" else low, high - step if around[3] == "<" else high)
    near = words[max(0, named.start() - NEAR) : named.end() + NEAR]
    if found := RANGES[0].search(near):
        low, high = _number(found[2]), _number(found[3])
        return Range(low + step if found[1] == "(" else low, high - step if found[4] == ")" else high)
    if found := RANGES[1].search(near):
        return Range(_number(found[1]), _number(found[2]) - (step if found[3] else 0))
    if found := ONLY.search(near):
        return Range(_number(found[1]), _number(found[1]))
    low, high = -inf, inf
    if found := HIGH.search(near):
        high = _number(found[1])
    elif found := HIGH_EXCLUSIVE.search(near):
        high = _number(found[1]) - step
    if found := LOW.search(near):
        low = _number(found[1])
    elif high == inf and (found := LOW_EXCLUSIVE.search(near)):
        low = _number(found[1]) + step
    return None if (low, high) == (-inf, inf) or low > high else Range(low, high)


def read_room(words: str) -> int | None:
    """Return the tokens that the window leaves for the answer, by the numbers in a refusal in lower case.

    Returns `None` if the refusal does not give the numbers, or nothing is left.
    """
    for pattern, left in ROOM:
        if found := pattern.search(words):
            room = left(*(int(_number(number)) for number in found.groups()))
            return room if room > 0 else None
    return None


def read_effort(words: str, asked: str) -> tuple[str, ...]:
    """Return the reasoning efforts that a refusal in lower case names, without `asked`; empty if it names none.

    asked: the effort that was refused
    """
    return tuple(dict.fromkeys(word for word in WORD.findall(words) if word != asked))


def nearest_effort(asked: str, offered: tuple[str, ...]) -> str:
    """Return the offered effort nearest to `asked` in the order of `EFFORTS`.

    Of two that are equally near, the lower one is returned, but "none" only if nothing else is as near.
    """
    place = EFFORTS.index(asked) if asked in EFFORTS else len(EFFORTS)
    return min(
        offered,
        key=lambda effort: (abs(EFFORTS.index(effort) - place), effort == "none", EFFORTS.index(effort)),
    )


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))
