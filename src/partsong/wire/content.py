"""The content of a chat completion, separated into text and the thoughts that some models write into their content."""

from partsong.model import Delta
from partsong.wire.deltas import add_thoughts, add_words
from partsong.wire.room import Room
from partsong.wire.text import Joiner
from partsong.wire.thoughts import Kind, Splitter


class Content:
    """The text and the thoughts of one answer so far.

    Methods that take `deltas` append to that list whatever a listener is to be sent.

    words: pieces of the answer's text, in the order of arrival
    thoughts: pieces of the model's reasoning, in the order of arrival
    """

    __slots__ = ("_joiner", "_moved", "_room", "_splitter", "_thinking", "thoughts", "words")

    def __init__(self, room: Room, *, thinks_first: bool = False) -> None:
        """Start an answer.

        room: the room for the answer
        thinks_first: whether content begins with thoughts although it has no `<think>`; False by default
        """
        self._room = room
        self.words: list[str] = []
        self.thoughts: list[str] = []
        self._splitter = Splitter(self.words, thinks_first)
        self._joiner = Joiner()
        self._thinking = Joiner()
        self._moved = False

    @property
    def lone(self) -> bool:
        """Whether a `</think>` without a `<think>` before it has shown that the answer began with thoughts."""
        return self._splitter.lone

    def speak(self, text: str, deltas: list[Delta]) -> None:
        """Add a piece of content, which may hold text, thoughts and tags."""
        if text.isascii() and "<" not in text and self._splitter.calm and not self._joiner.half:
            # The fast path: nearly every piece is plain ASCII text without a tag.
            if text := self._room.words(text):
                self.words.append(text)
                add_words(deltas, text)
            return
        if not text.isascii() or self._joiner.half:
            text = self._joiner.feed(text)
        self._take_in(self._splitter.feed(text), deltas)

    def think(self, text: str, deltas: list[Delta]) -> None:
        """Add thoughts that the server sent in a field of their own, such as `reasoning_content`."""
        if not text.isascii() or self._thinking.half:
            text = self._thinking.feed(text)
        self._splitter.skip()
        self._add(False, text, deltas)

    def end(self, deltas: list[Delta], *, whole: bool) -> None:
        """Pass on the text that was held back, since the answer has ended.

        whole: whether the answer ended normally, and was not cut short

        If thoughts were expected first and no `</think>` came, a whole answer's thoughts are passed on as text, too.
        Otherwise the answer would be empty. Raises `ModelError` if the content ends in half a surrogate pair.
        """
        self._joiner.end()
        self._thinking.end()
        self._take_in(self._splitter.end(), deltas)
        if self._splitter.unclosed and whole and not self.words:
            self._splitter.skip()
            self._add(True, "".join(self.thoughts), deltas)

    def _take_in(self, found: list[tuple[Kind, str]], deltas: list[Delta]) -> None:
        """Add pieces that the splitter found.

        After a lone `</think>`, the text before the tag becomes thoughts. A listener has already been sent this text
        as `TextDelta`s, which are not taken back.
        """
        if self._splitter.lone and not self._moved:
            self._moved = True
            self.thoughts[:0] = self.words
            self.words.clear()
        for kind, piece in found:
            self._add(kind == "words", piece, deltas)

    def _add(self, words: bool, piece: str, deltas: list[Delta]) -> None:
        piece = self._room.words(piece) if words else self._room.thoughts(piece)
        if not piece:
            return
        (self.words if words else self.thoughts).append(piece)
        (add_words if words else add_thoughts)(deltas, piece)
