"""What an analyst has found in the proposals of a layer: where they agree, contradict each other, or stand alone.

Quotes are checked, and claims are not. Each quote stands in the proposal of the seat that it names. Nobody has checked
that a statement follows from its quotes, or that a quote says in its place what it seems to say alone. A gap is the
analyst's opinion: what no proposal says cannot be quoted.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

LEAST_PROPOSALS = 2  # with a single proposal there is nothing to compare
AGREE, CONTRADICT, SINGLE = "They agree:", "They contradict each other:", "Only one says:"
GAPS = "All leave out (the analyst's opinion):"
HEADINGS = f"{AGREE}\n{CONTRADICT}\n{SINGLE}\n{GAPS}\n"

_QUOTES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"proposal": {"type": "integer"}, "quote": {"type": "string"}},
        "required": ["proposal", "quote"],
        "additionalProperties": False,
    },
}
_CLAIMS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"statement": {"type": "string"}, "quotes": _QUOTES},
        "required": ["statement", "quotes"],
        "additionalProperties": False,
    },
}
_CONTRADICTIONS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"topic": {"type": "string"}, "positions": _CLAIMS},
        "required": ["topic", "positions"],
        "additionalProperties": False,
    },
}
# The JSON Schema of what an analyst writes. It uses only keywords that providers take in a strict schema.
SCHEMA = msgspec.json.encode(
    {
        "type": "object",
        "properties": {
            "agreements": _CLAIMS,
            "contradictions": _CONTRADICTIONS,
            "single": _CLAIMS,
            "gaps": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["agreements", "contradictions", "single", "gaps"],
        "additionalProperties": False,
    }
)


class Quote(Struct, frozen=True):
    """Words of one proposal.

    seat: index of the proposal's seat in its layer
    text: the words as the analyst wrote them
    start, end: indexes of the first character in the proposal's text and of the character after the last
    """

    seat: int
    text: str
    start: int
    end: int


class Claim(Struct, frozen=True):
    """A statement about proposals, with the quotes on which it rests.

    statement: the statement, in the analyst's words; nobody has checked it
    quotes: at least one quote
    """

    statement: str
    quotes: tuple[Quote, ...]

    @property
    def seats(self) -> frozenset[int]:
        """The indexes of the seats that are quoted."""
        return frozenset(quote.seat for quote in self.quotes)


class Contradiction(Struct, frozen=True):
    """A topic on which proposals contradict each other.

    topic: the topic, in the analyst's words
    positions: at least two positions; together they quote at least two seats
    """

    topic: str
    positions: tuple[Claim, ...]


class Analysis(Struct, frozen=True):
    """The result of an analyst.

    agreements: statements that several proposals share; each quotes at least two seats
    contradictions: topics on which proposals contradict each other
    single: statements that only one proposal makes; each quotes one seat
    gaps: topics that all proposals leave out, in the analyst's opinion
    dropped: number of entries that were left out: a quote did not stand in its proposal, or the entry was malformed or
        said twice
    """

    agreements: tuple[Claim, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    single: tuple[Claim, ...] = ()
    gaps: tuple[str, ...] = ()
    dropped: int = 0

    @property
    def quoted(self) -> int:
        """Number of entries with quotes, which are all but the gaps."""
        return len(self.agreements) + len(self.contradictions) + len(self.single)


def as_text(analysis: Analysis, name: Callable[[int], str]) -> str:
    """The analysis as lines of text for a reader of the proposals.

    name: returns the reader's name for the proposal of a seat, such as "1"

    Without `HEADINGS`, the text is shorter than the JSON in which the analyst wrote the entries. So its cost can be
    planned.
    """
    lines: list[str] = []
    if analysis.agreements:
        lines.append(AGREE)
        lines += (f"- {_claim(claim, name)}" for claim in analysis.agreements)
    if analysis.contradictions:
        lines.append(CONTRADICT)
        for found in analysis.contradictions:
            lines.append(f"- {_line(found.topic)}:")
            lines += (f"  - {_claim(position, name)}" for position in found.positions)
    if analysis.single:
        lines.append(SINGLE)
        lines += (f"- {_claim(claim, name)}" for claim in analysis.single)
    if analysis.gaps:
        lines.append(GAPS)
        lines += (f"- {_line(gap)}" for gap in analysis.gaps)
    return "\n".join(lines)


def _claim(claim: Claim, name: Callable[[int], str]) -> str:
    quotes = "; ".join(f'{name(quote.seat)} "{_line(quote.text)}"' for quote in claim.quotes)
    return f"{_line(claim.statement)} ({quotes})"


def _line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())
