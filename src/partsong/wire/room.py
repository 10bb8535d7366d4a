"""The room for one answer: how much of an answer is kept, in whichever API, form and order it arrives.

The wire formats ask the room for every piece that they keep. A piece that exceeds the room is cut, and everything after
it is dropped, so that a stream and a whole answer are cut at the same character. Whoever reads the answer then closes
the connection. The rules:

- All that is kept of an answer has at most `characters` characters. A part of an answer (a tool call, a block) counts
  `A_PART` characters more, because a part takes memory without a word.
- With `max_tokens`, text and tool calls have at most `A_TOKEN` characters for each token, and `BEYOND` characters more.
  English has 4 to 5 characters a token, and other languages and code have less or little more. So an answer that
  reaches this limit has gone far beyond its `max_tokens`.
- Reasoning has a limit of its own, of `A_TOKEN` characters for each token of `max_tokens`, of the budget for thinking,
  and of `UNCOUNTED` tokens. Some providers do not count reasoning in `max_tokens`.
"""

from partsong.bounds import Bounds
from partsong.model import Request, Sampling

A_PART = 1000  # characters as which a part of an answer counts, beside its words
A_TOKEN = 16  # characters of an answer for each token of `max_tokens`
BEYOND = 16_384  # characters beyond this, for short limits and for tool calls of servers that do not cut them
UNCOUNTED = 65_536  # tokens of reasoning that a provider may not count in `max_tokens`


class Room:
    """The room that is left for one answer.

    full: why the answer was cut, in a sentence for people; "" while there is room
    """

    __slots__ = ("_characters", "_left", "_thoughts", "_tokens", "_words", "full")

    def __init__(self, sampling: Sampling | None = None, characters: int = Bounds().answer_characters) -> None:
        """Start an answer.

        sampling: the settings of the request; `None` (default) for a request without `max_tokens`
        characters: most characters that are kept of the answer
        """
        self.full = ""
        self._characters = self._left = characters
        self._tokens = tokens = None if sampling is None else sampling.max_tokens
        self._words = self._thoughts = characters
        if sampling is not None and tokens is not None:
            self._words = min(characters, A_TOKEN * tokens + BEYOND)
            self._thoughts = min(characters, A_TOKEN * (tokens + (sampling.thinking or 0) + UNCOUNTED))

    def words(self, text: str) -> str:
        """Return as much of a piece of text, of a tool's name or of arguments as there is room for."""
        room = min(self._words, self._left)
        if self.full or len(text) > room:
            text = self._cut(text, room, "the answer")
        self._words -= len(text)
        self._left -= len(text)
        return text

    def thoughts(self, text: str) -> str:
        """Return as much of a piece of reasoning as there is room for."""
        room = min(self._thoughts, self._left)
        if self.full or len(text) > room:
            text = self._cut(text, room, "the reasoning")
        self._thoughts -= len(text)
        self._left -= len(text)
        return text

    def data(self, text: str) -> str:
        """Return a text that is useless in part, such as an id or a signature, or "" if there is no room for it."""
        if self.full or len(text) > self._left:
            self._cut(text, self._left, "the answer")
            return ""
        self._left -= len(text)
        return text

    def part(self) -> bool:
        """Return whether there is room for one more part of the answer, such as a tool call."""
        room = min(self._words, self._left)
        if self.full or room < A_PART:
            self._cut("", room, "the answer")
            return False
        self._left -= A_PART
        return True

    def close(self, why: str) -> None:
        """Let nothing more be kept of the answer. `why`: in a sentence for people, like `full`."""
        self.full = self.full or why

    def _cut(self, text: str, room: int, what: str) -> str:
        if self.full:
            return ""
        if self._left <= room:
            self.full = f"{what} was cut: more than {self._characters:,} characters are kept of no answer"
        else:
            self.full = f"{what} was cut: it went far beyond max_tokens ({self._tokens:,})"
        return text[: max(0, room)]


def room_of(request: Request, bounds: Bounds) -> Room:
    """The room for the answer to a request, of which its caller may need less than the bounds allow."""
    most, needed = bounds.answer_characters, request.terms.room
    return Room(request.sampling, most if needed is None else min(most, needed))
