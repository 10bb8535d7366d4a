"""Removes marks of the prompt's fence from an answer, since small models sometimes copy them from the prompt.

If the answer must be JSON, a Markdown code fence around it is removed too.

The fence's word occurs nowhere else, so text that looks like a mark of the fence is one. While an answer is streamed,
only text that may become a mark is held back.
"""

import re

from partsong.engine.code_fence import CodeFence, without_code_fence
from partsong.model import Part, Text
from partsong.prompts import fence_word

LONGEST_MARK = 80  # characters


class Unfencing:
    """Cleans one answer. `take` gets the text in pieces, and returns the text to pass on.

    proposals: texts that made the word of the prompt's fence; see `prompts.fence_word`
    json: whether the answer must be JSON, so that a code fence around it is removed too (default: no)
    """

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
        end = len(text)
        # A mark may stand in the middle of another. The inner one must be gone before the outer one is seen: hold both.
        while (before := text.rfind("<", 0, end)) >= 0 and self._may_become_a_mark(text[before:end]):
            end = before
        self._held = text[end:]
        return text[:end]

    def rest(self) -> str:
        """The text that is still held back at the end of the answer, because no mark came of it."""
        held, self._held = self._held, ""
        return held if self._code_fence is None else self._code_fence.take(held) + self._code_fence.rest()

    def cleaned(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer, without marks of the fence."""
        parts = tuple(Text(self._without_marks(part.text)) if isinstance(part, Text) else part for part in parts)
        return parts if self._code_fence is None else without_code_fence(parts)

    def _without_marks(self, text: str) -> str:
        while (cleaned := self._mark.sub("", text)) != text:  # the text around a mark may be a mark now
            text = cleaned
        return text

    def _may_become_a_mark(self, tail: str) -> bool:
        if ">" in tail or "\n" in tail or len(tail) > LONGEST_MARK:
            return False
        return any(start.startswith(tail) or tail.startswith(start) for start in self._starts)
