"""Plain tables: columns as wide as their longest cell, the last wrapped to the terminal. The same text in a pipe."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from partsong.cli.printable import printable

NARROWEST = 24  # columns: where the last cell has less, it gets lines of its own


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings, on standard output."""
    cells = [[printable(cell, sys.stdout.encoding) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings) - 1)]
    before = sum(widths) + 2 * len(widths)
    room = shutil.get_terminal_size().columns - before if sys.stdout.isatty() else None
    for row in cells:
        *first, last = row
        head = "".join(f"{cell:<{width}}  " for cell, width in zip(first, widths, strict=True))
        if room is None:
            print(f"{head}{last}".rstrip())
        elif room >= NARROWEST:
            print(
                textwrap.fill(last, before + room, initial_indent=head, subsequent_indent=" " * before) or head.rstrip()
            )
        else:
            print(head.rstrip())
            print(textwrap.fill(last, before + room, initial_indent="    ", subsequent_indent="    "))
