"""Conversations: a row for each that is listed, and the words of its runs.

Rows are written at the end of a transaction, in one order; see `Transaction`.
"""

import datetime

from partsong.store.conversations import EXAMINED, Change, ConversationSearch, StoredConversation
from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Row, Transaction

_MINE = "runs.caller = listed.caller AND runs.conversation = listed.id AND runs.conversation != ''"
_FIRST = (
    "coalesce((SELECT question FROM runs WHERE runs.id = listed.id AND runs.caller = listed.caller), "
    f"(SELECT question FROM runs WHERE {_MINE} ORDER BY started, id LIMIT 1), '')"
)
_LAST = f"coalesce((SELECT id FROM runs WHERE {_MINE} ORDER BY started DESC, id DESC LIMIT 1), listed.id)"
_COLUMNS = f"listed.id, CASE title WHEN '' THEN {_FIRST} ELSE title END, title != '', pinned, archived, {_LAST}, latest"
_ORDER = "ORDER BY pinned DESC, latest DESC, listed.id DESC"
_IN_WORDS = (
    "EXISTS (SELECT 1 FROM words WHERE words.caller = listed.caller AND words.conversation = listed.id "
    "AND position(%s IN words.text) > 0)"
)


def keep_words(transaction: Transaction, run: bytes, caller: bytes, conversation: bytes, text: str) -> None:
    """Add words of a run of the conversation, whose row is locked."""
    transaction.execute(
        "INSERT INTO words (run, caller, conversation, text) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (run) DO UPDATE SET text = words.text || excluded.text",
        (run, caller, conversation, packed(text)),
    )


def listed(transaction: Transaction, search: ConversationSearch) -> tuple[list[StoredConversation], bool]:
    """The conversations that match, and whether there are more than `search.limit`."""
    caller = packed(search.caller)
    condition, values = "caller = %s AND archived = %s", [caller, search.archived]
    if search.before:
        place = "SELECT pinned, latest, id FROM conversations WHERE caller = %s AND id = %s"
        condition += f" AND (pinned, latest, listed.id) < ({place})"
        values += [caller, packed(search.before)]
    words = [packed(word) for word in search.text.casefold().split()]
    having = " AND ".join([f"(position(%s IN folded) > 0 OR {_IN_WORDS})"] * len(words)) or "true"
    most = EXAMINED if words else search.limit + 1
    near = f"SELECT * FROM conversations AS listed WHERE {condition} {_ORDER} LIMIT {most}"
    rows = transaction.rows(
        f"SELECT {_COLUMNS} FROM ({near}) AS listed WHERE {having} {_ORDER} LIMIT %s",
        (*values, *(word for word in words for _ in range(2)), search.limit + 1),
    )
    return [_conversation(row) for row in rows[: search.limit]], len(rows) > search.limit


def find(transaction: Transaction, caller: str, conversation: str) -> StoredConversation | None:
    """The listed conversation with this id; `None` if the caller has none."""
    row = transaction.row(
        f"SELECT {_COLUMNS} FROM conversations AS listed WHERE caller = %s AND listed.id = %s",
        (packed(caller), packed(conversation)),
    )
    return None if row is None else _conversation(row)


def change(transaction: Transaction, caller: str, conversation: str, changed: Change) -> bool:
    """Change a conversation, if the caller has a run in it."""
    owner, name = packed(caller), packed(conversation)
    query = (
        "SELECT max(started) FROM (SELECT started FROM runs WHERE id = %s AND caller = %s UNION ALL "
        "(SELECT started FROM runs WHERE caller = %s AND conversation = %s AND conversation != '' "
        "ORDER BY started DESC LIMIT 1)) AS own"
    )
    row = transaction.row(query, (name, owner, owner, name))
    if row is None or row[0] is None:
        return False
    title = None if changed.title is None else (packed(changed.title), packed(changed.title.casefold()))
    transaction.change_conversation(owner, name, row[0], title, changed.pinned, changed.archived)
    return True


def _conversation(row: Row) -> StoredConversation:
    name, title, named, pinned, archived, last, latest = row
    moment = datetime.datetime.fromtimestamp(latest, datetime.UTC)
    return StoredConversation(unpacked(name), unpacked(title), named, pinned, archived, unpacked(last), moment)
