"""Conversations: a row for each that is listed, and the words of its runs."""

import datetime
import sqlite3
from collections.abc import Iterable
from typing import Any

from partsong.store.conversations import EXAMINED, Change, ConversationSearch, StoredConversation

_MINE = "runs.caller = listed.caller AND runs.conversation = listed.id AND runs.conversation != ''"
_FIRST = (
    "coalesce((SELECT question FROM runs WHERE runs.id = listed.id AND runs.caller = listed.caller), "
    f"(SELECT question FROM runs WHERE {_MINE} ORDER BY started, id LIMIT 1), '')"
)
_LAST = f"coalesce((SELECT id FROM runs WHERE {_MINE} ORDER BY started DESC, id DESC LIMIT 1), listed.id)"
_COLUMNS = f"listed.id, CASE title WHEN '' THEN {_FIRST} ELSE title END, title != '', pinned, archived, {_LAST}, latest"
_ORDER = "ORDER BY pinned DESC, latest DESC, id DESC"
_IN_WORDS = (
    "EXISTS (SELECT 1 FROM words WHERE words.caller = listed.caller AND words.conversation = listed.id "
    "AND instr(words.text, ?))"
)


def touch(connection: sqlite3.Connection, caller: str, conversation: str, moment: float) -> None:
    """List a conversation whose run began at a Unix time."""
    connection.execute(
        "INSERT INTO conversations (caller, id, latest) VALUES (?, ?, ?) "
        "ON CONFLICT (caller, id) DO UPDATE SET latest = max(latest, excluded.latest)",
        (caller, conversation, moment),
    )


def keep_words(connection: sqlite3.Connection, run: str, caller: str, conversation: str, text: str) -> None:
    """Add words of a run of the conversation."""
    connection.execute(
        "INSERT INTO words VALUES (?, ?, ?, ?) ON CONFLICT (run) DO UPDATE SET text = text || excluded.text",
        (run, caller, conversation, text),
    )


def forget_words(connection: sqlite3.Connection, run: str) -> None:
    """Delete the words of a run."""
    connection.execute("DELETE FROM words WHERE run = ?", (run,))


def forget(connection: sqlite3.Connection, caller: str, conversations: Iterable[str]) -> None:
    """Delete those of these conversations that have no run any more."""
    for conversation in conversations:
        if not _has_runs(connection, caller, conversation):
            connection.execute("DELETE FROM conversations WHERE caller = ? AND id = ?", (caller, conversation))


def listed(connection: sqlite3.Connection, search: ConversationSearch) -> tuple[list[StoredConversation], bool]:
    """The conversations that match, and whether there are more than `search.limit`."""
    condition, values = "caller = ? AND archived = ?", [search.caller, search.archived]
    if search.before:
        place = "SELECT pinned, latest, id FROM conversations WHERE caller = ? AND id = ?"
        condition += f" AND (pinned, latest, id) < ({place})"
        values += [search.caller, search.before]
    words = search.text.casefold().split()
    having = " AND ".join([f"(instr(folded, ?) OR {_IN_WORDS})"] * len(words)) or "true"
    near = f"SELECT * FROM conversations WHERE {condition} {_ORDER} LIMIT {EXAMINED if words else search.limit + 1}"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM ({near}) AS listed WHERE {having} {_ORDER} LIMIT ?",
        (*values, *(word for word in words for _ in range(2)), search.limit + 1),
    ).fetchall()
    return [_conversation(row) for row in rows[: search.limit]], len(rows) > search.limit


def find(connection: sqlite3.Connection, caller: str, conversation: str) -> StoredConversation | None:
    """The listed conversation with this id; `None` if the caller has none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM conversations AS listed WHERE caller = ? AND listed.id = ?", (caller, conversation)
    ).fetchone()
    return None if row is None else _conversation(row)


def change(connection: sqlite3.Connection, caller: str, conversation: str, changed: Change) -> bool:
    """Change a conversation, if the caller has a run in it."""
    if not _has_runs(connection, caller, conversation):
        return False
    latest = connection.execute(
        "SELECT coalesce((SELECT max(started) FROM runs WHERE caller = :caller AND conversation = :conversation "
        "AND conversation != ''), (SELECT started FROM runs WHERE id = :conversation))",
        {"caller": caller, "conversation": conversation},
    ).fetchone()[0]
    touch(connection, caller, conversation, latest)
    title = changed.title
    connection.execute(
        "UPDATE conversations SET title = coalesce(?, title), folded = coalesce(?, folded), "
        "pinned = coalesce(?, pinned), archived = coalesce(?, archived) WHERE caller = ? AND id = ?",
        (title, None if title is None else title.casefold(), changed.pinned, changed.archived, caller, conversation),
    )
    return True


def _has_runs(connection: sqlite3.Connection, caller: str, conversation: str) -> bool:
    query = (
        "SELECT 1 FROM runs WHERE id = :conversation AND caller = :caller UNION ALL "
        "SELECT 1 FROM runs WHERE caller = :caller AND conversation = :conversation AND conversation != '' LIMIT 1"
    )
    return connection.execute(query, {"caller": caller, "conversation": conversation}).fetchone() is not None


def _conversation(row: tuple[Any, ...]) -> StoredConversation:
    name, title, named, pinned, archived, last, latest = row
    moment = datetime.datetime.fromtimestamp(latest, datetime.UTC)
    return StoredConversation(name, title, bool(named), bool(pinned), bool(archived), last, moment)
