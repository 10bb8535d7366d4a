"""Removes a Markdown code fence around an answer that must be JSON, since clients parse the answer as it stands.

Many models write three backticks around JSON, whatever the prompt says. While an answer is streamed, only text that may
turn out to be part of a fence is held back.
"""

import re
from collections.abc import Iterable

from partsong.model import Part, Text

OPENING = re.compile(r"\s*```(?:json)?[ \t]*\r?\n", re.IGNORECASE)
# The beginnings of an opening fence, which the next piece of text may complete.
MAY_OPEN = re.compile(r"\s*(?:`{0,3}|```(?:j|js|jso|json)[ \t]*\r?|```[ \t]*\r?)", re.IGNORECASE)
# The end of a text that may become a closing fence.
MAY_CLOSE = re.compile(r"\s*`{0,3}\s*")
LONGEST_HELD = 200  # most characters to hold back: a fence with more white space around it is not recognised
CLOSING = re.compile(r"\s*```\s*")


class CodeFence:
    """Removes the code fence from one answer. `take` gets the text in pieces and returns the text to pass on."""

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
        """The text that is still held back at the end of the answer, without a closing fence."""
        held, self._held = self._held, ""
        return "" if self._open and CLOSING.fullmatch(held) else held


def without_code_fence(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts of a whole answer that must be JSON, without a code fence around the joined text parts."""
    fence = CodeFence()
    cleaned = [Text(fence.take(part.text), part.cache_control) if isinstance(part, Text) else part for part in parts]
    rest = fence.rest()
    for index in range(len(cleaned) - 1, -1, -1) if rest else ():
        part = cleaned[index]
        if isinstance(part, Text):
            cleaned[index] = Text(part.text + rest, part.cache_control)
            break
    return tuple(cleaned)
