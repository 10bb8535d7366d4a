"""Separates thoughts, which a model writes between `<think>` and `</think>`, from the text of its answer.

Servers without a parser for reasoning pass both on as content. The rules:

- `<think>` begins thoughts if the answer has no text yet. Later the tag is ordinary text, because answers about such
  models, and code, contain the tag.
- `</think>` ends the thoughts. If the tag never comes, everything is thoughts.
- A lone `</think>` ends thoughts whose `<think>` was in the prompt's template: everything before the tag is thoughts.
  A tag is not lone in code, between quotation marks, inside a line of prose, or if other thoughts have come before.
- A model whose answer once had a lone tag is expected to begin its next answers with thoughts (`expected`).
"""

from typing import Literal

OPEN, CLOSE = "<think>", "</think>"
LONGEST_SPACE = 1000  # characters of white space before a `<think>`; after more, the tag is ordinary text
MOST_JUDGED = 20  # `</think>`s that are judged; each one is judged by all the text before it
QUOTES = frozenset("\"'`“”‘’«»")
Kind = Literal["words", "thoughts"]


class Splitter:
    """Splits one answer's content, which arrives in pieces, into text ("words") and thoughts.

    Results are lists of (kind, piece) in the order of the content.

    lone: whether a lone `</think>` was found, so that the text returned before it was thoughts
    expected: whether the answer begins with thoughts although it has no `<think>`
    """

    __slots__ = ("_bare", "_held", "_judged", "_state", "_watching", "_written", "expected", "lone")

    def __init__(self, written: list[str], expected: bool = False) -> None:
        """Start an answer.

        written: the list to which the caller adds the text that `feed` returns; read to judge a lone tag
        expected: whether the answer begins with thoughts although it has no `<think>`; False by default
        """
        self.lone = False
        self.expected = expected
        self._state: Literal["start", "thinking", "words"] = "thinking" if expected else "start"
        self._held = ""
        self._bare = False  # whether a tag has just ended thoughts: white space after the tag is no part of the answer
        self._watching = not expected  # whether a `</think>` may still be a lone tag
        self._judged = 0  # `</think>`s that were judged
        self._written = written

    def feed(self, text: str) -> list[tuple[Kind, str]]:
        """Return the pieces of text and thoughts that are certain with this piece of content, as (kind, piece)."""
        if self.calm and "<" not in text:
            return [("words", text)]
        text, self._held = self._held + text, ""
        found: list[tuple[Kind, str]] = []
        while text:
            text = self._step(text, found)
        return found

    def skip(self) -> None:
        """Note that thoughts have come in a field of their own: no lone tag and no expected thoughts can follow."""
        self._watching = False
        if self.expected and self._state == "thinking":
            self.expected, self._state = False, "start"

    def end(self) -> list[tuple[Kind, str]]:
        """Return the content that was held back as a possible tag. To be called at the end of the answer."""
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
        """Whether the next content is text for certain unless it contains a `<`."""
        return self._state == "words" and not self._held

    @property
    def unclosed(self) -> bool:
        """Whether the content so far is nothing but the expected thoughts, which no tag has begun or ended."""
        return self.expected and self._state == "thinking"

    def _step(self, text: str, found: list[tuple[Kind, str]]) -> str:
        """Add to `found` as much of the text as belongs to the present state, and return the rest."""
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
        """Read the start of an answer, or of what follows thoughts; return the text that is left to read.

        Leading white space is held, since a `<think>` may follow. After thoughts it is no part of the answer.
        """
        bare = text.lstrip()
        if len(text) - len(bare) > LONGEST_SPACE:
            self._state = "words"
            return bare if self._bare else text
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
        if not after:  # what follows the tag decides whether it is lone
            self._held = text[position:]
            if before:
                found.append(("words", before))
            return ""
        return self._close(before, after, found)

    def _close(self, before: str, after: str, found: list[tuple[Kind, str]]) -> str:
        written = "".join((*self._written, *(piece for kind, piece in found if kind == "words"), before))
        self._judged += 1
        if not is_lone(written, after):
            self._watching = self._judged < MOST_JUDGED
            found.append(("words", before + CLOSE))
            return after
        self.lone, self._watching, self._bare, self._state = True, False, True, "start"
        found[:] = [("thoughts", piece) for _, piece in found]
        if before:
            found.append(("thoughts", before))
        return after

    def _hold_back(self, text: str) -> str:
        """Return the text without an ending that may be the beginning of `</think>`; that ending is held back."""
        start = text.rfind("<", -len(CLOSE))
        if start < 0 or not CLOSE.startswith(text[start:]):
            return text
        self._held = text[start:]
        return text[:start]


def is_lone(before: str, after: str) -> bool:
    """Return whether a `</think>` between the texts `before` and `after` ends thoughts that began in the prompt."""
    line = before.rpartition("\n")[2]
    if OPEN in before or before.count("```") % 2 or line.count("`") % 2:
        return False
    if before[-1:] in QUOTES and after[:1] in QUOTES:
        return False
    inside_a_line = before[-1:] in (" ", "\t") and after[:1] not in ("", "\n", "\r")
    return not inside_a_line
