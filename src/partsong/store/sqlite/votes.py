"""Votes: which of two recipes' answers to the same question somebody liked better.

A pair of recipes is kept in one order, so that it does not matter which of them stood on the left. A second vote on the
same two runs replaces the first: people change their mind.
"""

import sqlite3
from typing import Literal

from msgspec import Struct

Choice = Literal["a", "b", "tie"]
_TURNED: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}


class Vote(Struct, frozen=True):
    """One vote. `a_run` and `b_run` are the ids of the runs; `blind`: whoever voted did not know whose is which."""

    caller: str
    moment: float
    question: str
    a: str
    a_run: str
    b: str
    b_run: str
    choice: Choice
    blind: bool


class Tally(Struct, frozen=True):
    """The votes on two recipes: how many liked `a` better, how many `b`, and how many neither."""

    a: str
    b: str
    a_wins: int
    b_wins: int
    ties: int


def keep(connection: sqlite3.Connection, vote: Vote) -> None:
    """Write down a vote."""
    sides = (vote.a, vote.a_run, vote.b, vote.b_run)
    choice = vote.choice
    if vote.b < vote.a:
        sides, choice = (vote.b, vote.b_run, vote.a, vote.a_run), _TURNED[choice]
    connection.execute(
        "INSERT OR REPLACE INTO votes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (vote.caller, vote.moment, vote.question, *sides, choice, vote.blind),
    )


def forget(connection: sqlite3.Connection, before: float) -> None:
    """Forget what was asked in votes that were cast before then; the votes still count."""
    connection.execute("UPDATE votes SET question = '' WHERE moment < ? AND question != ''", (before,))


def tally(connection: sqlite3.Connection, caller: str) -> list[Tally]:
    """The caller's votes by pair of recipes, those with the most votes first."""
    rows = connection.execute(
        "SELECT one, other, sum(choice = 'a'), sum(choice = 'b'), sum(choice = 'tie') FROM votes WHERE caller = ? "
        "GROUP BY one, other ORDER BY count(*) DESC, one, other",
        (caller,),
    )
    return [Tally(*row) for row in rows.fetchall()]


def tally_of(connection: sqlite3.Connection, caller: str, a: str, b: str) -> Tally:
    """The caller's votes on these two."""
    one, other = sorted((a, b))
    row = connection.execute(
        "SELECT coalesce(sum(choice = 'a'), 0), coalesce(sum(choice = 'b'), 0), coalesce(sum(choice = 'tie'), 0) "
        "FROM votes WHERE caller = ? AND one = ? AND other = ?",
        (caller, one, other),
    ).fetchone()
    wins, losses, ties = row
    return Tally(a, b, wins, losses, ties) if (a, b) == (one, other) else Tally(a, b, losses, wins, ties)
