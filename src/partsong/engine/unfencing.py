"""Take the marks of a prompt's fence out of the answer: a small model sometimes copies them from its prompt.

The fence's word stands nowhere else, so text that looks like a mark of the fence is one. While an answer is streamed,
only text that may become a mark is held back.
"""

from partsong.engine.marks import Marks
from partsong.model import Part, Text
from partsong.prompts import fence_word

LONGEST_MARK = 80  # characters


class Unfencing:
    """Cleans one answer. `take` is given the text piece by piece, and returns the text that can be passed on."""

    def __init__(self, proposals: tuple[str, ...]) -> None:
        self._name = f"proposal-{fence_word(proposals)}"
        self._marks = Marks(self._name, LONGEST_MARK)

    def take(self, text: str) -> str:
        return self._marks.take(text)

    def rest(self) -> str:
        """The text that was held back and has not become a mark."""
        return self._marks.rest()

    def cleaned(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of the whole answer, without marks."""
        return tuple(Text(self._without_marks(part.text)) if isinstance(part, Text) else part for part in parts)

    def _without_marks(self, text: str) -> str:
        marks = Marks(self._name, LONGEST_MARK)
        return marks.take(text) + marks.rest()
