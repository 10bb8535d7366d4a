"""Take the marks of a run's fence out of its answer: a small model sometimes copies them from its prompt.

An answer that is to be JSON loses a code fence around it as well.

The fence's word stands nowhere else, so what looks like one of its marks is one. While an answer is streamed, only what
may become a mark is held back.
"""

import re

from partsong.engine.code_fence import CodeFence, without_code_fence
from partsong.model import Part, Text
from partsong.prompts import fence_word

LONGEST_MARK = 80  # characters; what is longer is no mark


class Unfencing:
    """Cleans one answer. `take` is given what is said, piece by piece, and returns what can be passed on."""

    def __init__(self, proposals: tuple[str, ...], json: bool = False) -> None:
        self._code_fence = CodeFence() if json else None
        name = f"proposal-{fence_word(proposals)}"
        self._starts = (f"<{name}", f"</{name}")
        self._mark = re.compile(rf"</?{name}[^<>\n]{{0,{LONGEST_MARK - len(name) - 3}}}>")
        self._held = ""

    def take(self, text: str) -> str:
        text = self._take(text)
        return text if self._code_fence is None else self._code_fence.take(text)

    def _take(self, text: str) -> str:
        if not self._held and "<" not in text:
            return text
        text = self._without_marks(self._held + text)
        at = len(text)
        # A mark may stand in the middle of another, and must be gone before that one is seen: hold both.
        while (before := text.rfind("<", 0, at)) >= 0 and self._may_become_a_mark(text[before:at]):
            at = before
        self._held = text[at:]
        return text[:at]

    def rest(self) -> str:
        """What was held back and has not become a mark."""
        held, self._held = self._held, ""
        return held if self._code_fence is None else self._code_fence.take(held) + self._code_fence.rest()

    def cleaned(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer, without marks."""
        parts = tuple(Text(self._without_marks(part.text)) if isinstance(part, Text) else part for part in parts)
        return parts if self._code_fence is None else without_code_fence(parts)

    def _without_marks(self, text: str) -> str:
        while (cleaned := self._mark.sub("", text)) != text:  # what stood around a mark may be one now
            text = cleaned
        return text

    def _may_become_a_mark(self, tail: str) -> bool:
        if ">" in tail or "\n" in tail or len(tail) > LONGEST_MARK:
            return False
        return any(start.startswith(tail) or tail.startswith(start) for start in self._starts)
