"""Reads a whole store, some rows at a time, for a copy of the store in another database.

Each read is a transaction of its own, so that a process that goes on writing is not held up. What it adds meanwhile is
read too, since rows are read in the order of their numbers.
"""

import sqlite3

from partsong.store.portable import LeavingCall, LeavingRun, Row

# Columns are cast so that texts come as their bytes, and numbers are left as they are.
RUN = (
    "CAST(id AS BLOB), CAST(mode AS BLOB), started, seconds, CAST(recipe AS BLOB), CAST(model AS BLOB), "
    "CAST(question AS BLOB), CAST(status AS BLOB), CAST(cause AS BLOB), calls, stored, tokens, dollars, losses, "
    "CAST(caller AS BLOB), CAST(labels AS BLOB), layers, CAST(conversation AS BLOB), "
    "CAST(source AS BLOB)"
)
CALL = (
    "key, CAST(model AS BLOB), CAST(answered AS BLOB), started, seconds, first, input_tokens, output_tokens, dollars, "
    "CAST(finish_reason AS BLOB), request, answer, CAST(run AS BLOB)"
)
VOTE = (
    "CAST(caller AS BLOB), moment, CAST(question AS BLOB), CAST(one AS BLOB), CAST(one_run AS BLOB), "
    "CAST(other AS BLOB), CAST(other_run AS BLOB), CAST(choice AS BLOB), blind"
)
SHARE = "CAST(model AS BLOB), calls, tokens, dollars, losses"


def count(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "calls")}


def runs(connection: sqlite3.Connection, after: int, most: int, size: int) -> tuple[int, list[LeavingRun]]:
    """The runs that follow the run with the number `after`, and the number of the last of them.

    most: most runs
    size: bytes after which no further run is read
    """
    found: list[LeavingRun] = []
    taken = 0
    for number, *row in connection.execute(
        f"SELECT rowid, {RUN} FROM runs WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, most)
    ):
        name = row[0].decode("utf-8", "surrogatepass")
        pieces = "SELECT number, events FROM pieces WHERE run = ? ORDER BY number"
        shares = f"SELECT {SHARE} FROM shares WHERE run = ? ORDER BY model"
        words = connection.execute("SELECT CAST(text AS BLOB) FROM words WHERE run = ?", (name,)).fetchone()
        run = LeavingRun(
            tuple(row),
            connection.execute(pieces, (name,)).fetchall(),
            connection.execute(shares, (name,)).fetchall(),
            None if words is None else words[0],
        )
        found.append(run)
        after, taken = number, taken + run.size
        if taken >= size:
            break
    return after, found


def calls(connection: sqlite3.Connection, after: int, most: int, size: int) -> tuple[int, list[LeavingCall]]:
    """The calls that follow the call with the number `after`, and the number of the last of them; see `runs`."""
    found: list[LeavingCall] = []
    taken = 0
    columns = ", ".join(f"calls.{column}" if column == "key" else column for column in CALL.split(", "))
    for number, digest, messages, *row in connection.execute(
        f"SELECT calls.number, prompts.digest, prompts.messages, {columns} FROM calls "
        "LEFT JOIN prompts ON prompts.number = calls.prompt WHERE calls.number > ? ORDER BY calls.number LIMIT ?",
        (after, most),
    ):
        call = LeavingCall(tuple(row), None if digest is None else (digest, messages))
        found.append(call)
        after, taken = number, taken + call.size
        if taken >= size:
            break
    return after, found


def votes(connection: sqlite3.Connection, after: int, most: int) -> tuple[int, list[Row]]:
    """The votes that follow the vote with the number `after`, and the number of the last of them."""
    rows = connection.execute(
        f"SELECT number, {VOTE} FROM votes WHERE number > ? ORDER BY number LIMIT ?", (after, most)
    ).fetchall()
    return (rows[-1][0] if rows else after), [tuple(row[1:]) for row in rows]


def conversations(connection: sqlite3.Connection, after: Row, most: int) -> list[Row]:
    """The conversations that follow `after`, in the order of their callers and ids.

    A row: caller, id, title, whether it is pinned, whether it is archived, and the Unix time of its latest run.
    """
    texts = "CAST(caller AS BLOB), CAST(id AS BLOB), CAST(title AS BLOB), pinned, archived, latest"
    where = "(caller, id) > (CAST(? AS TEXT), CAST(? AS TEXT))"
    query = f"SELECT {texts} FROM conversations WHERE {where} ORDER BY caller, id LIMIT ?"
    return [tuple(row) for row in connection.execute(query, (*after[:2], most)).fetchall()]


def money(connection: sqlite3.Connection, now: float) -> tuple[list[tuple[str, bytes, str]], int]:
    """Dollars that count on each day in each scope, and how many holds are alive at the Unix time `now`.

    Of a hold whose process has died, what had begun counts.
    """
    rows = connection.execute("SELECT day, CAST(scope AS BLOB), dollars FROM spent").fetchall()
    rows += connection.execute("SELECT day, CAST(scope AS BLOB), begun FROM holds WHERE until <= ?", (now,)).fetchall()
    alive = connection.execute("SELECT count(DISTINCT id) FROM holds WHERE until > ?", (now,)).fetchone()[0]
    return [(day, scope, dollars) for day, scope, dollars in rows], alive
