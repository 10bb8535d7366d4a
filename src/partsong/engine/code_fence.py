"""Take JSON out of the code fence that a model has put around it: clients parse the answer as it stands.

Many models write three backticks around JSON, in whatever way they were asked for it. While an answer is streamed, only
text that may become part of a fence is held back.
"""

import re
from collections.abc import Iterable

from partsong.model import Part, Text

OPENING = re.compile(r"\s*```(?:json)?[ \t]*\r?\n", re.IGNORECASE)
# The beginnings of an opening fence, of which the next piece may make one.
MAY_OPEN = re.compile(r"\s*(?:`{0,3}|```(?:j|js|jso|json)[ \t]*\r?|```[ \t]*\r?)", re.IGNORECASE)
# The end of a text that may become a closing fence.
MAY_CLOSE = re.compile(r"\s*`{0,3}\s*")
LONGEST_HELD = 200  # characters that are held back: a fence with more blanks around it is none
CLOSING = re.compile(r"\s*```\s*")


class CodeFence:
    """Takes the fence off one answer. `take` is given its text, piece by piece, and returns what can be passed on."""

    def __init__(self) -> None:
        self._held = ""
        self._begun = self._open = False

    def take(self, text: str) -> str:
        text = self._held + text
        self._held = ""
        if not self._begun:
            if (opening := OPENING.match(text)) is not None:
                self._begun = self._open = True
                text = text[opening.end() :]
            elif len(text) <= LONGEST_HELD and MAY_OPEN.fullmatch(text):
                self._held = text
                return ""
            else:
                self._begun = True
        if not self._open:
            return text
        end = len(text.rstrip().rstrip("`").rstrip())
        if len(text) - end > LONGEST_HELD or not MAY_CLOSE.fullmatch(text, end):
            return text
        self._held = text[end:]
        return text[:end]

    def rest(self) -> str:
        """What was held back and is no fence."""
        held, self._held = self._held, ""
        return "" if self._open and CLOSING.fullmatch(held) else held


def without_code_fence(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts of a whole answer whose text is to be JSON, without a fence around that text."""
    fence = CodeFence()
    cleaned = [Text(fence.take(part.text), part.cache_control) if isinstance(part, Text) else part for part in parts]
    rest = fence.rest()
    for index in range(len(cleaned) - 1, -1, -1) if rest else ():
        part = cleaned[index]
        if isinstance(part, Text):
            cleaned[index] = Text(part.text + rest, part.cache_control)
            break
    return tuple(cleaned)
