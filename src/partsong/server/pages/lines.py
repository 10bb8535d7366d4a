"""Finds the lines of the fields in a TOML text, in one pass. The parser of the standard library tells no line numbers.

The text must be TOML that `tomllib` has read, so that no error has to be found here.
"""

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

SPACE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")  # also comments, between statements and in arrays
GAP = re.compile(r"[ \t]*+")  # in a line
BARE = re.compile(r"[A-Za-z0-9_-]++")
STRING = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"(?!""))*+"{3,5}|'
    r"'''(?:[^']|'(?!''))*+'{3,5}|"
    r'"(?:[^"\\\n]|\\.)*+"|'
    r"'[^'\n]*+'"
)
SCALAR = re.compile(r"[^,\]}\n#]*+")


def lines_of(text: str) -> dict[Path, int]:
    """The line in which each field begins, counted from 1, by the path of the field: its names and indexes."""
    reading = _Reading(text)
    reading.statements()
    return reading.lines


class _Reading:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._tables: dict[Path, int] = {}  # the number of tables in each array of tables, such as [[layers]]

    def statements(self) -> None:
        table: Path = ()
        while True:
            self.skip(SPACE)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)

    def header(self) -> Path:
        """The path of the table that a header such as `[aggregator]` or `[[layers]]` begins."""
        start = self.at
        several = self.text.startswith("[[", start)
        self.at += 2 if several else 1
        path: Path = ()
        for name in self.key():
            path = self.last((*path, name))
        if several:
            path = path[:-1] if isinstance(path[-1], int) else path
            index = self._tables.get(path, 0)
            self._tables[path] = index + 1
            path = (*path, index)
        self.at += 2 if several else 1
        self.note(path, start)
        return path

    def last(self, path: Path) -> Path:
        """The path, or that of its last table so far if it is an array of tables."""
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def pair(self, table: Path) -> None:
        start = self.at
        path = (*table, *self.key())
        self.skip(GAP)
        self.at += 1  # the sign =
        self.skip(GAP)
        self.note(path, start)
        self.value(path)

    def key(self) -> Path:
        """The names of a dotted key."""
        names: list[str] = []
        while True:
            self.skip(GAP)
            found = BARE.match(self.text, self.at) or STRING.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            word = found[0]
            names.append(str(tomllib.loads(f"name = {word}")["name"]) if word[0] in "\"'" else word)
            self.skip(GAP)
            if not self.text.startswith(".", self.at):
                return tuple(names)
            self.at += 1

    def value(self, path: Path) -> None:
        sign = self.text[self.at]
        if sign == "[":
            self.array(path)
        elif sign == "{":
            self.table(path)
        else:
            self.skip(STRING if sign in "\"'" else SCALAR)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while True:
            self.skip(SPACE)
            if self.text[self.at] == "]":
                self.at += 1
                return
            self.note((*path, index), self.at)
            self.value((*path, index))
            index += 1
            self.skip(SPACE)
            if self.text[self.at] == ",":
                self.at += 1

    def table(self, path: Path) -> None:
        self.at += 1
        while True:
            self.skip(GAP)
            if self.text[self.at] == "}":
                self.at += 1
                return
            self.pair(path)
            self.skip(GAP)
            if self.text[self.at] == ",":
                self.at += 1

    def skip(self, what: re.Pattern[str]) -> None:
        if found := what.match(self.text, self.at):
            self.at = found.end()

    def note(self, path: Path, start: int) -> None:
        """Note the line of a field and of the tables around it, where they are not noted yet."""
        line = bisect_right(self._starts, start)
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return
            self.lines[path[:end]] = line
