"""`GET /api/about`: the recipes and models of the server, with the calls and the typical cost of each recipe."""

import asyncio
from collections.abc import Callable, Mapping
from importlib import resources
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.keys import Key
from partsong.recipe import Recipe
from partsong.server.incoming import headers_of
from partsong.server.listing import allowed
from partsong.server.pages.price import price_of
from partsong.server.pages.request import said, who
from partsong.server.pages.weights import Missing, missing
from partsong.server.service import Service


class Overview:
    """The data that the page shows before the first question."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/about", self.about, methods=["GET"]),
            Route("/api/preparing", self.preparing, methods=["GET"]),
            Route("/api/demonstration", self.demonstration, methods=["GET"]),
        ]

    async def about(self, request: Request) -> Response:
        """The overview. A server with keys tells a caller without a key only that a key is needed."""
        service = self.service()
        headers = headers_of(request.scope)
        if service.keys.any() and not {"authorization", "x-api-key", "origin"} & headers.keys():
            return said({"version": version("partsong"), "keyed": True})
        key = who(request, service)
        await service.look_for_saved()
        recipes = [*service.recipes.values()]
        fetched = await asyncio.to_thread(missing, recipes, service.assembly.providers)
        return said(
            {
                "version": version("partsong"),
                "keyed": key is not None,
                "store": service.store.mode,
                "recipes": [await entry(service, name, fetched) for name in known(service) if allowed(name, key)],
                "models": models(service, key),
            }
        )

    async def preparing(self, request: Request) -> Response:
        """The local models that are being fetched or loaded, for the page while a run waits."""
        service = self.service()
        return said({"models": service.prepared(who(request, service))})

    async def demonstration(self, request: Request) -> Response:
        """A run that was recorded, in the shape of `/api/runs/{run}`, for readers who cannot ask yet."""
        who(request, self.service())
        return said(msgspec.Raw((resources.files("partsong.server.pages") / "demonstration.json").read_bytes()))


def known(service: Service) -> list[str]:
    """The names of all recipes, the usable ones first."""
    return list(dict.fromkeys([*service.recipes, *service.unusable]))


async def entry(service: Service, name: str, fetched: Mapping[str, Missing]) -> dict[str, Any]:
    """The summary of a recipe. A file that is no recipe has only the reason why it is unusable.

    fetched: the models whose weights must be fetched first, by id
    """
    recipe = recipe_of(service, name)
    whole: dict[str, Any] = {"name": name, "unusable": None if name in service.recipes else service.unusable[name]}
    if recipe is None:
        return whole | {
            "about": "",
            "layers": [],
            "aggregator": None,
            "calls": 0,
            "typical_dollars": None,
            "fetches": [],
        }
    return whole | {
        "about": recipe.about,
        "layers": [[agent.model for agent in layer.seats] for layer in recipe.layers],
        "aggregator": recipe.aggregator.model,
        "calls": recipe.calls,
        "typical_dollars": (await price_of(service, recipe)).typical,
        "fetches": [fetched[model] for model in dict.fromkeys(recipe.models) if model in fetched],
    }


def recipe_of(service: Service, name: str) -> Recipe | None:
    """The recipe of this name, usable or not; `None` for a file that is no recipe."""
    if name in service.recipes:
        return service.recipes[name]
    return service.shelf[name].recipe if name in service.shelf else None


def models(service: Service, key: Key | None) -> list[str]:
    """The single models that the key may use: those of the recipes and those of the configuration."""
    if not service.serving.models:
        return []
    named = [model for recipe in service.recipes.values() for model in recipe.models]
    return [name for name in dict.fromkeys([*named, *service.configuration.models]) if allowed(name, key)]
