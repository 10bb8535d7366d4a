"""Thoughts that a model writes into its answer, between `<think>` and `</think>`, told from the words of the answer.

Servers without a parser for reasoning pass such text on as content. The rules:

- `<think>` begins thoughts where the answer has no word yet. Anywhere later the tag is a word like any other, because
  answers about such models, and code, contain the tag.
- `</think>` ends the thoughts. If the tag never comes, everything is thoughts.
- A lone `</think>` ends thoughts that began in the prompt's template: everything before the tag is thoughts. A tag does
  not count in code, in quotation marks, inside a line of prose, after a `<think>`, or if thoughts have come otherwise.
- A model that has once ended with a lone tag is expected to do so again (`expected`): its answers begin with thoughts.
"""

from typing import Literal

OPEN, CLOSE = "<think>", "</think>"
QUOTES = frozenset("\"'`“”‘’«»")
Kind = Literal["words", "thoughts"]


class Splitter:
    """Splits one answer's content, which arrives in pieces, into words and thoughts.

    lone: whether a lone `</think>` was found; the words said before it are thoughts
    expected: whether the answer begins with thoughts, though no tag says so
    """

    __slots__ = ("_bare", "_held", "_state", "_watching", "_written", "expected", "lone")

    def __init__(self, written: list[str], expected: bool = False) -> None:
        """`written` is the list to which the caller adds the words that `feed` returns."""
        self.lone = False
        self.expected = expected
        self._state: Literal["start", "thinking", "words"] = "thinking" if expected else "start"
        self._held = ""
        self._bare = False  # whether a tag has just ended thoughts: the white space after the tag is no word
        self._watching = not expected  # for a lone tag
        self._written = written

    def feed(self, text: str) -> list[tuple[Kind, str]]:
        """The pieces of words and thoughts that a piece of content completes, in their order."""
        if self.calm and "<" not in text:
            return [("words", text)]
        text, self._held = self._held + text, ""
        found: list[tuple[Kind, str]] = []
        while text:
            text = self._step(text, found)
        return found

    def skip(self) -> None:
        """Thoughts have come in a field of their own, so that a later lone tag is a word."""
        self._watching = False
        if self.expected and self._state == "thinking":
            self.expected, self._state = False, "start"

    def end(self) -> list[tuple[Kind, str]]:
        """What was still held, at the end of the answer."""
        text, self._held = self._held, ""
        found: list[tuple[Kind, str]] = []
        if self._state == "thinking":
            found = [("thoughts", text)]
        elif self._state == "words" and text == CLOSE:
            self._close("", "", found)
        elif self._state == "words" or not self._bare:
            found = [("words", text)]
        return [(kind, piece) for kind, piece in found if piece]

    @property
    def calm(self) -> bool:
        """Whether words without a `<` are words, and nothing else."""
        return self._state == "words" and not self._held

    @property
    def unclosed(self) -> bool:
        """Whether the answer has ended in thoughts that no tag has begun."""
        return self.expected and self._state == "thinking"

    def _step(self, text: str, found: list[tuple[Kind, str]]) -> str:
        """Take as much of a text as one state allows; the rest is returned."""
        if self._state == "start":
            return self._begin(text, found)
        if self._state == "thinking":
            thoughts, tag, rest = text.partition(CLOSE)
            if tag:
                self._state, self._watching, self._bare = "start", False, True
            else:
                thoughts = self._hold_back(text)
            if thoughts:
                found.append(("thoughts", thoughts))
            return rest
        return self._speak(text, found)

    def _begin(self, text: str, found: list[tuple[Kind, str]]) -> str:
        """White space before the first word may stand before a tag; after thoughts it is no part of the answer."""
        bare = text.lstrip()
        if OPEN.startswith(bare):
            self._held = text
            if bare != OPEN:
                return ""
        if bare.startswith(OPEN):
            self._state, self._watching, self._held = "thinking", False, ""
            return bare.removeprefix(OPEN)
        self._state = "words"
        return bare if self._bare else text

    def _speak(self, text: str, found: list[tuple[Kind, str]]) -> str:
        if not self._watching:
            found.append(("words", text))
            return ""
        position = text.find(CLOSE)
        if position < 0:
            if words := self._hold_back(text):
                found.append(("words", words))
            return ""
        before, after = text[:position], text[position + len(CLOSE) :]
        if not after:  # what follows decides
            self._held = text[position:]
            if before:
                found.append(("words", before))
            return ""
        return self._close(before, after, found)

    def _close(self, before: str, after: str, found: list[tuple[Kind, str]]) -> str:
        written = "".join((*self._written, *(piece for kind, piece in found if kind == "words"), before))
        if not is_lone(written, after):
            found.append(("words", before + CLOSE))
            return after
        self.lone, self._watching, self._bare, self._state = True, False, True, "start"
        found[:] = [("thoughts", piece) for _, piece in found]
        if before:
            found.append(("thoughts", before))
        return after

    def _hold_back(self, text: str) -> str:
        """The text without an end that may be the beginning of `</think>`, which is held."""
        start = text.rfind("<", -len(CLOSE))
        if start < 0 or not CLOSE.startswith(text[start:]):
            return text
        self._held = text[start:]
        return text[:start]


def is_lone(before: str, after: str) -> bool:
    """Whether a `</think>` between these two texts ends thoughts that began in the prompt."""
    line = before.rpartition("\n")[2]
    if OPEN in before or before.count("```") % 2 or line.count("`") % 2:
        return False
    if before[-1:] in QUOTES and after[:1] in QUOTES:
        return False
    inside_a_line = before[-1:] in (" ", "\t") and after[:1] not in ("", "\n", "\r")
    return not inside_a_line
