"""Citations in the aggregator's answer: `[n]` stands for the source with the number n, which some seat has read.

A citation of a source that is not in the list is removed, and told. Code is left alone, since `[1]` has another meaning
there, and so is a link in Markdown. While an answer is streamed, only text that may become a citation is held back.
"""

import re

from partsong.sources import LONGEST_LISTED, MOST_LISTED, MOST_TOKENS, Source
from partsong.wire.tokens import estimate

LONGEST_CITATION = 40  # characters between the brackets
_BEGUN = re.compile(r" ?\[(?:\d[\d ,]*)?$")
_CITATION = re.compile(r"(?P<space> ?)\[(?P<numbers>\d{1,4}(?: ?, ?\d{1,4})*)\](?P<link>[(\[:]?)")


def listed(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """Those of the sources that the aggregator is told of: the first ones, as many as there is room for.

    Whatever follows a source that is left out is left out too, so that the numbers are those of `sources_of`.
    """
    kept: list[Source] = []
    tokens = 0
    for source in sources[:MOST_LISTED]:
        tokens += estimate(line(len(kept) + 1, source))
        if len(source.address) > LONGEST_LISTED or tokens > MOST_TOKENS:
            break
        kept.append(source)
    return tuple(kept)


def as_list(sources: tuple[Source, ...]) -> str:
    """The list of the sources for a prompt, a numbered line for each."""
    return "\n".join(line(number, source) for number, source in enumerate(sources, 1))


def line(number: int, source: Source) -> str:
    address = "".join(letter if letter.isprintable() else " " for letter in source.address)
    return f"{number}. {address}"


class Citations:
    """Removes from one answer the citations of sources that nobody has read. `take` gets the text in pieces.

    removed: the numbers that were cited and are removed
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.removed: set[int] = set()
        self._held = ""
        self._code = ""  # the backticks that must follow for the code to end; "" outside code

    def take(self, text: str) -> str:
        """The text that can be passed on."""
        text, self._held = self._held + text, ""
        if (begun := self._beginning(text)) is not None:
            text, self._held = text[:begun], text[begun:]
        return self._without(text)

    def rest(self) -> str:
        """The text that is still held back at the end of the answer."""
        text, self._held = self._held, ""
        return self._without(text)

    def _beginning(self, text: str) -> int | None:
        """The index from which the text may be a citation, a link or backticks that go on; `None` for none."""
        if text.endswith("`"):
            return max(len(text.rstrip("`")), len(text) - LONGEST_CITATION)
        if (found := _BEGUN.search(text[-LONGEST_CITATION:])) is not None:
            return max(0, len(text) - LONGEST_CITATION) + found.start()
        if text.endswith("]") and (at := max(text.rfind("["), 0)) >= len(text) - LONGEST_CITATION:
            return at - 1 if at and text[at - 1] == " " else at  # what follows may make a link of it
        return len(text) - 1 if text.endswith(" ") else None

    def _without(self, text: str) -> str:
        """The text without wrong citations outside code."""
        pieces = re.split(r"(`+)", text)
        for index, piece in enumerate(pieces):
            if index % 2:
                if not self._code:
                    self._code = piece
                elif piece == self._code:
                    self._code = ""
                continue
            head = ""
            if self._code in ("`", "``") and "\n" in piece:  # an end of a line ends such code, or a stray backtick
                head, _, piece = piece.partition("\n")
                head, self._code = head + "\n", ""
            pieces[index] = head + (piece if self._code else _CITATION.sub(self._checked, piece))
        return "".join(pieces)

    def _checked(self, found: re.Match[str]) -> str:
        if found["link"]:
            return found[0]
        numbers = [int(number) for number in found["numbers"].split(",")]
        known = [number for number in numbers if 1 <= number <= self.count]
        self.removed.update(number for number in numbers if number not in known)
        if len(known) == len(numbers):
            return found[0]
        return f"{found['space']}[{', '.join(map(str, known))}]" if known else ""
