"""Removes the marks of a fence from a text that comes in pieces, in time proportional to the length of the text.

A mark may stand inside another mark, and the outer text is a mark only after the inner mark is removed. So the
beginnings of marks are kept on a stack. A character that does not continue the innermost beginning ends all of them:
a beginning with a foreign character in it can never become a mark. An earlier version searched the held text again for
each piece, which took 8 s for 4,000 tokens of `<`.
"""


class Marks:
    """Removes `<NAME…>` and `</NAME…>` from one text. `take` gets the text in pieces, and returns the text to pass on.

    name: the name in the marks. Up to the `>`, neither `<`, `>` nor a newline may follow it.
    longest: most characters of a mark
    """

    def __init__(self, name: str, longest: int) -> None:
        self._starts = (f"<{name}", f"</{name}")
        self._longest_end = longest - len(self._starts[0]) - 2  # characters between the name and the `>`
        self._begun: list[str] = []  # beginnings of marks, each inside the one before

    def take(self, text: str) -> str:
        passed: list[str] = []
        index = 0
        while index < len(text):
            if not self._begun:
                start = text.find("<", index)
                if start < 0:
                    passed.append(text[index:])
                    break
                passed.append(text[index:start])
                index = start
            passed.append(self._hear(text[index]))
            index += 1
        return "".join(passed)

    def rest(self) -> str:
        """The text that is still held back, because no mark came of it."""
        held = "".join(self._begun)
        self._begun.clear()
        return held

    def _hear(self, letter: str) -> str:
        if letter == "<":
            self._begun.append(letter)
            return ""
        begun = self._begun[-1]
        if letter == ">" and begun.startswith(self._starts):
            self._begun.pop()
            return ""
        begun += letter
        if self._may_become_a_mark(begun):
            self._begun[-1] = begun
            return ""
        return self.rest() + letter

    def _may_become_a_mark(self, begun: str) -> bool:
        for start in self._starts:
            if start.startswith(begun):
                return True
            if begun.startswith(start):
                return begun[-1] not in ">\n" and len(begun) - len(start) <= self._longest_end
        return False
