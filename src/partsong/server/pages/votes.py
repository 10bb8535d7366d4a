"""The routes for votes: cast a vote on two runs, and count the votes on two recipes."""

import time
from collections.abc import Callable
from math import sqrt
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.server.pages.request import read_json, read_query, said, who, wrong
from partsong.server.service import Service, caller_of
from partsong.store import Choice, Vote, VoteTally

Z = 1.959964  # quantile of the normal distribution for an interval of 95 %
LONGEST = 2000  # characters of a question to store


class Side(Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a vote: the name of a recipe or a single model, and the id of the run with its answer."""

    recipe: str
    run: str


class Cast(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to vote. `votes.Vote` explains the fields."""

    question: str
    a: Side
    b: Side
    choice: Choice
    blind: bool = False


class Pair(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a tally: the names of two recipes, or two empty names for all pairs."""

    a: str = ""
    b: str = ""


class Votes:
    """The votes of the caller."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/votes", self.cast, methods=["POST"]),
            Route("/api/votes/tally", self.tally, methods=["GET"]),
        ]

    async def cast(self, request: Request) -> Response:
        """Store a vote. Returns the new tally of the two recipes."""
        service = self.service()
        key = who(request, service)
        caller = caller_of(key)
        with service.bodies.holding(key) as counted:
            vote = await read_json(request, service, counted, Cast)
        for side, given in (("a", vote.a), ("b", vote.b)):
            service.check_id(given.run, f"{side}.run")
            service.check_id(given.recipe, f"{side}.recipe")
        if vote.a.recipe == vote.b.recipe:
            raise wrong(
                f'b.recipe: is "{vote.b.recipe}", as a.recipe is; a vote needs two different recipes', "b.recipe"
            )
        for side, given in (("a", vote.a), ("b", vote.b)):
            await self._check(service, caller, side, given)
        await service.store.vote(
            Vote(
                caller,
                time.time(),
                vote.question[:LONGEST],
                vote.a.recipe,
                vote.a.run,
                vote.b.recipe,
                vote.b.run,
                vote.choice,
                vote.blind,
            )
        )
        return said(standing(await service.store.tally_of(caller, vote.a.recipe, vote.b.recipe)), 201)

    async def tally(self, request: Request) -> Response:
        """The tally of two recipes, or of all pairs that were compared."""
        service = self.service()
        caller = caller_of(who(request, service))
        pair = read_query(request, Pair)
        for field, name in (("a", pair.a), ("b", pair.b)):
            if name:
                service.check_id(name, field)
        if pair.a and pair.b:
            return said(standing(await service.store.tally_of(caller, pair.a, pair.b)))
        if pair.a or pair.b:
            field = "b" if pair.a else "a"
            raise wrong(f"{field}: is missing; name both recipes, or none for all pairs", field)
        tallies = await service.store.tally(caller)
        return said({"pairs": [{"recipes": [each.a, each.b], **standing(each)} for each in tallies]})

    async def _check(self, service: Service, caller: str, side: str, given: Side) -> None:
        field = f"{side}.run"
        missing = wrong(f'{field}: you have no run "{given.run}"', field)
        run = await service.store.run(given.run)
        if run is None or run.caller != caller:
            raise missing
        if run.recipe != given.recipe:
            field = f"{side}.recipe"
            raise wrong(f'{field}: is "{given.recipe}", but run {run.id} is of "{run.recipe}"', field)


def standing(tally: VoteTally) -> dict[str, Any]:
    """The tally as plain values, with the share of votes for `a`, from 0 to 1, and its 95 % interval.

    A tie counts as half a vote for each side. Share and interval are `None` without votes.
    """
    number = tally.a_wins + tally.b_wins + tally.ties
    won = tally.a_wins + tally.ties / 2
    return {
        "a": tally.a_wins,
        "b": tally.b_wins,
        "ties": tally.ties,
        "share": won / number if number else None,
        "interval": wilson(won, number) if number else None,
    }


def wilson(won: float, number: int) -> tuple[float, float]:
    """The 95 % score interval of the share `won / number`, from 0 to 1 (E. B. Wilson, 1927).

    won: votes that were won; may have a half
    number: number of votes, at least 1. The interval is reliable for few votes too.
    """
    share, spread = won / number, Z * Z / number
    middle = (share + spread / 2) / (1 + spread)
    half = sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
