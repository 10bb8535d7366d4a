"""Reads the JSON that an analyst wrote, and keeps the entries whose quotes stand in the proposals that they name.

An entry is an agreement, a contradiction, a statement that only one proposal makes, or a gap. An entry is kept whole or
left out whole. If one quote of an agreement is invented, the statement is not what the proposals share.

Models write JSON with words around it, with a comma too many, or without its end. Such JSON is read as far as it goes.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from partsong.analysis import Analysis, Claim, Contradiction, Quote
from partsong.engine.quotes import Source, stripped

LONGEST = 262_144  # characters of JSON that are read: far more than the largest useful analysis
ATTEMPTS = 20  # places at which the JSON may begin
MOST_ENTRIES = 64  # entries of each kind
MOST_QUOTES = 400  # quotes that are looked for in an analysis
LONGEST_STATEMENT = 2000  # characters
KINDS = ("agreements", "contradictions", "single", "gaps")

_BEGINNING = re.compile(r"\{")
_NUMBER = re.compile(r"\D{0,20}(\d{1,4})\D{0,3}")
_decoder = json.JSONDecoder(strict=False)

T = TypeVar("T")


class UnusableError(ValueError):
    """What the analyst wrote is no analysis, or no entry of it stands. The message says which."""


def read_analysis(words: str, proposals: Mapping[int, str]) -> Analysis:
    """The analysis in the words of an analyst, without the entries that do not stand.

    proposals: text of each proposal by the index of its seat, in the order in which the analyst has read them. Their
        names are their numbers in this order, from 1

    Raises `UnusableError` if there is no analysis in the words, or if none of its entries with quotes stands.
    """
    found = _object(words)
    if found is None:
        raise UnusableError(f'it was to write an analysis as JSON, but wrote "{" ".join(words.split())[:100]}"')
    analysis = _Reader(proposals).read(found)
    if analysis.dropped and not analysis.quoted:
        raise UnusableError(f"none of the {analysis.dropped} entries of its analysis stands in the proposals")
    return analysis


class _Reader:
    """Reads one analysis.

    seats: indexes of the seats, by the number of the proposal, from 1
    dropped: number of entries that were left out so far
    """

    def __init__(self, proposals: Mapping[int, str]) -> None:
        self.seats = dict(enumerate(proposals, 1))
        self.dropped = 0
        self._texts, self._sources = proposals, dict[int, Source]()
        self._quotes = 0  # looked for so far

    def read(self, found: Mapping[str, Any]) -> Analysis:
        agreements = self.entries(found.get("agreements"), self.agreement)
        contradictions = self.entries(found.get("contradictions"), self.contradiction)
        single = self.entries(found.get("single"), self.single)
        gaps = self.entries(found.get("gaps"), self.gap)
        return Analysis(agreements, contradictions, single, gaps, self.dropped)

    def entries(self, values: Any, read: Callable[[Any], T | None]) -> tuple[T, ...]:
        """The entries of one kind that stand. The others are counted in `dropped`.

        read: returns the entry for its JSON value; `None` if the entry does not stand
        """
        kept: list[T] = []
        for place, value in enumerate(_list(values)):
            entry = read(value) if place < MOST_ENTRIES else None
            if entry is None or entry in kept:
                self.dropped += 1
            else:
                kept.append(entry)
        return tuple(kept)

    def agreement(self, value: Any) -> Claim | None:
        claim = self.claim(value)
        return claim if claim is not None and len(claim.seats) > 1 else None

    def single(self, value: Any) -> Claim | None:
        claim = self.claim(value)
        return claim if claim is not None and len(claim.seats) == 1 else None

    def contradiction(self, value: Any) -> Contradiction | None:
        if not isinstance(value, dict) or (topic := _statement(value.get("topic"))) is None:
            return None
        positions = [self.claim(position) for position in _list(value.get("positions"))]
        whole = tuple(position for position in positions if position is not None)
        if len(whole) < max(2, len(positions)) or len({seat for claim in whole for seat in claim.seats}) < 2:
            return None
        return Contradiction(topic, whole)

    def gap(self, value: Any) -> str | None:
        return _statement(value.get("statement") if isinstance(value, dict) else value)

    def claim(self, value: Any) -> Claim | None:
        """The statement with its quotes; `None` if it has none, or if one of them does not stand."""
        if not isinstance(value, dict) or (statement := _statement(value.get("statement"))) is None:
            return None
        # Some models write a single quote beside the statement, and not in a list.
        values = _list(value["quotes"]) if "quotes" in value else [value]
        quotes = [self.quote(each) for each in values]
        whole = tuple(dict.fromkeys(quote for quote in quotes if quote is not None))
        return Claim(statement, whole) if whole and None not in quotes else None

    def quote(self, value: Any) -> Quote | None:
        """The quote with its place in the proposal; `None` if it does not stand there."""
        self._quotes += 1
        if not isinstance(value, dict) or self._quotes > MOST_QUOTES:
            return None
        seat, words = self.seats.get(_number(value.get("proposal"))), value.get("quote")
        if seat is None or not isinstance(words, str):
            return None
        if seat not in self._sources:
            self._sources[seat] = Source(self._texts[seat])
        place = self._sources[seat].find(words)
        return None if place is None else Quote(seat, stripped(words), *place)


def _list(value: Any) -> list[Any]:
    """The value if it is a list; an empty list for no value, and a list of the value for any other."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _statement(value: Any) -> str | None:
    """The statement; `None` if it is no text, is empty, or is too long."""
    words = value.strip() if isinstance(value, str) else ""
    return words if 0 < len(words) <= LONGEST_STATEMENT else None


def _number(value: Any) -> int:
    """The number in the name of a proposal, such as 2, "2" or "proposal 2"; 0 if there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    named = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return int(named[1]) if named else 0


def _object(words: str) -> dict[str, Any] | None:
    """The first JSON object in the words that has a list of an analysis; `None` if there is none."""
    words = words[:LONGEST]
    for beginning in (place.start() for place, _ in zip(_BEGINNING.finditer(words), range(ATTEMPTS), strict=False)):
        for text, start in ((words, beginning), (_mended(words[beginning:]), 0)):
            try:
                value, _ = _decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and any(kind in value for kind in KINDS):
                return value
    return None


def _mended(text: str) -> str:
    """The JSON object at the beginning of the text, without commas before closing brackets, and with its end.

    JSON that breaks off is cut after the last element of a list that is whole, and closed there.
    """
    kept: list[str] = []
    closing: list[str] = []
    whole, rest = 0, ""  # number of pieces up to the last whole element, and the brackets that close it there
    for piece in _pieces(text):
        if piece in "}]":
            if not closing or closing.pop() != piece:
                break
            while kept and (kept[-1] == "," or kept[-1].isspace()):
                kept.pop()
        kept.append(piece)
        if piece in "{[":
            closing.append("}" if piece == "{" else "]")
        elif not closing:
            return "".join(kept)
        if closing and closing[-1] == "]" and (piece in "[}]" or piece.startswith('"')):
            whole, rest = len(kept), "".join(reversed(closing))
    return "".join(kept[:whole]) + rest


def _pieces(text: str) -> Iterator[str]:
    """The strings, the signs and the rest of JSON. A string without its end is left out."""
    for piece in re.finditer(r'"(?:[^"\\]|\\.)*+"|[{}\[\],]|\s+|[^"{}\[\],\s]+', text, re.DOTALL):
        yield piece[0]
