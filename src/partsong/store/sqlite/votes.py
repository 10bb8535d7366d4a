"""Votes. The columns `one` and `other` hold the two recipes in the order of their names."""

import sqlite3

from partsong.store.votes import Vote, VoteTally, in_order, swapped


def keep(connection: sqlite3.Connection, vote: Vote) -> None:
    """Add a vote, or replace the caller's vote on the same two runs."""
    vote = in_order(vote)
    connection.execute(
        "INSERT OR REPLACE INTO votes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(vote.caller, vote.moment, vote.question),
            *(vote.a, vote.a_run, vote.b, vote.b_run),
            *(vote.choice, vote.blind),
        ),
    )


def forget(connection: sqlite3.Connection, before: float) -> None:
    """Delete the questions of votes from before a Unix time. The votes still count."""
    connection.execute("UPDATE votes SET question = '' WHERE moment < ? AND question != ''", (before,))


def forget_run(connection: sqlite3.Connection, caller: str, run: str) -> None:
    """Delete the question of the caller's votes on a run. The votes still count."""
    connection.execute("UPDATE votes SET question = '' WHERE caller = ? AND one_run = ?", (caller, run))
    connection.execute("UPDATE votes SET question = '' WHERE caller = ? AND other_run = ?", (caller, run))


def delete_of(connection: sqlite3.Connection, caller: str) -> None:
    """Delete all votes of a caller."""
    connection.execute("DELETE FROM votes WHERE caller = ?", (caller,))


def tallies(connection: sqlite3.Connection, caller: str) -> list[VoteTally]:
    """The caller's votes for each pair of recipes, the pair with most votes first."""
    rows = connection.execute(
        "SELECT one, other, sum(choice = 'a'), sum(choice = 'b'), sum(choice = 'tie') FROM votes WHERE caller = ? "
        "GROUP BY one, other ORDER BY count(*) DESC, one, other",
        (caller,),
    )
    return [VoteTally(*row) for row in rows.fetchall()]


def tally(connection: sqlite3.Connection, caller: str, a: str, b: str) -> VoteTally:
    """The caller's votes on two recipes, in the given order."""
    one, other = sorted((a, b))
    row = connection.execute(
        "SELECT coalesce(sum(choice = 'a'), 0), coalesce(sum(choice = 'b'), 0), coalesce(sum(choice = 'tie'), 0) "
        "FROM votes WHERE caller = ? AND one = ? AND other = ?",
        (caller, one, other),
    ).fetchone()
    found = VoteTally(one, other, *row)
    return found if a == one else swapped(found)
