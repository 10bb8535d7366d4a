"""`GET /api/models`: the models that a recipe may name, with windows and prices, by the words of their ids.

Only the lists of providers whose key is there are read, each at most once in a while. A list that cannot be read is
left out and named, so that one provider that is down hides nothing of the others.
"""

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.assembly import info_without_model
from partsong.configuration import Configuration
from partsong.errors import ConfigurationError, ModelError
from partsong.folders import weights_folder
from partsong.ids import LONGEST_MODEL, fault
from partsong.model import Usage
from partsong.server.pages.request import read_query, said, who
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.weights.catalogue import entries
from partsong.weights.fetch import is_checked
from partsong.wire.reply import Problem

MOST = 50  # models in one response
MILLION = 1_000_000


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a search.

    text: words that an id has, in any order and case
    """

    text: Annotated[str, Meta(max_length=200)] = ""


class Models:
    """The models that may be named."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [Route("/api/models", self.models, methods=["GET"])]

    async def models(self, request: Request) -> Response:
        """The first models that fit; `total` counts all that fit, and `unread` names providers without a list now."""
        service = self.service()
        key = who(request, service)
        if not service.serving.models or (key is not None and key.recipes):
            raise ProblemError(Problem(403, "permission", "clients may not choose the models on this server"))
        words = read_query(request, Wanted).text.casefold().split()
        known, unread = await known_models(service)
        found = [name for name in known if all(word in name.casefold() for word in words)]
        lines = await asyncio.to_thread(lambda: [line(service, name) for name in found[:MOST]])
        return said({"models": lines, "total": len(found), "unread": unread})


async def known_models(service: Service) -> tuple[list[str], list[str]]:
    """The ids that requests may name, those that are configured first; and the providers that do not answer."""
    providers = service.assembly.providers
    hosted = [name for name, provider in providers.items() if provider.base_url and has_key(service, name)]
    read = await asyncio.gather(*(listed(service, name) for name in hosted))
    local = [name for name, provider in providers.items() if provider.api == "local"]
    here = await asyncio.to_thread(lambda: [entry.name for entry in entries() if is_checked(entry, weights_folder())])
    ids = [*sorted(service.naming.named()), *(f"{name}:{model}" for name in local for model in here)]
    for name, models in zip(hosted, read, strict=True):
        ids += [f"{name}:{model}" for model in sorted(models or ())]
    unread = [name for name, models in zip(hosted, read, strict=True) if models is None and providers[name].key_env]
    return list(dict.fromkeys(name for name in ids if not fault(name, LONGEST_MODEL))), unread


async def listed(service: Service, provider: str) -> Iterable[str] | None:
    """The models that a provider lists; `None` if its list cannot be read now."""
    try:
        return await service.naming.listed(provider) or ()
    except (ModelError, ConfigurationError):
        return None


def has_key(service: Service, provider: str) -> bool:
    try:
        service.assembly.check((f"{provider}:any",))
    except ConfigurationError:
        return False
    return True


def line(service: Service, identity: str) -> dict[str, Any]:
    """A model with its window in tokens and its prices in dollars per million tokens, as far as they are known."""
    try:
        window, prices = service.assembly.window(identity), prices_of(identity, service.configuration)
    except ConfigurationError:  # a recipe that cannot be used may name anything
        window, prices = None, [None, None]
    return {"id": identity, "window": window, "input": prices[0], "output": prices[1]}


def prices_of(identity: str, configuration: Configuration) -> list[Decimal | None]:
    """The prices of a million tokens in and out, in dollars."""
    dollars = info_without_model(identity, configuration).dollars
    return [dollars(usage) if dollars else None for usage in (Usage(MILLION), Usage(0, MILLION))]
