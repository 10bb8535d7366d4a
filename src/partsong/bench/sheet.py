"""Writes a table as CSV."""

import csv
import io
from collections.abc import Sequence


def csv_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return a table as CSV in UTF-8, with the headings as the first line.

    rows: cells of each row, as many as there are headings
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue().encode()
