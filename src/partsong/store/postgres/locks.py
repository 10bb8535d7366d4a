"""The advisory locks of transactions. All locks that a transaction needs are taken at its beginning, in one order.

So no two transactions wait for each other's locks. The locks end with their transaction, and therefore also work behind
a pooler that gives each transaction another connection.
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

from partsong.store.postgres.text import packed
from partsong.store.postgres.transaction import Transaction

_OURS = 0x70737400  # "pst": the first half of our locks, which other programs in the database hardly use
BUCKETS = 64  # locks for all keys together, since the server's table of locks is small


class Lock(NamedTuple):
    """An advisory lock.

    kind, number: the two halves of its key
    shared: whether transactions may hold it at the same time
    """

    kind: int
    number: int = 0
    shared: bool = False


MIGRATION = Lock(_OURS)
MONEY = Lock(_OURS + 1)  # of all scopes: most holds share the scope of all money anyway
USING_PROMPTS = Lock(_OURS + 3, shared=True)  # while a call refers to a prompt that is there already
CLAIMS = Lock(_OURS + 4)
RECIPES = Lock(_OURS + 5)  # while a recipe is saved: the recipes are counted first
DELETING_PROMPTS = Lock(_OURS + 3)  # while prompts without calls are deleted


def of_key(key: str) -> Lock:
    """The lock of a key's requests. Some keys share a lock."""
    return Lock(_OURS + 2, zlib.crc32(packed(key)) % BUCKETS)


def take(transaction: Transaction, locks: Iterable[Lock]) -> None:
    """Take the locks until the transaction ends. Where one is wanted shared and not shared, it is not shared."""
    wanted: dict[tuple[int, int], bool] = {}
    for lock in locks:
        place = (lock.kind, lock.number)
        wanted[place] = wanted.get(place, True) and lock.shared
    for kind, number in sorted(wanted):
        shared = "_shared" if wanted[kind, number] else ""
        transaction.execute(f"SELECT pg_advisory_xact_lock{shared}(%s::int, %s::int)", (kind, number))
