"""The routes with which a new user begins: which keys are there, a key for a provider, and the weights of a recipe.

Only the page that `partsong ui` opened sets keys (see `owner`), and only for a provider that the configuration knows.
So no request says where a key is sent. A key goes in and never comes out again: responses say where a key is kept.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong import provider_keys
from partsong.assembly import missing as lacking
from partsong.errors import ConfigurationError, ModelError, PartsongError
from partsong.ids import shown
from partsong.server.incoming import headers_of
from partsong.server.owner import Owner
from partsong.server.pages.request import read_json, said, who, wrong
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem

Kept = Literal["environment", "session", "kept"]


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    """The code in the address that `partsong ui` opened."""

    code: str


class Entered(Struct, frozen=True, forbid_unknown_fields=True):
    """A key of a provider.

    keep: whether the key is written to the file of the user; by default the server forgets it when it ends
    """

    key: str
    keep: bool = False


class Fetch(Struct, frozen=True, forbid_unknown_fields=True):
    """The recipe whose weights to fetch."""

    recipe: str


class Setup:
    """The keys of providers, and the weights that are fetched for the page.

    fetching: the task that fetches the weights of `recipe`, or has ended
    problem: why the last weights could not be had; "" if nothing is wrong
    """

    def __init__(self, service: Callable[[], Service], owner: Owner) -> None:
        self.service, self.owner = service, owner
        self.fetching: asyncio.Task[None] | None = None
        self.recipe = self.problem = ""
        self.turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        return [
            Route("/api/setup", self.overview, methods=["GET"]),
            Route("/api/setup/owner", self.trade, methods=["POST"]),
            Route("/api/setup/keys/{provider}", self.enter, methods=["PUT"]),
            Route("/api/setup/keys/{provider}", self.forget, methods=["DELETE"]),
            Route("/api/setup/fetching", self.fetch, methods=["POST"]),
            Route("/api/setup/fetching", self.cancel, methods=["DELETE"]),
        ]

    async def overview(self, request: Request) -> Response:
        """Which providers have a key, and what is being fetched. `owner`: whether this page may set keys."""
        service = self.alone(request)
        return said(
            {
                "owner": self.owner.is_shown(headers_of(request.scope)),
                "providers": await asyncio.to_thread(self.providers, service),
                "local": lacking(service.assembly.providers["local"]) if "local" in service.assembly.providers else "",
                "fetching": self.recipe if self.fetching is not None and not self.fetching.done() else None,
                "problem": self.problem,
            }
        )

    def providers(self, service: Service) -> list[dict[str, Any]]:
        """The providers that need a key, and where the key of each is. Reads the file of kept keys."""
        found = []
        for name, provider in service.assembly.providers.items():
            if (variable := provider.key_env) is not None:
                place = where(variable, service)
                page, address = provider.key_page, provider.base_url
                found.append({"name": name, "variable": variable, "key": place, "page": page, "address": address})
        return found

    async def trade(self, request: Request) -> Response:
        """The token of the page that `partsong ui` opened, for the code in the page's address."""
        service = self.alone(request)
        with service.bodies.holding(None) as counted:
            address = await read_json(request, service, counted, Address)
        return said({"token": self.owner.trade(address.code)})

    async def enter(self, request: Request) -> Response:
        """Take a key, unless the provider refuses it. The response says how many models the provider lists."""
        service, name, variable = self.own(request)
        with service.bodies.holding(None) as counted:
            entered = await read_json(request, service, counted, Entered)
        key = entered.key.strip()
        try:
            provider_keys.check(key)
        except ConfigurationError as problem:
            raise wrong(str(problem), "key") from None
        if os.environ.get(variable, "").strip():
            raise wrong(f"the environment variable {variable} is set, and goes first", "key", 409)
        models, unsure = await tried(service, name, key)
        async with self.turn:
            if entered.keep:
                await asyncio.to_thread(provider_keys.keep, variable, key)
                service.assembly.session_keys.pop(variable, None)
            else:
                service.assembly.session_keys[variable] = key
            renew(service, variable)
        return said({"name": name, "models": models, "unsure": unsure})

    async def forget(self, request: Request) -> Response:
        """Forget a key, of this session and as kept."""
        service, name, variable = self.own(request)
        async with self.turn:
            there = service.assembly.session_keys.pop(variable, None) is not None
            kept = await asyncio.to_thread(provider_keys.forget, variable)
            renew(service, variable)
        return said({"name": name, "forgotten": there or kept})

    async def fetch(self, request: Request) -> Response:
        """Begin to fetch and load the weights of a recipe that is offered. `/api/preparing` tells how it goes on."""
        service = self.alone(request)
        with service.bodies.holding(None) as counted:
            name = (await read_json(request, service, counted, Fetch)).recipe
        if name not in service.recipes:
            raise ProblemError(Problem(404, "not_found", f'there is no recipe "{shown(name)}" to fetch for', "recipe"))
        if self.fetching is None or self.fetching.done() or self.recipe != name:
            self.stop()
            self.recipe, self.problem = name, ""
            self.fetching = service.assembly.begin(self.fetched(service, name))
        return said({"fetching": name}, 202)

    async def cancel(self, request: Request) -> Response:
        """Stop fetching. What has arrived is kept, and a later start goes on from there."""
        self.alone(request)
        self.stop()
        return said({"fetching": None})

    def stop(self) -> None:
        if self.fetching is not None:
            self.fetching.cancel()
        self.fetching = None

    async def fetched(self, service: Service, name: str) -> None:
        try:
            await service.assembly.models(service.recipes[name].models)
        except PartsongError as problem:
            self.problem = str(problem)  # only the user of this machine can read it

    def alone(self, request: Request) -> Service:
        """The service, for the user of this machine. Raises `ProblemError` on a server with keys for callers."""
        service = self.service()
        if who(request, service) is not None:
            message = "the set-up belongs to the user of the server: a request with a key may not see or change it"
            raise ProblemError(Problem(403, "permission", message))
        return service

    def own(self, request: Request) -> tuple[Service, str, str]:
        """The service, the provider of a request that changes a key, and the variable of the key.

        Raises `ProblemError` unless the page that `partsong ui` opened asks for a provider that needs a key.
        """
        service, name = self.alone(request), request.path_params["provider"]
        self.owner.check(headers_of(request.scope))
        provider = service.assembly.providers.get(name)
        if provider is None or provider.key_env is None:
            raise ProblemError(Problem(404, "not_found", f'no provider "{shown(name)}" needs a key', "provider"))
        return service, name, provider.key_env


def where(variable: str, service: Service) -> Kept | None:
    """Where the key is that this environment variable names; `None` if there is none, or if its file is broken."""
    if os.environ.get(variable, "").strip():
        return "environment"
    if variable in service.assembly.session_keys:
        return "session"
    try:
        return "kept" if variable in provider_keys.kept() else None
    except ConfigurationError:
        return None


async def tried(service: Service, name: str, key: str) -> tuple[int | None, bool]:
    """How many models a provider lists for a key, `None` if it has no list; and whether it could not be asked.

    Raises `ProblemError` if the provider refuses the key. No words of the provider are told: they may repeat the key.
    """
    try:
        listed = await service.assembly.listed(name, key)
    except ModelError as error:
        if error.cause == "auth" or error.status in (401, 403):
            raise wrong(f"{name} refuses this key, so it is not used", "key", 422) from None
        return None, True
    return (None if listed is None else len(listed)), False


def renew(service: Service, variable: str) -> None:
    """Let a changed key count: for models that were made before, and for the recipes that can be used."""
    for name, provider in service.assembly.providers.items():
        if provider.key_env == variable:
            service.assembly.renew(name)
            service.naming.forget(name)
    for name, found in service.shelf.items():
        try:
            service.assembly.check(found.recipe.models)
        except ConfigurationError as problem:
            service.recipes.pop(name, None)
            service.unusable[name] = str(problem)
        else:
            service.unusable.pop(name, None)
            service.recipes.setdefault(name, found.recipe)
