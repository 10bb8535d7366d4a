"""Removes marks from a text that comes piece by piece, in time proportional to its length.

A mark may stand in the middle of another, and the outer one is a mark only once the inner is gone. So the beginnings
of marks are kept as a stack. A letter that continues none of them ends them all: a beginning with a foreign letter in
it can never become a mark. Searching the held text again for each piece took 8 s for 4,000 tokens of `<`.
"""


class Marks:
    """Removes `<NAME…>` and `</NAME…>`, where neither `<`, `>` nor a line's end follows the name within the mark.

    `longest` is the most characters of a mark. `take` is given the text piece by piece, and returns the text that can
    be passed on.
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
        """The text that was held back and has not become a mark."""
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
