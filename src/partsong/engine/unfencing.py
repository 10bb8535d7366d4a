"""Take the marks of a prompt's fence out of the answer: a small model sometimes copies them from its prompt.

An answer that is to be JSON loses a code fence around it as well.

The fence's word stands nowhere else, so text that looks like a mark of the fence is one. While an answer is streamed,
only text that may become a mark is held back.
"""

from partsong.engine.code_fence import CodeFence, without_code_fence
from partsong.engine.marks import Marks
from partsong.model import Part, Text
from partsong.prompts import fence_word

LONGEST_MARK = 80  # characters


class Unfencing:
    """Cleans one answer. `take` is given the text piece by piece, and returns the text that can be passed on."""

    def __init__(self, proposals: tuple[str, ...], json: bool = False) -> None:
        self._code_fence = CodeFence() if json else None
        self._name = f"proposal-{fence_word(proposals)}"
        self._marks = Marks(self._name, LONGEST_MARK)

    def take(self, text: str) -> str:
        text = self._marks.take(text)
        return text if self._code_fence is None else self._code_fence.take(text)

    def rest(self) -> str:
        """The text that was held back and has not become a mark."""
        held = self._marks.rest()
        return held if self._code_fence is None else self._code_fence.take(held) + self._code_fence.rest()

    def cleaned(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer, without marks."""
        parts = tuple(Text(self._without_marks(part.text)) if isinstance(part, Text) else part for part in parts)
        return parts if self._code_fence is None else without_code_fence(parts)

    def _without_marks(self, text: str) -> str:
        marks = Marks(self._name, LONGEST_MARK)
        return marks.take(text) + marks.rest()
