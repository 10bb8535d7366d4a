"""Takes the rows of another store over. Each job may be done twice: what is there already is left as it is."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from partsong.store.portable import LeavingCall, LeavingRun, Row
from partsong.store.postgres import runs, totals
from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction

_RUN = (
    "INSERT INTO runs (id, mode, started, seconds, recipe, model, question, status, cause, calls, stored, tokens, "
    "dollars, losses, caller, labels, layers, conversation, source, folded) "
    f"VALUES ({', '.join(['%s'] * 20)}) ON CONFLICT (id) DO NOTHING RETURNING id"
)
_CALL = (
    "INSERT INTO calls (key, model, answered, started, seconds, first, input_tokens, output_tokens, dollars, "
    "finish_reason, request, answer, run, prompt) "
    "SELECT %s::bytea, %s::bytea, %s::bytea, %s::float8, %s::float8, %s::float8, %s::bigint, %s::bigint, %s::numeric, "
    "%s::bytea, %s::bytea, %s::bytea, %s::bytea, %s::bytea "
    "WHERE NOT EXISTS (SELECT 1 FROM calls WHERE started = %s::float8 AND seconds = %s::float8 AND model = %s::bytea "
    "AND run = %s::bytea AND key IS NOT DISTINCT FROM %s::bytea AND answer IS NOT DISTINCT FROM %s::bytea) "
    "RETURNING number"
)
_PROMPT = "INSERT INTO prompts (digest, messages) VALUES (%s, %s) ON CONFLICT (digest) DO NOTHING"
_VOTE = (
    "INSERT INTO votes (caller, moment, question, one, one_run, other, other_run, choice, blind) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (caller, one_run, other_run) DO UPDATE "
    "SET moment = excluded.moment, question = excluded.question, one = excluded.one, other = excluded.other, "
    "choice = excluded.choice, blind = excluded.blind WHERE votes.moment < excluded.moment"
)


def take_runs(transaction: Transaction, leaving: Sequence[LeavingRun]) -> int:
    """Add runs with their events and shares, and return how many were new.

    A run that was under way when it was copied before, and has ended since, is replaced.
    """
    added: list[bytes] = []
    for run in leaving:
        name, status = run.row[0], run.row[7]
        before = transaction.row("SELECT status FROM runs WHERE id = %s FOR UPDATE", (name,))
        if before is not None and before[0] == b"open" and status != b"open":
            runs.delete_rows(transaction, [name])
        row = [*run.row, packed(unpacked(run.row[6]).casefold())]
        row[12] = _decimal(row[12])
        if transaction.row(_RUN, row) is None:
            continue
        transaction.many(
            "INSERT INTO pieces (run, number, events) VALUES (%s, %s, %s)",
            [(name, number, events) for number, events in run.pieces],
        )
        transaction.many(
            "INSERT INTO shares (run, model, calls, tokens, dollars, losses) VALUES (%s, %s, %s, %s, %s, %s)",
            [(name, model, made, tokens, _decimal(dollars), lost) for model, made, tokens, dollars, lost in run.shares],
        )
        if run.words is not None:
            query = "INSERT INTO words (run, caller, conversation, text) VALUES (%s, %s, %s, %s)"
            transaction.execute(query, (name, run.row[14], run.row[17], run.words))
        added.append(name)
    totals.count(transaction, added, 1)
    return len(added)


def take_conversations(transaction: Transaction, rows: Sequence[Row]) -> None:
    """List conversations. What somebody has named, pinned or archived here stays so."""
    for caller, name, title, pinned, archived, latest in rows:
        before = transaction.row("SELECT title FROM conversations WHERE caller = %s AND id = %s", (caller, name))
        new = title and (before is None or not before[0])
        named = (title, packed(unpacked(title).casefold())) if new else None
        transaction.change_conversation(caller, name, latest, named, bool(pinned) or None, bool(archived) or None)


def take_calls(transaction: Transaction, leaving: Sequence[LeavingCall]) -> int:
    """Add calls with their prompts, and return how many were new."""
    prompts = dict(call.prompt for call in leaving if call.prompt is not None)
    transaction.many(_PROMPT, sorted(prompts.items()))
    added = 0
    for call in leaving:
        key, model, _, started, seconds, *_, answer, run = call.row
        row = [*call.row, None if call.prompt is None else call.prompt[0], started, seconds, model, run, key, answer]
        row[8] = _decimal(row[8])
        added += transaction.row(_CALL, row) is not None
    return added


def take_votes(transaction: Transaction, rows: Sequence[Row]) -> None:
    """Add votes. Of two votes on the same runs, the later one stays."""
    transaction.many(_VOTE, [(*row[:-1], bool(row[-1])) for row in sorted(rows, key=lambda row: (row[0], row[4]))])


def take_money(transaction: Transaction, source: bytes, rows: Sequence[tuple[str, bytes, str]]) -> None:
    """Add the dollars of each day, less what an earlier copy of the same source has added.

    source: identity of the store that is copied
    """
    spent: dict[tuple[date, bytes], Decimal] = {}
    for day, scope, amount in rows:
        place = (date.fromisoformat(day), scope)
        spent[place] = spent.get(place, Decimal(0)) + Decimal(amount)
    for (day_of, scope), dollars in sorted(spent.items()):
        row = transaction.row(
            "SELECT dollars FROM copied WHERE source = %s AND day = %s AND scope = %s", (source, day_of, scope)
        )
        more = dollars - (Decimal(0) if row is None else row[0])
        if more <= 0:
            continue
        transaction.execute(
            "INSERT INTO copied (source, day, scope, dollars) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (source, day, scope) DO UPDATE SET dollars = excluded.dollars",
            (source, day_of, scope, dollars),
        )
        transaction.execute(
            "INSERT INTO spent (day, scope, dollars) VALUES (%s, %s, %s) "
            "ON CONFLICT (day, scope) DO UPDATE SET dollars = spent.dollars + excluded.dollars",
            (day_of, scope, more),
        )


def _decimal(dollars: str | None) -> Decimal | None:
    return None if dollars is None else Decimal(dollars)
