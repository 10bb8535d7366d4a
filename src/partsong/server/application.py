"""The routes of the server, and the lifespan in which its service starts and stops.

Streams are sent by plain ASGI instead of Starlette's response objects, which cost several times as much CPU.
"""

import asyncio
import gc
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partsong.bounds import Bounds
from partsong.configuration import Configuration, StoreMode
from partsong.errors import PartsongError, QuestionError
from partsong.heavy import done, is_heavy
from partsong.model import Conversation
from partsong.prompts import with_documents
from partsong.server import ending, listing, live, resuming, stored
from partsong.server.again import Analysing, ask_again
from partsong.server.answering import Answering, Api
from partsong.server.assets import Assets
from partsong.server.bodies import read_body
from partsong.server.deleting import Deleting
from partsong.server.incoming import headers_of, identify, identity_headers, request_id, until_left
from partsong.server.memory import give_memory_back
from partsong.server.metrics import MEDIA_TYPE
from partsong.server.orphans import end_with_parent
from partsong.server.owner import Owner
from partsong.server.pages import (
    Conversations,
    GoingOn,
    History,
    Models,
    Overview,
    Prompts,
    Recipes,
    Results,
    Setup,
    Votes,
)
from partsong.server.problems import ProblemError, internal, presentable, problem_headers, unusable
from partsong.server.response import SLOWEST
from partsong.server.service import Service, caller_of, open_service
from partsong.server.stopping import overhearing
from partsong.store import patient
from partsong.wire import chat, messages, responses
from partsong.wire.parsed import ParsedRequest
from partsong.wire.reply import Format, Problem
from partsong.wire.tokens import LIKELY_BYTES_A_TOKEN, likely_tokens

LOG = logging.getLogger("partsong.server")

# Headers that a page of another origin may read, beside those that browsers always show.
EXPOSED = ("x-request-id", "request-id", "retry-after", "x-should-retry", "x-partsong-run", "x-partsong-recipe")
PROBES = ("/healthz", "/readyz")  # paths that need no key
APIS = ("/chat/completions", "/responses", "/messages", "/models")
AGAIN_PATH = re.compile(r"/v1/runs/([^/]{1,100})/again")
PATH = Bounds().path_characters
FULL_COLLECTION = 100  # collections of the middle generation before a full collection; Python's default is 10

Settings = Callable[[], tuple[Configuration, StoreMode | None]]


def make_app(settings: Settings, slowest: float = SLOWEST, owner: Owner | None = None) -> "Application":
    """The ASGI application.

    settings: returns the configuration and the mode of the store; called when the application starts
    slowest: seconds that a client may take to send a body, or to read what the server has sent
    owner: the page that may set the keys of providers; no page by default
    """
    return Application(settings, slowest, owner)


class Application:
    """The ASGI application: the routes, and the service that answers them between start and end of the lifespan."""

    def __init__(self, settings: Settings, slowest: float = SLOWEST, owner: Owner | None = None) -> None:
        self.settings, self.slowest = settings, slowest
        self._owner = owner or Owner()
        self._service: Service | None = None
        self._answering: dict[str, ASGIApp] = {
            "/v1/chat/completions": Answering(Api("chat", chat), self.service),
            "/v1/responses": Answering(Api("responses", responses), self.service),
            "/v1/messages": Answering(Api("messages", messages), self.service),
        }
        self._again: ASGIApp = Answering(Api("chat", chat), self.service, ask_again)
        self._routes: ASGIApp = Starlette(routes=self.routes(), lifespan=self.lifespan, exception_handlers=HANDLERS)
        self._inner: ASGIApp = self._direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._routes if scope["type"] == "lifespan" else self._inner)(scope, receive, send)

    async def _direct(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers bypass Starlette: each of its layers would wrap every event of a stream."""
        if (path := canonical(scope["path"])) != scope["path"]:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        answering = self._answering.get(path) if scope.get("method") == "POST" else None
        if answering is None and scope.get("method") == "POST" and (run := AGAIN_PATH.fullmatch(path)) is not None:
            answering, scope = self._again, {**scope, "path_params": {"run": run[1]}}
        if self._service is not None and path not in PROBES:
            await self._service.refresh_keys(scope)
        identifying = Identifying(send, identity_headers(scope))
        if (problem := self._refusal(scope)) is not None:
            await problem_response(Request(scope), problem)(scope, receive, identifying)
        elif answering is not None:
            with patient(self.service().configuration.bounds.store_seconds):
                await answering(scope, receive, send)
        else:
            try:
                await self._routes(scope, receive, identifying)
            except Exception:
                # `on_internal` has answered and told the log. Starlette raises the error again all the same.
                if not identifying.started:
                    raise

    def _refusal(self, scope: Scope) -> Problem | None:
        """The problem of a path and a query that are too long together."""
        most = self._service.configuration.bounds.path_characters if self._service is not None else PATH
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) <= most:
            return None
        return Problem(414, "invalid_request", f"the path and the query have more than {most:,} bytes together")

    def service(self) -> Service:
        if self._service is None:
            raise RuntimeError("the server has not started: run its ASGI lifespan first")
        return self._service

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        give_memory_back()
        configuration, mode = self.settings()
        origins = list(configuration.server.origins)
        if origins:
            cors = CORSMiddleware(
                self._direct,
                allow_origins=origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=[*EXPOSED, "x-partsong-losses", "x-partsong-dollars"],
            )
            self._inner = partial(_across, cors)
        async with open_service(configuration, mode, self.slowest) as service:
            self._service = service
            # Objects that exist now live as long as the server, so the collector need not visit them. A full collection
            # stops every stream (0.3 s with 1,000 runs under way), so there are fewer of them.
            gc.collect()
            gc.freeze()
            thresholds = gc.get_threshold()
            gc.set_threshold(*thresholds[:2], FULL_COLLECTION)
            end_with_parent(service.serving.drain)
            try:
                with overhearing(service.stop):
                    yield
            finally:
                await service.drain()
                self._service = None
                gc.set_threshold(*thresholds)
                gc.unfreeze()

    def routes(self) -> list[Route]:
        return [
            *Overview(self.service).routes(),
            *Conversations(self.service).routes(),
            *History(self.service).routes(),
            *GoingOn(self.service).routes(),
            *Recipes(self.service).routes(),
            *Models(self.service).routes(),
            *Results(self.service).routes(),
            *Prompts(self.service).routes(),
            *Setup(self.service, self._owner).routes(),
            *Votes(self.service).routes(),
            *(Route(path, answering, methods=["POST"]) for path, answering in self._answering.items()),
            Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{name:path}", self.model, methods=["GET"]),
            Route("/v1/responses/input_tokens", self.input_tokens, methods=["POST"]),
            Route("/v1/responses/{name}", StoredResponse(self), methods=["GET", "DELETE"]),
            Route("/v1/responses/{name}/cancel", self.cancel_response, methods=["POST"]),
            Route("/v1/responses/{name}/input_items", self.input_items, methods=["GET"]),
            *Deleting(self.service).routes(),
            *Analysing(self.service).routes(),
            Route("/v1/runs/{run}/again", self._again, methods=["POST"]),
            Route("/v1/runs/{run}/events", RunEvents(self), methods=["GET"]),
            Route("/v1/runs/{run}/stop", self.stop_run, methods=["POST"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
            *Assets().routes(),
        ]

    async def models(self, request: Request) -> Response:
        service = self.service()
        key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
        return json(listing.listed(service, key))

    async def model(self, request: Request) -> Response:
        service = self.service()
        key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
        return json(await listing.found(service, request.path_params["name"], key))

    async def cancel_response(self, request: Request) -> Response:
        """Stop a response that is made in the background."""
        service = self.service()
        key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
        found = await stored.cancel(service, request.path_params["name"], key)
        return Response(stored.serialize(service, found), media_type="application/json")

    async def input_items(self, request: Request) -> Response:
        """The body with a page of the input items of a stored response."""
        service = self.service()
        key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
        page = stored.page_of(dict(request.query_params))
        found = await stored.find(service, request.path_params["name"], key)
        return await done(is_heavy(found.request.conversation), lambda: json(stored.list_input(found, page)))

    async def stop_run(self, request: Request) -> Response:
        """Stop a run that continues although its client has disconnected."""
        service = self.service()
        key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
        name = service.check_id(request.path_params["run"], "run")
        if not await ending.stop(service, name, caller_of(key)):
            raise ProblemError(Problem(404, "not_found", f'you have no run "{name}" under way on this server', "run"))
        return json({"id": name, "stopped": True})

    async def count_tokens(self, request: Request) -> Response:
        """Estimate the input tokens of a request to Messages. The estimate is as likely too high as too low."""
        service = self.service()
        headers = headers_of(request.scope)
        key = identify(request.scope, headers, service.keys, service.serving.origins)
        with service.bodies.holding(key) as body:
            data = await read_body(headers, request.receive, body, service.slowest)
            parsed = await done(True, messages.parse_count, data)
            await service.recipe_for(parsed, key)
            tokens = await tokens_of(service, parsed)
        return Response(messages.serialize_count(tokens), media_type="application/json")

    async def input_tokens(self, request: Request) -> Response:
        """Estimate the input tokens of a request to Responses, earlier responses that it continues included."""
        service = self.service()
        headers = headers_of(request.scope)
        key = identify(request.scope, headers, service.keys, service.serving.origins)
        with service.bodies.holding(key) as body:
            data = await read_body(headers, request.receive, body, service.slowest)
            parsed = await done(True, responses.parse_request, data)
            await service.recipe_for(parsed, key)
            if parsed.references:
                known = await stored.look_up(service, parsed.references, key)
                parsed = await done(True, responses.parse_request, data, known)
            if parsed.previous:
                parsed = await stored.going_on(service, parsed, key)
            tokens = await tokens_of(service, parsed)
        return json({"object": "response.input_tokens", "input_tokens": tokens})

    async def metrics(self, request: Request) -> Response:
        """The metrics for Prometheus. A server with keys needs one that was made with `--metrics`."""
        service = self.service()
        identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins, metrics=True)
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    async def healthz(self, request: Request) -> Response:
        return json({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether the server can answer: it is not shutting down, and it has a usable recipe or serves models.

        Probes send no key, so anyone may read the response. It has the number of recipes, but not their names. Only
        callers of the other paths are told the names of models that are being fetched or loaded.
        """
        service = self._service
        if service is None or service.stopping:
            return json({"status": "stopping"}, 503)
        counts = {"recipes": len(service.recipes), "unusable": len(service.unusable)}
        if not service.recipes and not service.serving.models:
            return json({"status": "no recipe is usable", **counts}, 503)
        failing = service.store.health.failing is not None
        state = {"status": "degraded" if failing else "ready", "store": "failing" if failing else service.store.mode}
        if prepared := service.preparing.all():
            counts["preparing"] = len(prepared)
            with suppress(ProblemError):
                key = identify(request.scope, headers_of(request.scope), service.keys, service.serving.origins)
                return json(state | counts | {"models": service.prepared(key)})
        return json(state | counts)


class Identifying:
    """An ASGI `send` that adds `headers`, which hold the request's id, to the response.

    started: whether the response has begun
    """

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send, self._headers = send, headers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)


def canonical(path: str) -> str:
    """The path of an API with exactly one `/v1` in front; any other path unchanged.

    Clients send paths with no, one or two `/v1`, since they differ in whether a base URL should end in `/v1`.
    """
    rest = path.removeprefix("/v1").removeprefix("/v1")
    known = any(rest == api or rest.startswith(f"{api}/") for api in APIS)
    return f"/v1{rest}" if known else path


class RunEvents:
    """`GET /v1/runs/{id}/events`: a run's events as server-sent events, live or stored."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self.application.service()
        key = identify(scope, headers_of(scope), service.keys, service.serving.origins)
        run = await live.find(service, scope["path_params"]["run"], key)
        await until_either(live.tell(service, run, send, live.wanted(scope)), receive)


class StoredResponse:
    """`GET` and `DELETE /v1/responses/{id}`: retrieves (as a stream with `?stream=true`) or deletes a response."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self.application.service()
        key = identify(scope, headers_of(scope), service.keys, service.serving.origins)
        name, query = scope["path_params"]["name"], Request(scope).query_params
        if scope["method"] == "DELETE":
            await json(await stored.delete(service, name, key))(scope, receive, send)
        elif query.get("stream") == "true":
            resumed = resuming.Resumed(name, key, resuming.parse_after(query.get("starting_after", "")))
            await until_either(resuming.tell(service, resumed, send), receive)
        else:
            found = await stored.find(service, name, key)
            body = await done(is_heavy(found.request.conversation), stored.serialize, service, found)
            await Response(body, media_type="application/json")(scope, receive, send)


async def _across(cors: CORSMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer requests of pages of other origins. A refused preflight gets an error in the shape of its API."""
    asked = Headers(scope=scope)
    if scope.get("method") != "OPTIONS" or "origin" not in asked or "access-control-request-method" not in asked:
        await cors(scope, receive, send)
        return
    answer = cors.preflight_response(request_headers=asked)
    if answer.status_code != 200:
        refused = bytes(answer.body).decode().removeprefix("Disallowed CORS ")
        message = f"pages of other origins may not send this request: {refused}; see `origins` in [server]"
        told = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        answer = problem_response(Request(scope), Problem(400, "invalid_request", message))
        answer.headers.update(told)
    await answer(scope, receive, Identifying(send, identity_headers(scope)))


async def until_either(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Await `work`, and cancel it if the client disconnects. A client that stops reading is disconnected."""
    telling = asyncio.create_task(work)
    left = asyncio.create_task(until_left(receive))
    try:
        await asyncio.wait((telling, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not telling.done():
            telling.cancel()
        await asyncio.wait((telling, left))
    if not telling.cancelled():
        with suppress(TimeoutError):  # a client that does not read is disconnected
            telling.result()


async def tokens_of(service: Service, parsed: ParsedRequest) -> int:
    """The estimated input tokens of a request. The estimate is as likely too high as too low.

    A document that cannot be read counts by its bytes.
    """
    conversation = parsed.conversation
    with suppress(QuestionError):
        read = await service.documents.read(conversation)
        conversation = await done(is_heavy(read), _in_text, read)
    tools = sum(len(tool.name) + len(tool.description) + len(tool.parameters) for tool in conversation.tools)
    read_as = await done(is_heavy(conversation), likely_tokens, conversation.messages)
    return read_as + tools // LIKELY_BYTES_A_TOKEN


def _in_text(conversation: Conversation) -> Conversation:
    """The conversation with its documents as text."""
    return replace(conversation, messages=with_documents(conversation.messages, sent=False))


def json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


FORMATS: dict[str, Format] = {"/v1/messages": messages, "/v1/responses": responses}  # all other paths: chat


def problem_response(request: Request, problem: Problem) -> Response:
    """A problem in the format of the API that the path belongs to."""
    problem = presentable(replace(problem, request_id=request_id(request.scope)))
    body = format_of(request.scope["path"]).serialize_error(problem)
    return Response(body, problem.status, problem_headers(problem), media_type="application/json")


def format_of(path: str) -> Format:
    """The format of the API that the path belongs to."""
    return next((form for start, form in FORMATS.items() if path.startswith(start)), chat)


async def on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(request, error.problem)


async def on_expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, PartsongError)
    return problem_response(request, unusable(error))


async def on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.scope['path']}"
    if error.status_code == 405:
        return problem_response(request, Problem(405, "not_found", f"{what}: this path does not allow this method"))
    message = f"{what}: there is no such path"
    return problem_response(request, Problem(error.status_code, "not_found", message))


async def on_internal(request: Request, error: Exception) -> Response:
    LOG.error("request %s: an internal error", request_id(request.scope), exc_info=error)
    return problem_response(request, internal())


Handler = Callable[[Request, Exception], Awaitable[Response]]
HANDLERS: dict[int | type[Exception], Handler] = {
    ProblemError: on_problem,
    PartsongError: on_expected,
    HTTPException: on_http,
    Exception: on_internal,
}
