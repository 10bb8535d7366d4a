"""The requests of keys: a place for each request under way, and a debt for the requests of the last minute.

`take` and `keep` are done under the lock of their keys (`locks.of_keys`), so that no two replicas count the same places
at the same time. Moments are Unix time of the database's clock.
"""

from collections.abc import Iterable

from partsong.store.limits import AGAIN, Refusal, owed
from partsong.store.postgres.text import packed
from partsong.store.postgres.transaction import Transaction

_NOW = "extract(epoch FROM clock_timestamp())::double precision"
_PLACE = (
    f"INSERT INTO places (place, caller, until) VALUES (%s, %s, {_NOW} + %s) "
    "ON CONFLICT (place) DO UPDATE SET caller = excluded.caller, until = excluded.until"
)


def take(
    transaction: Transaction, place: int, key: str, *, at_once: int | None, per_minute: int | None, hold: float
) -> Refusal | None:
    """Take a place for the key for `hold` seconds, and count one request. If a limit forbids it, do neither.

    place: id of the place, chosen by the caller
    at_once: most requests of the key under way; `None` for no limit
    per_minute: most requests of the key in a minute; `None` for no limit
    """
    caller = packed(key)
    if at_once is not None:
        # Only places of this key, which is locked: replicas that deleted each other's places would wait in a circle.
        transaction.execute(f"DELETE FROM places WHERE caller = %s AND until <= {_NOW}", (caller,))
        row = transaction.row("SELECT count(*) FROM places WHERE caller = %s", (caller,))
        if row is not None and row[0] >= at_once:
            return Refusal("at_once", AGAIN)
    if per_minute is not None:
        row = transaction.row(f"SELECT {_NOW}, (SELECT due FROM debts WHERE caller = %s)", (caller,))
        assert row is not None, "a select without a table has a row"
        now, before = row
        due, wait = owed(now if before is None else before, now, per_minute)
        if wait:
            return Refusal("requests_per_minute", wait)
        transaction.execute(
            "INSERT INTO debts (caller, due) VALUES (%s, %s) ON CONFLICT (caller) DO UPDATE SET due = excluded.due",
            (caller, due),
        )
    if at_once is not None:
        transaction.execute(_PLACE, (place, caller, hold))
    return None


def keep(transaction: Transaction, places: Iterable[tuple[int, str]], hold: float) -> None:
    """Keep these places of these keys for `hold` more seconds, also places that came free in between."""
    transaction.many(_PLACE, [(place, packed(key), hold) for place, key in sorted(places)])


def leave(transaction: Transaction, place: int) -> None:
    """Give a place back."""
    transaction.execute("DELETE FROM places WHERE place = %s", (place,))


def prune(transaction: Transaction) -> None:
    """Delete the places and the debts of keys that have not come back."""
    transaction.execute(
        f"DELETE FROM places WHERE place IN (SELECT place FROM places WHERE until <= {_NOW} FOR UPDATE SKIP LOCKED)"
    )
    transaction.execute(
        f"DELETE FROM debts WHERE caller IN (SELECT caller FROM debts WHERE due <= {_NOW} FOR UPDATE SKIP LOCKED)"
    )
