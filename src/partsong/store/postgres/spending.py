"""The money of a day (UTC), in scopes that the caller names: all money, that of a provider, that of a key.

Every function but `left` and `prune` is done under one lock (`locks.MONEY`). At READ COMMITTED, two replicas that read
the same sums and then insert would both get the last dollar. Under the lock, each statement sees whatever was committed
before it. Days and moments are those of the database's clock; `now()` stands still in a transaction, so it is never
used.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction

Dollars = Mapping[str, Decimal]
NOTHING = Decimal(0)
_NOW = "extract(epoch FROM clock_timestamp())::double precision"
# The moment and the day are of one reading of the clock, so that midnight never comes between them.
_CLOCK = (
    "read AS MATERIALIZED (SELECT clock_timestamp() AS moment), "
    "clock AS MATERIALIZED (SELECT extract(epoch FROM moment)::double precision AS now, "
    "(moment AT TIME ZONE 'UTC')::date AS today FROM read)"
)
# Dollars that are spent, held or begun in the scope of a row of `caps`, on {day} at the moment {now}.
_TAKEN = (
    "coalesce((SELECT dollars FROM spent WHERE day = {day} AND scope = caps.scope), 0) + coalesce((SELECT sum(CASE "
    "WHEN until > {now} THEN greatest(dollars, begun) ELSE begun END) FROM holds "
    "WHERE day = {day} AND scope = caps.scope), 0)"
)
_CAPS = "unnest(%s::bytea[], %s::numeric[]) AS caps (scope, cap)"
_THEN = "(SELECT %s::date AS day, %s::double precision AS now) AS clock"
_LEFT = f"SELECT scope, cap - ({_TAKEN.format(day='clock.day', now='clock.now')}) FROM {_CAPS}, {_THEN}"
_LEFT_TODAY = (
    f"WITH {_CLOCK} SELECT scope, cap - ({_TAKEN.format(day='clock.today', now='clock.now')}) FROM {_CAPS}, clock"
)
_HOLD = (
    f"WITH {_CLOCK}, asked AS (SELECT * FROM unnest(%s::bytea[], %s::numeric[]) AS asked (scope, dollars)), "
    f"over AS (SELECT 1 FROM {_CAPS} LEFT JOIN asked USING (scope), clock "
    f"WHERE coalesce(asked.dollars, 0) > cap - ({_TAKEN.format(day='clock.today', now='clock.now')})), "
    "granted AS MATERIALIZED (SELECT nextval('hold_ids') AS id WHERE NOT EXISTS (SELECT 1 FROM over)), "
    "held AS (INSERT INTO holds (id, day, scope, dollars, begun, until) "
    "SELECT granted.id, clock.today, asked.scope, asked.dollars, 0, clock.now + %s FROM granted, asked, clock) "
    "SELECT id FROM granted"
)
_BEGIN = (
    "INSERT INTO holds (id, day, scope, dollars, begun, until) VALUES (%s, %s, %s, 0, %s, %s) "
    "ON CONFLICT (id, scope) DO UPDATE SET begun = excluded.begun, until = excluded.until"
)


def left(transaction: Transaction, caps: Dollars) -> dict[str, Decimal]:
    """Dollars that may still be spent today in each scope; negative if a cap was lowered."""
    return {unpacked(scope): room for scope, room in transaction.rows(_LEFT_TODAY, _columns(caps))}


def hold(transaction: Transaction, amounts: Dollars, caps: Dollars, lease: float) -> int | None:
    """Hold the amounts and return the id of the hold; `None`, and nothing is held, if a cap would be exceeded."""
    row = transaction.row(_HOLD, (*_columns(amounts), *_columns(caps), lease))
    return None if row is None else int(row[0])


def begin(transaction: Transaction, hold_id: int, amounts: Dollars, caps: Dollars, lease: float) -> bool:
    """Let the amounts of the hold count even if its process dies, and renew the hold. See `Backend.begin`."""
    rows = transaction.rows(
        f"SELECT scope, dollars, begun, until, day, {_NOW} FROM holds WHERE id = %s ORDER BY scope", (hold_id,)
    )
    if not rows:
        return False
    _, _, _, until, day, now = rows[0]
    lives = until > now
    begun = {unpacked(scope): dollars for scope, _, dollars, *_ in rows}
    if not lives and caps and any(amount > begun.get(scope, NOTHING) for scope, amount in amounts.items()):
        held = {unpacked(scope): dollars for scope, dollars, *_ in rows}
        found = transaction.rows(_LEFT, (*_columns(caps), day, now))
        room = {unpacked(scope): free for scope, free in found}
        if all(held.get(scope, NOTHING) - begun.get(scope, NOTHING) <= free for scope, free in room.items()):
            lives = True  # nobody has taken the rest meanwhile
        elif any(amounts.get(scope, NOTHING) - begun.get(scope, NOTHING) > free for scope, free in room.items()):
            return False
    ends = now + lease if lives else 0.0
    scopes = sorted({*begun, *amounts})
    transaction.many(_BEGIN, [(hold_id, day, packed(name), amounts.get(name, NOTHING), ends) for name in scopes])
    return True


def renew(transaction: Transaction, holds: Iterable[int], lease: float) -> None:
    """Renew these holds. One that has lapsed stays so: its money may have been taken."""
    transaction.execute(
        f"UPDATE holds SET until = clock.now + %s FROM (SELECT {_NOW} AS now) AS clock "
        "WHERE id = ANY(%s::bigint[]) AND until > clock.now",
        (lease, list(holds)),
    )


def settle(transaction: Transaction, hold_id: int, amounts: Dollars) -> None:
    """Replace a hold by what was spent, on the day of the hold. Only the first settling of a hold counts."""
    rows = transaction.rows("DELETE FROM holds WHERE id = %s RETURNING day", (hold_id,))
    if not rows:
        return
    transaction.many(
        "INSERT INTO spent (day, scope, dollars) VALUES (%s, %s, %s) "
        "ON CONFLICT (day, scope) DO UPDATE SET dollars = spent.dollars + excluded.dollars",
        [(rows[0][0], packed(scope), amount) for scope, amount in sorted(amounts.items())],
    )


def prune(transaction: Transaction, before: float) -> None:
    """Delete the days before the day of this Unix time."""
    for table in ("spent", "holds", "copied"):
        day = "(to_timestamp(%s) AT TIME ZONE 'UTC')::date"
        transaction.execute(f"DELETE FROM {table} WHERE day < {day}", (before,))


def _columns(dollars: Dollars) -> tuple[list[bytes], list[Decimal]]:
    """The scopes and the dollars as two columns."""
    return [packed(scope) for scope in dollars], list(dollars.values())
