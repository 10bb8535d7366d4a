"""The routes to look into a stored run before going on from it: what a seat was sent, and what a new run would ask.

Neither asks a model. The new run itself is `POST /v1/runs/{id}/again`.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.engine.again import Changes, agents_asked, begin_again
from partsong.engine.recalled import Again
from partsong.engine.sent import plain, sent_in
from partsong.errors import InputError
from partsong.heavy import are_heavy, done, is_heavy
from partsong.model import Conversation
from partsong.recipe import Recipe
from partsong.server import live
from partsong.server.pages.price import price_of
from partsong.server.pages.request import read_json, read_query, said, who, wrong
from partsong.server.service import Service
from partsong.store import Timed
from partsong.transcript import Transcript
from partsong.wire.tokens import likely_tokens

Index = Annotated[int, Meta(ge=0)]


class Seat(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a request for what a seat was sent: its layer and its index, from 0."""

    layer: Index
    seat: Index


class GoingOn:
    """What the page shows before it goes on from a run of the caller."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs/{run}/sent", self.sent, methods=["GET"]),
            Route("/api/runs/{run}/again", self.again, methods=["POST"]),
        ]

    async def sent(self, request: Request) -> Response:
        """What one seat was sent: a list with an element for each step of an aggregator, or with one or none."""
        service = self.service()
        events = await self._events(request)
        wanted = read_query(request, Seat)
        found = await sent_in((event for _, event in events), (wanted.layer, wanted.seat), service.configuration.bounds)
        long = any(are_heavy(each.messages) for each in found)
        return said({"sent": await done(long, lambda: [plain(each) for each in found])})

    async def again(self, request: Request) -> Response:
        """The calls that a new run would make, and about what they cost; the problem of one that cannot be."""
        service = self.service()
        events = await self._events(request)
        with service.bodies.holding(who(request, service)) as counted:
            changes = await read_json(request, service, counted, Changes)
        earlier = Transcript()
        for _, event in events:
            earlier.hear(event)
        try:
            recipe, conversation, found = begin_again(request.path_params["run"], earlier, changes)
        except InputError as problem:
            raise wrong(str(problem), None) from None
        asked = agents_asked(recipe, found)
        dollars = await typical(service, recipe, conversation, found) if asked else Decimal(0)
        return said(
            {"calls": len(asked), "models": sorted({agent.model for agent in asked}), "typical_dollars": dollars}
        )

    async def _events(self, request: Request) -> list[Timed]:
        service = self.service()
        run = await live.find(service, request.path_params["run"], who(request, service))
        return await service.store.events(run.id)


async def typical(service: Service, recipe: Recipe, conversation: Conversation, found: Again) -> Decimal | None:
    """About how many dollars the seats cost that are not found; `None` if the price of a model is unknown."""
    if found.analysis is not None:
        recipe = replace(recipe, analyst=None)
    layers = [len(layer.seats) for layer in recipe.layers]
    free = [sum((index, seat) in found.seats for seat in range(number)) for index, number in enumerate(layers)]
    shares = [Decimal(number - each) / number for number, each in zip(layers, free, strict=True)]
    tokens = await done(is_heavy(conversation), likely_tokens, conversation.messages)
    return (await price_of(service, recipe, tokens, (*shares, Decimal(found.unasked is None)))).typical
