"""Calls: kept, found again by their key, and read for the throughput of each model."""

import sqlite3
from collections.abc import Iterable, Sequence

from partsong.call import Call
from partsong.model import Answer, Message
from partsong.store.encoding import pack_answer, pack_messages, pack_request, serialized, unpack_answer
from partsong.store.throughput import RECENT, Throughput, throughput_of

# Messages as JSON, the digest of the JSON, and the deflated JSON; `None` to deflate it only if it is new to the store.
Packed = tuple[bytes, bytes, bytes | None]


def pack(messages: tuple[Message, ...]) -> Packed:
    """The messages as bytes for their row, not yet deflated."""
    return (*serialized(messages), None)


def keep(connection: sqlite3.Connection, call: Call, *, words: bool, prompt: Packed | None = None) -> None:
    """Add a finished call. `words` says whether the key (a digest of words), request and answer are stored too.

    prompt: the messages as bytes, if they are there already; `None` (default) to make them now
    """
    usage = call.answer.usage
    connection.execute(
        "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            call.key if words else None,
            call.model,
            call.answer.model,
            call.started,
            call.seconds,
            call.first,
            usage.input_tokens,
            usage.output_tokens,
            None if usage.dollars is None else str(usage.dollars),
            call.answer.finish_reason,
            _prompt(connection, prompt or pack(call.request.messages)) if words else None,
            pack_request(call.request) if words else None,
            pack_answer(call.answer) if words else None,
            call.run,
        ),
    )


def _prompt(connection: sqlite3.Connection, packed: Packed) -> int | None:
    """The number of the row with these messages. Equal messages have one row, however many calls sent them."""
    text, digest, deflated = packed
    row = connection.execute("SELECT number FROM prompts WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        number: int = row[0]
        return number
    return connection.execute(
        "INSERT INTO prompts VALUES (NULL, ?, ?)", (digest, deflated or pack_messages(text))
    ).lastrowid


def find_answer(connection: sqlite3.Connection, key: bytes) -> Answer | None:
    """The latest answer to the call with this key; `None` if there is none that this version can read."""
    row = connection.execute("SELECT answer FROM calls WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)).fetchone()
    return None if row is None else unpack_answer(row[0])


def throughputs(connection: sqlite3.Connection, models: Iterable[str]) -> dict[str, Throughput]:
    """The throughput of each model in its latest calls. A model without calls is absent."""
    found = {}
    for model in dict.fromkeys(models):
        rows = connection.execute(
            "SELECT seconds, first, output_tokens FROM calls WHERE model = ? AND output_tokens > 0 "
            "ORDER BY started DESC LIMIT ?",
            (model, RECENT),
        ).fetchall()
        if rows:
            found[model] = throughput_of(rows)
    return found


def prune(connection: sqlite3.Connection, before: float, at_most: int) -> int:
    """Delete up to `at_most` calls that began before a Unix time, and the prompts that no call needs any more.

    Returns the number of deleted calls.
    """
    old = connection.execute("SELECT number, prompt FROM calls WHERE started < ? LIMIT ?", (before, at_most)).fetchall()
    _delete(connection, old)
    return len(old)


def delete_of(connection: sqlite3.Connection, run: str) -> int:
    """Delete the calls of a run, and prompts that no call needs; how many calls."""
    of_run = connection.execute("SELECT number, prompt FROM calls WHERE run = ? AND run != ''", (run,)).fetchall()
    _delete(connection, of_run)
    return len(of_run)


def _delete(connection: sqlite3.Connection, rows: Sequence[tuple[int, int | None]]) -> None:
    """Delete calls, given as their numbers and those of their prompts, and prompts that no call needs."""
    connection.executemany("DELETE FROM calls WHERE number = ?", ((number,) for number, _ in rows))
    connection.executemany(
        "DELETE FROM prompts WHERE number = :prompt AND NOT EXISTS (SELECT 1 FROM calls WHERE prompt = :prompt)",
        [{"prompt": prompt} for prompt in {prompt for _, prompt in rows if prompt is not None}],
    )
