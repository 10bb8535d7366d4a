"""What the page's routes have in common: who asks, what is said in the query or the body, and the answer as JSON."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from partsong import toml
from partsong.keys import Key
from partsong.server.incoming import headers_of, identify, read_body
from partsong.server.problems import ProblemError
from partsong.server.service import Service
from partsong.wire.reply import Problem

T = TypeVar("T")
_encoder = msgspec.json.Encoder(decimal_format="number")


def who(request: Request, service: Service) -> Key | None:
    """Whose request it is, as for every other route. Raises `ProblemError`.

    Browsers do not say which page reads its own server. A stranger's page whose name is made to mean this machine would
    read here what others have asked, so who says nothing is taken for a page of the name that was called.
    """
    headers = headers_of(request.scope)
    headers.setdefault("origin", f"http://{headers.get('host', '')}")
    return identify(request.scope, headers, service.keys, service.serving.origins)


def wrong(message: str, field: str | None, status: int = 400) -> ProblemError:
    """The problem of a request that cannot be done as it stands."""
    return ProblemError(Problem(status, "invalid_request", message, field))


def read_query(request: Request, kind: type[T]) -> T:
    """The query as a `kind`. Raises `ProblemError`, naming the field."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as problem:
        raise _explained(problem, kind) from None


async def read_json(request: Request, kind: type[T]) -> T:
    """The body as a `kind`. Raises `ProblemError`, naming the field."""
    body = await read_body(headers_of(request.scope), request.receive)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as problem:
        raise _explained(problem, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise wrong(f"the body is no JSON: {problem}", None) from None


def said(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The answer, as JSON that nobody keeps."""
    kept_nowhere = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(_encoder.encode(value), status, {**kept_nowhere, **(headers or {})}, "application/json")


def _explained(problem: msgspec.ValidationError, kind: type) -> ProblemError:
    field, reason = toml.explain(problem, kind)
    return wrong(f"{field}: {reason}" if field else reason, field or None)
