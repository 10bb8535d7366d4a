"""What a model writes as content: its words, told from the thoughts that some models write among them."""

from partsong.model import Delta
from partsong.wire.deltas import add_thoughts, add_words
from partsong.wire.text import Joiner
from partsong.wire.thoughts import Kind, Splitter


class Content:
    """The words and thoughts of one answer so far.

    words, thoughts: the pieces of each, in the order in which they came
    """

    __slots__ = ("_joiner", "_moved", "_splitter", "_thinking", "thoughts", "words")

    def __init__(self, *, thinks_first: bool = False) -> None:
        """`thinks_first` is whether content begins with thoughts though no tag says so."""
        self.words: list[str] = []
        self.thoughts: list[str] = []
        self._splitter = Splitter(self.words, thinks_first)
        self._joiner = Joiner()
        self._thinking = Joiner()
        self._moved = False

    @property
    def lone(self) -> bool:
        """Whether a `</think>` without a beginning has shown that the answer began with thoughts."""
        return self._splitter.lone

    def speak(self, text: str, deltas: list[Delta]) -> None:
        """Take in content."""
        if text.isascii() and "<" not in text and self._splitter.calm and not self._joiner.half:
            self.words.append(text)  # as nearly always
            add_words(deltas, text)
            return
        if not text.isascii() or self._joiner.half:
            text = self._joiner.feed(text)
        self._take_in(self._splitter.feed(text), deltas)

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
        self._take_in(self._splitter.end(), deltas)
        if self._splitter.unclosed and whole and not self.words:
            self._splitter.skip()
            self._add(True, "".join(self.thoughts), deltas)

    def _take_in(self, found: list[tuple[Kind, str]], deltas: list[Delta]) -> None:
        """What was said before a lone `</think>` is thoughts, though whoever listens has heard it as words."""
        if self._splitter.lone and not self._moved:
            self._moved = True
            self.thoughts[:0] = self.words
            self.words.clear()
        for kind, piece in found:
            self._add(kind == "words", piece, deltas)

    def _add(self, words: bool, piece: str, deltas: list[Delta]) -> None:
        if not piece:
            return
        (self.words if words else self.thoughts).append(piece)
        (add_words if words else add_thoughts)(deltas, piece)
