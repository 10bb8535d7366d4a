"""A table as CSV."""

import csv
import io
from collections.abc import Sequence


def csv_of(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """The table, headings first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue().encode()
