"""Calls: kept, found again by their key, and read for the throughput of each model."""

from collections.abc import Iterable, Sequence

from partsong.call import Call
from partsong.model import Answer, Message
from partsong.store.encoding import pack_answer, pack_messages, pack_request, serialized, unpack_answer
from partsong.store.postgres.text import packed
from partsong.store.postgres.transaction import Row, Transaction
from partsong.store.throughput import RECENT, Throughput, throughput_of


def keep(transaction: Transaction, call: Call, *, words: bool) -> None:
    """Add a finished call. `words` says whether the key (a digest of words), request and answer are stored too."""
    usage = call.answer.usage
    transaction.execute(
        "INSERT INTO calls (key, model, answered, started, seconds, first, input_tokens, output_tokens, dollars, "
        "finish_reason, prompt, request, answer, run) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            call.key if words else None,
            packed(call.model),
            packed(call.answer.model),
            call.started,
            call.seconds,
            call.first,
            usage.input_tokens,
            usage.output_tokens,
            usage.dollars,
            packed(call.answer.finish_reason),
            _prompt(transaction, call.request.messages) if words else None,
            pack_request(call.request) if words else None,
            pack_answer(call.answer) if words else None,
            packed(call.run),
        ),
    )


def _prompt(transaction: Transaction, messages: tuple[Message, ...]) -> bytes:
    """The digest of the row with these messages. Equal messages have one row, however many calls sent them."""
    text, digest = serialized(messages)
    if transaction.row("SELECT 1 FROM prompts WHERE digest = %s", (digest,)) is None:
        insert = "INSERT INTO prompts (digest, messages) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        transaction.execute(insert, (digest, pack_messages(text)))
    return digest


def find_answer(transaction: Transaction, key: bytes) -> Answer | None:
    """The latest answer to the call with this key; `None` if there is none that this version can read."""
    row = transaction.row("SELECT answer FROM calls WHERE key = %s ORDER BY number DESC LIMIT 1", (key,))
    return None if row is None else unpack_answer(row[0])


def throughputs(transaction: Transaction, models: Iterable[str]) -> dict[str, Throughput]:
    """The throughput of each model in its latest calls. A model without calls is absent."""
    found = {}
    for model in dict.fromkeys(models):
        rows = transaction.rows(
            "SELECT seconds, first, output_tokens FROM calls WHERE model = %s AND output_tokens > 0 "
            "ORDER BY started DESC LIMIT %s",
            (packed(model), RECENT),
        )
        if rows:
            found[model] = throughput_of([(row[0], row[1], row[2]) for row in rows])
    return found


def prune(transaction: Transaction, before: float, at_most: int) -> int:
    """Delete up to `at_most` calls that began before a Unix time, and the prompts that no call needs any more.

    Returns the number of deleted calls.
    """
    old = transaction.rows(
        "SELECT number, prompt FROM calls WHERE started < %s ORDER BY number LIMIT %s FOR UPDATE", (before, at_most)
    )
    _delete(transaction, old)
    return len(old)


def delete_of(transaction: Transaction, runs: Sequence[bytes]) -> int:
    """Delete the calls of these runs, and prompts that no call needs; how many calls."""
    of_runs = transaction.rows(
        "SELECT number, prompt FROM calls WHERE run = ANY(%s::bytea[]) AND run != '' ORDER BY number FOR UPDATE",
        (list(runs),),
    )
    _delete(transaction, of_runs)
    return len(of_runs)


def _delete(transaction: Transaction, rows: Sequence[Row]) -> None:
    """Delete calls, given as their numbers and those of their prompts, and prompts that no call needs."""
    transaction.execute("DELETE FROM calls WHERE number = ANY(%s::bigint[])", ([number for number, _ in rows],))
    if prompts := sorted({prompt for _, prompt in rows if prompt is not None}):
        transaction.execute(
            "DELETE FROM prompts WHERE digest = ANY(%s::bytea[]) "
            "AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.prompt = prompts.digest)",
            (prompts,),
        )
