"""Functions that all routes of the page share: identify the caller, parse the query and the body, answer in JSON."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from partsong import toml
from partsong.keys import Key
from partsong.server.bodies import Body, read_body
from partsong.server.incoming import headers_of, identify
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem

T = TypeVar("T")
ESCAPED = 6  # bytes of a character as JSON writes it at its longest, such as \u0041
BESIDE = 4096  # bytes of the other fields of a body
_encoder = msgspec.json.Encoder(decimal_format="number")


def who(request: Request, service: Service) -> Key | None:
    """The key of the request, or `None`, as for every other route. Raises `ProblemError` if the caller is refused.

    A browser sends no `Origin` when a page reads from its own server. With DNS rebinding, a foreign page could so read
    the runs of the user. A request without `Origin` is therefore checked like one from a page of the called host.
    """
    headers = headers_of(request.scope)
    headers.setdefault("origin", f"http://{headers.get('host', '')}")
    return identify(request.scope, headers, service.keys, service.serving.origins)


def wrong(message: str, field: str | None, status: int = 400) -> ProblemError:
    """The problem of an invalid request."""
    return ProblemError(Problem(status, "invalid_request", message, field))


def read_query(request: Request, kind: type[T]) -> T:
    """The query as a value of `kind`. Raises `ProblemError` with the name of a wrong field."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as problem:
        raise _explained(problem, kind) from None


async def read_json(request: Request, service: Service, counted: Body, kind: type[T]) -> T:
    """The body as a value of `kind`; it counts in `counted`. Raises `ProblemError` with the name of a wrong field.

    A body is at most as long as a recipe of the longest allowed text, in which each character may be escaped in JSON.
    """
    longest = ESCAPED * service.configuration.bounds.recipe_characters + BESIDE
    body = await read_body(headers_of(request.scope), request.receive, counted, service.slowest, longest)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as problem:
        raise _explained(problem, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise wrong(f"the body is not valid JSON: {problem}", None) from None


def said(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The response in JSON, which neither browsers nor proxies may cache."""
    uncached = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(_encoder.encode(value), status, {**uncached, **(headers or {})}, "application/json")


def _explained(problem: msgspec.ValidationError, kind: type) -> ProblemError:
    field, reason = toml.explain(problem, kind)
    return wrong(f"{field}: {reason}" if field else reason, field or None)
