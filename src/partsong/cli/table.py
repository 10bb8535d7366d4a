"""Prints plain tables. Columns are as wide as their longest cell; the last is wrapped or cut to fit the terminal."""

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

from partsong.cli.printable import printable

NARROWEST = 24  # columns of the terminal; if less is left for the last cell, it is printed below the row


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, cut: bool = False) -> None:
    """Print the rows below their headings on standard output.

    headings: names of the columns
    rows: cells of each row, as many as there are headings
    cut: whether a row that is wider than the terminal is cut; if not (the default), its last cell is wrapped
    """
    cells = [[printable(cell, sys.stdout.encoding) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings) - 1)]
    before = sum(widths) + 2 * len(widths)
    room = shutil.get_terminal_size().columns - before if sys.stdout.isatty() else None
    for row in cells:
        *first, last = row
        head = "".join(f"{cell:<{width}}  " for cell, width in zip(first, widths, strict=True))
        if room is None:
            print(f"{head}{last}".rstrip())
        elif cut:
            print(shortened(f"{head}{last}".rstrip(), before + room))
        elif room >= NARROWEST:
            print(
                textwrap.fill(last, before + room, initial_indent=head, subsequent_indent=" " * before) or head.rstrip()
            )
        else:
            print(head.rstrip())
            print(textwrap.fill(last, before + room, initial_indent="    ", subsequent_indent="    "))


def shortened(text: str, width: int) -> str:
    """Return the text, cut with an ellipsis to at most `width` columns. A wide East Asian letter takes two columns."""
    if text.isascii() and len(text) <= width:
        return text
    columns = 0
    kept = 0  # number of letters that fit before an ellipsis
    for index, letter in enumerate(text):
        columns += 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if columns > width:
            return printable(f"{text[:kept].rstrip()}…", sys.stdout.encoding)
        if columns < width:
            kept = index + 1
    return text
