"""What a model writes as content: its words, told from the thoughts that some models write among them."""

from partsong.model import Delta
from partsong.wire.deltas import add_thoughts, add_words
from partsong.wire.text import Joiner
from partsong.wire.thoughts import Splitter


class Content:
    """The words and thoughts of one answer so far.

    words, thoughts: the pieces of each, in the order in which they came
    """

    __slots__ = ("_joiner", "_splitter", "_thinking", "thoughts", "words")

    def __init__(self, *, thinks_first: bool = False) -> None:
        """`thinks_first` is whether content begins with thoughts though no tag says so."""
        self.words: list[str] = []
        self.thoughts: list[str] = []
        self._splitter = Splitter(thinks_first)
        self._joiner = Joiner()
        self._thinking = Joiner()

    @property
    def lone(self) -> bool:
        """Whether a `</think>` without a beginning has shown that the answer began with thoughts."""
        return self._splitter.lone

    def speak(self, text: str, deltas: list[Delta]) -> None:
        """Take in content."""
        if not text.isascii() or self._joiner.half:
            text = self._joiner.feed(text)
        lone = self._splitter.lone
        for kind, piece in self._splitter.feed(text):
            self._add(kind == "words", piece, deltas)
        if self._splitter.lone and not lone:
            self._move()

    def think(self, text: str, deltas: list[Delta]) -> None:
        """Take in thoughts that came in a field of their own."""
        if not text.isascii() or self._thinking.half:
            text = self._thinking.feed(text)
        self._splitter.skip()
        self._add(False, text, deltas)

    def end(self, deltas: list[Delta], *, whole: bool) -> None:
        """The answer has ended; `whole` is whether it was not cut short.

        An answer that was expected to begin with thoughts, and has no `</think>`, is passed on as words as well.
        """
        self._joiner.end()
        self._thinking.end()
        lone = self._splitter.lone
        for kind, piece in self._splitter.end():
            self._add(kind == "words", piece, deltas)
        if self._splitter.lone and not lone:
            self._move()
        if self._splitter.unclosed and whole and not self.words:
            self._splitter.skip()
            self._add(True, "".join(self.thoughts), deltas)

    def _move(self) -> None:
        """What was said before a lone `</think>` is thoughts. Whoever listens has heard it as words."""
        last = self.thoughts[-1:]
        self.thoughts = [*self.thoughts[:-1], *self.words, *last]
        self.words = []

    def _add(self, words: bool, piece: str, deltas: list[Delta]) -> None:
        if not piece:
            return
        (self.words if words else self.thoughts).append(piece)
        (add_words if words else add_thoughts)(deltas, piece)
