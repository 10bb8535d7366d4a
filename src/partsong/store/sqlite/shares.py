"""The shares of a run's models."""

import sqlite3
from collections.abc import Sequence

from partsong.store.shares import Share


def keep(connection: sqlite3.Connection, run: str, shares: Sequence[Share]) -> None:
    """Replace the shares of these models in a run."""
    connection.executemany(
        "INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?, ?, ?)",
        (
            (run, each.model, each.calls, each.tokens, None if each.dollars is None else str(each.dollars), each.losses)
            for each in shares
        ),
    )
