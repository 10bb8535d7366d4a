"""The recipes that servers on several hosts share, each as the TOML text that was saved."""

from collections.abc import Sequence

from partsong.store.backend import SavedAs
from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction

MOST = 1000  # recipes in the database; every server reads their names and digests twice a second


def digests(transaction: Transaction) -> dict[str, bytes]:
    """The SHA-256 digest of each recipe's text, by the name of the recipe."""
    rows = transaction.rows("SELECT name, sha256(written) FROM recipes ORDER BY name")
    return {unpacked(name): bytes(digest) for name, digest in rows}


def read(transaction: Transaction, names: Sequence[str]) -> dict[str, str]:
    """The texts of those of these recipes that are there, by name."""
    rows = transaction.rows(
        "SELECT name, written FROM recipes WHERE name = ANY(%s::bytea[])", ([packed(name) for name in names],)
    )
    return {unpacked(name): unpacked(written) for name, written in rows}


def keep(transaction: Transaction, name: str, text: str, replace: bool) -> SavedAs:
    """Save a recipe, in place of the recipe of this name only if `replace` is true."""
    there = transaction.row("SELECT 1 FROM recipes WHERE name = %s", (packed(name),)) is not None
    if there and not replace:
        return "taken"
    counted = transaction.row("SELECT count(*) FROM recipes")
    if not there and counted is not None and counted[0] >= MOST:
        return "full"
    transaction.execute(
        "INSERT INTO recipes (name, written) VALUES (%s, %s) "
        "ON CONFLICT (name) DO UPDATE SET written = excluded.written",
        (packed(name), packed(text)),
    )
    return "saved"


def remove(transaction: Transaction, name: str) -> bool:
    """Delete the recipe of this name. Returns whether there was one."""
    return transaction.row("DELETE FROM recipes WHERE name = %s RETURNING name", (packed(name),)) is not None
