"""Votes on two recipes."""

from partsong.store import Choice, Vote, VoteTally
from tests.store.contract.backends import Opening


def vote(a: str, b: str, choice: Choice, run: int, caller: str = "") -> Vote:
    return Vote(caller, float(run), "Which is better?", a, f"{a}{run}", b, f"{b}{run}", choice, blind=True)


async def test_votes_are_counted_for_a_pair_of_recipes_in_either_order(opening: Opening) -> None:
    async with opening() as backend:
        for each in (
            vote("x", "y", "a", 1),
            vote("y", "x", "a", 2),
            vote("y", "x", "b", 3),
            vote("x", "y", "tie", 4),
            vote("x", "z", "b", 5),
            vote("x", "y", "a", 6, caller="alice"),
        ):
            await backend.keep_vote(each)
        assert await backend.vote_tallies("") == [VoteTally("x", "y", 2, 1, 1), VoteTally("x", "z", 0, 1, 0)]
        assert await backend.vote_tally("", "y", "x") == VoteTally("y", "x", 1, 2, 1)
        assert await backend.vote_tally("", "y", "nobody") == VoteTally("y", "nobody", 0, 0, 0)
        assert await backend.vote_tallies("alice") == [VoteTally("x", "y", 1, 0, 0)]


async def test_a_second_vote_on_the_same_runs_replaces_the_first(opening: Opening) -> None:
    async with opening() as backend:
        await backend.keep_vote(vote("x", "y", "a", 1))
        await backend.keep_vote(vote("x", "y", "b", 1))
        assert await backend.vote_tally("", "x", "y") == VoteTally("x", "y", 0, 1, 0)
        await backend.prune(before=100.0)  # the question goes, the vote stays
        assert await backend.vote_tally("", "x", "y") == VoteTally("x", "y", 0, 1, 0)
