"""Votes: which of two recipes gave the better answer to the same question."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Choice = Literal["a", "b", "tie"]
_SWAPPED: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}


class Vote(Struct, frozen=True):
    """One vote.

    caller: owner of the vote: `Key.owner` of the key that voted; empty for the user of the command line
    moment: Unix time of the vote
    question: the question that both recipes answered
    a, b: names of the recipes
    a_run, b_run: ids of the runs with the answers
    choice: the better side, or "tie"
    blind: whether the voter did not know which recipe gave which answer
    """

    caller: str
    moment: float
    question: str
    a: str
    a_run: str
    b: str
    b_run: str
    choice: Choice
    blind: bool


class VoteTally(Struct, frozen=True):
    """Counts of the votes on two recipes.

    a, b: names of the recipes
    a_wins, b_wins: votes that preferred this recipe
    ties: votes that preferred neither
    """

    a: str
    b: str
    a_wins: int
    b_wins: int
    ties: int


def in_order(vote: Vote) -> Vote:
    """The same vote, swapped if necessary so that the name of `a` sorts before that of `b`.

    All votes on two recipes are so counted as one pair.
    """
    if vote.a <= vote.b:
        return vote
    return replace(vote, a=vote.b, a_run=vote.b_run, b=vote.a, b_run=vote.a_run, choice=_SWAPPED[vote.choice])


def swapped(tally: VoteTally) -> VoteTally:
    """The same votes with the recipes in the other order."""
    return VoteTally(tally.b, tally.a, tally.b_wins, tally.a_wins, tally.ties)
