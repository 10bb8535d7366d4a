"""What servers on several hosts share beside the store: keys, runs that are to be stopped, and calls under way."""

from collections.abc import Sequence

from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction

KEPT = 3600.0  # seconds for which a wish to stop a run is kept: its server looks every second, or has died
_NOW = "extract(epoch FROM clock_timestamp())::double precision"


def read_keys(transaction: Transaction) -> list[bytes]:
    """The keys as they were written, in the order in which they were added."""
    return [written for (written,) in transaction.rows("SELECT written FROM keys ORDER BY number")]


def add_key(transaction: Transaction, name: str, written: bytes) -> bool:
    """Add a key. Returns `False`, and changes nothing, if there is a key with this name."""
    insert = "INSERT INTO keys (name, written) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING RETURNING number"
    return transaction.row(insert, (packed(name), written)) is not None


def remove_key(transaction: Transaction, name: str) -> bool:
    """Remove the key with this name. Returns whether there was one."""
    return transaction.row("DELETE FROM keys WHERE name = %s RETURNING number", (packed(name),)) is not None


def ask_to_stop(transaction: Transaction, run: str) -> None:
    """Ask the server that performs the run to stop it, and forget old wishes."""
    transaction.execute(
        f"INSERT INTO stops (run, moment) VALUES (%s, {_NOW}) ON CONFLICT (run) DO UPDATE SET moment = excluded.moment",
        (packed(run),),
    )
    transaction.execute(
        f"DELETE FROM stops WHERE run IN (SELECT run FROM stops WHERE moment < {_NOW} - %s FOR UPDATE SKIP LOCKED)",
        (KEPT,),
    )


def asked_to_stop(transaction: Transaction, runs: Sequence[str]) -> list[str]:
    """Those of these runs that somebody has asked to stop."""
    rows = transaction.rows("SELECT run FROM stops WHERE run = ANY(%s::bytea[])", ([packed(run) for run in runs],))
    return [unpacked(run) for (run,) in rows]


def claim(transaction: Transaction, key: bytes, claimant: int, lease: float) -> bool:
    """Claim the call with this key for `lease` seconds. Returns `False` if another claimant has it."""
    row = transaction.row(
        f"INSERT INTO claims (key, claimant, until) VALUES (%s, %s, {_NOW} + %s) ON CONFLICT (key) DO UPDATE "
        f"SET claimant = excluded.claimant, until = excluded.until WHERE claims.until <= {_NOW} RETURNING claimant",
        (key, claimant, lease),
    )
    return row is not None


def renew_claims(transaction: Transaction, keys: Sequence[bytes], claimant: int, lease: float) -> None:
    """Keep these claims for `lease` more seconds."""
    transaction.execute(
        f"UPDATE claims SET until = {_NOW} + %s WHERE key = ANY(%s::bytea[]) AND claimant = %s",
        (lease, list(keys), claimant),
    )


def release(transaction: Transaction, key: bytes, claimant: int) -> None:
    """Give a claim back."""
    transaction.execute("DELETE FROM claims WHERE key = %s AND claimant = %s", (key, claimant))


def prune(transaction: Transaction) -> None:
    """Delete the claims of processes that have died."""
    transaction.execute(f"DELETE FROM claims WHERE until <= {_NOW}")
