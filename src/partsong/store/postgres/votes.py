"""Votes. The columns `one` and `other` hold the two recipes in the order of their names."""

from collections.abc import Sequence

from partsong.store.postgres.text import packed, unpacked
from partsong.store.postgres.transaction import Transaction
from partsong.store.votes import Vote, VoteTally, in_order, swapped

_COUNTS = (
    "count(*) FILTER (WHERE choice = 'a'), count(*) FILTER (WHERE choice = 'b'), count(*) FILTER (WHERE choice = 'tie')"
)


def keep(transaction: Transaction, vote: Vote) -> None:
    """Add a vote, or replace the caller's vote on the same two runs."""
    vote = in_order(vote)
    transaction.execute(
        "INSERT INTO votes (caller, moment, question, one, one_run, other, other_run, choice, blind) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (caller, one_run, other_run) DO UPDATE SET moment = excluded.moment, "
        "question = excluded.question, one = excluded.one, other = excluded.other, choice = excluded.choice, "
        "blind = excluded.blind",
        (
            *(packed(vote.caller), vote.moment, packed(vote.question)),
            *(packed(vote.a), packed(vote.a_run), packed(vote.b), packed(vote.b_run)),
            *(packed(vote.choice), vote.blind),
        ),
    )


def forget(transaction: Transaction, before: float) -> None:
    """Delete the questions of votes from before a Unix time. The votes still count."""
    transaction.execute("UPDATE votes SET question = '' WHERE moment < %s AND question != ''", (before,))


def forget_runs(transaction: Transaction, runs: Sequence[tuple[bytes, bytes]]) -> None:
    """Delete the questions of votes on these runs, each given as its caller and its id. The votes still count."""
    callers, ids = [caller for caller, _ in runs], [run for _, run in runs]
    for column in ("one_run", "other_run"):
        transaction.execute(
            "UPDATE votes SET question = '' FROM unnest(%s::bytea[], %s::bytea[]) AS gone (caller, run) "
            f"WHERE votes.caller = gone.caller AND votes.{column} = gone.run AND question != ''",
            (callers, ids),
        )


def delete_of(transaction: Transaction, caller: str) -> None:
    """Delete all votes of a caller."""
    transaction.execute("DELETE FROM votes WHERE caller = %s", (packed(caller),))


def tallies(transaction: Transaction, caller: str) -> list[VoteTally]:
    """The caller's votes for each pair of recipes, the pair with most votes first."""
    rows = transaction.rows(
        f"SELECT one, other, {_COUNTS} FROM votes WHERE caller = %s "
        "GROUP BY one, other ORDER BY count(*) DESC, one, other",
        (packed(caller),),
    )
    return [VoteTally(unpacked(one), unpacked(other), *counts) for one, other, *counts in rows]


def tally(transaction: Transaction, caller: str, a: str, b: str) -> VoteTally:
    """The caller's votes on two recipes, in the given order."""
    one, other = sorted((a, b))
    row = transaction.row(
        f"SELECT {_COUNTS} FROM votes WHERE caller = %s AND one = %s AND other = %s",
        (packed(caller), packed(one), packed(other)),
    )
    assert row is not None, "an aggregate has a row"
    found = VoteTally(one, other, *row)
    return found if a == one else swapped(found)
