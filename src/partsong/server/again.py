"""The routes that go on from a stored run: `POST /v1/runs/{id}/again` for a new answer, `/analysis` for a comparison.

`again` answers as Chat Completions does, streamed or not, with the same limits, options and errors. What both need of
the earlier run comes from the store, so that only what is new is paid.
"""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct, to_builtins
from msgspec.json import Decoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from partsong.engine.again import Changes, Compared, begin_again, models_asked, stored_analysis, to_compare
from partsong.engine.analyst import Comparison, compare
from partsong.errors import InputError, ModelError, RequestError
from partsong.events import Failure
from partsong.keys import Key
from partsong.recipe import Method
from partsong.server import live
from partsong.server.answering import OPTIONS, Api, Asked, options_of
from partsong.server.bodies import read_body
from partsong.server.deleting import who
from partsong.server.incoming import headers_of
from partsong.server.problems import ProblemError, failed
from partsong.server.response import Scope
from partsong.server.service import Service
from partsong.server.stored import died
from partsong.store import StoredRun
from partsong.store.runs import AFTER, AGAIN, CONVERSATION
from partsong.transcript import Transcript
from partsong.wire.json import decode_field
from partsong.wire.parsed import Options, ParsedRequest, parse_options
from partsong.wire.reply import Problem

LARGEST = 65_536  # bytes of the body of a request for an analysis, which has two short fields


class AgainBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/runs/{id}/again`. Seats are pairs of a layer and a seat, counted from 0.

    aggregator: id of the model that aggregates; `None` (default) for the earlier one
    method: the aggregator's method; `None` (default) for the earlier one
    without: seats that are left out (default: none)
    retry: lost seats that are asked again (default: none)
    best: whether the proposal that is most like the others is the answer, without an aggregator (default: no)
    stream: whether the response is streamed (default: no)
    partsong: options, as in Chat Completions
    """

    aggregator: str | None = None
    method: Method | None = None
    without: tuple[tuple[int, int], ...] = ()
    retry: tuple[tuple[int, int], ...] = ()
    best: bool = False
    stream: bool = False
    partsong: dict[str, Any] = {}


class AnalysisBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/runs/{id}/analysis`.

    model: id of the model that compares; `None` (default) for the recipe's analyst, or else for its aggregator
    max_dollars: most dollars that the analysis may cost; `None` (default) for the limits of the server alone
    """

    model: str | None = None
    max_dollars: Decimal | None = None


_again = Decoder(AgainBody)
_analysis = Decoder(AnalysisBody)


async def ask_again(
    api: Api, service: Service, body: bytes, headers: Mapping[str, str], key: Key | None, scope: Scope
) -> Asked:
    """What a request to `/v1/runs/{id}/again` asks for. Raises `ProblemError` or `RequestError`."""
    wanted, bounds = decode_field(body, _again), service.configuration.bounds
    options = options_of(headers[OPTIONS], bounds) if OPTIONS in headers else parse_options(wanted.partsong)
    if options.recipe:
        raise RequestError("partsong.recipe: the recipe of a run cannot be changed", "partsong.recipe")
    run, earlier = await _earlier(service, scope["path_params"]["run"], key)
    changes = Changes(wanted.aggregator, wanted.method, wanted.without, wanted.retry, wanted.best)
    try:
        recipe, conversation, again = begin_again(run.id, earlier, changes)
    except InputError as problem:
        raise RequestError(str(problem), None) from None
    await _check_models(service, models_asked(recipe, again), recipe.name, "aggregator", key)
    labels = {AGAIN: run.id, CONVERSATION: run.labels.get(CONVERSATION, run.id)}
    if AFTER in run.labels:
        labels[AFTER] = run.labels[AFTER]
    parsed = ParsedRequest(
        recipe.name, conversation, stream=wanted.stream, usage_in_stream=True, labels=labels, options=options
    )
    return Asked(parsed, service.limited(recipe, recipe.name, options), again)


class Analysing:
    """Compares the proposals of a stored run."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        return [Route("/v1/runs/{run}/analysis", self.analyse, methods=["POST"])]

    async def analyse(self, request: Request) -> Response:
        """The analysis of a run: the run's own, or what a model writes now, or wrote before."""
        service = self.service()
        if service.stopping:
            raise ProblemError(Problem(503, "overloaded", "the server is shutting down", retry_after=5.0))
        key = who(request, service)
        with service.bodies.holding(key) as counted:
            body = await read_body(headers_of(request.scope), request.receive, counted, service.slowest, LARGEST)
        wanted = decode_field(body, _analysis)
        options = parse_options({} if wanted.max_dollars is None else {"max_dollars": wanted.max_dollars}, "the body")
        run, earlier = await _earlier(service, request.path_params["run"], key)
        if (known := stored_analysis(earlier, wanted.model)) is not None:
            return _said(run, *known)
        try:
            asked = to_compare(run.id, earlier, wanted.model)
        except InputError as problem:
            raise _conflict(str(problem)) from None
        await _check_models(service, asked.analyst.models, asked.recipe.name, "model", key)
        # The work is not cancelled with its client: the store has its result when the client asks again.
        work = asyncio.create_task(_compare(service, run, asked, options, key))
        service.working.add(work)
        work.add_done_callback(service.working.discard)
        return _said(run, asked.layer, await asyncio.shield(work))


async def _compare(service: Service, run: StoredRun, asked: Compared, options: Options, key: Key | None) -> Comparison:
    """Ask the analyst, within the limits of the key and of the day. Raises `ProblemError` if it fails."""
    with service.metrics.request():
        async with service.limiter.enter(key):
            models = await service.models_of(asked.recipe.name, asked.analyst.models)
            try:
                return await compare(
                    service.limited(asked.recipe, asked.recipe.name, options),
                    asked.analyst,
                    asked.conversation,
                    asked.proposals,
                    models,
                    funds=service.funds_for(key),
                    record=run.id,
                )
            except ModelError as error:
                raise ProblemError(failed(Failure(error.cause, str(error), error.status), {})) from None


async def _check_models(service: Service, models: tuple[str, ...], recipe: str, field: str, key: Key | None) -> None:
    """Raise `ProblemError` if a key may not use a stored recipe, or if a request may not name one of the models.

    field: field of the request that names a model
    """
    service.check_models(models, recipe, key)
    await service.naming.check(models, field)
    service.assembly.check(models)


async def _earlier(service: Service, name: str, key: Key | None) -> tuple[StoredRun, Transcript]:
    """A run of the caller that has ended, and its transcript.

    Raises `ProblemError` if there is no such run, if it goes on, or if it was stored without its words.
    """
    run = await live.find(service, name, key)
    if run.status == "open" and not died(service, run):
        raise _conflict(f"run {run.id} goes on; wait for its end")
    earlier = Transcript()
    for _, event in await service.store.events(run.id):
        earlier.hear(event)
    return run, earlier


def _conflict(message: str) -> ProblemError:
    return ProblemError(Problem(409, "invalid_request", message, "run", retryable=False))


def _said(run: StoredRun, layer: int, found: Comparison) -> Response:
    dollars = None if found.usage.dollars is None else str(found.usage.dollars)
    body = {
        "run": run.id,
        "layer": layer,
        "model": found.model,
        "stored": found.stored,
        "dollars": dollars,
        "analysis": to_builtins(found.analysis),
    }
    return Response(msgspec.json.encode(body), 200, {"cache-control": "no-store"}, "application/json")
