"""The shares of a run's models."""

from collections.abc import Sequence

from partsong.store.postgres.text import packed
from partsong.store.postgres.transaction import Transaction
from partsong.store.shares import Share


def keep(transaction: Transaction, run: bytes, shares: Sequence[Share]) -> None:
    """Replace the shares of these models in a run."""
    transaction.many(
        "INSERT INTO shares (run, model, calls, tokens, dollars, losses) VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (run, model) DO UPDATE SET calls = excluded.calls, tokens = excluded.tokens, "
        "dollars = excluded.dollars, losses = excluded.losses",
        [(run, packed(each.model), each.calls, each.tokens, each.dollars, each.losses) for each in shares],
    )
