"""Writes a table as CSV."""

import csv
import io
from collections.abc import Sequence


def csv_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """The table as CSV in UTF-8, with the headings as its first line."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue().encode()
