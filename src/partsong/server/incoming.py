"""Reads requests: identifies the caller, and limits the size and the duration of a body.

A web page can post to any address, also to servers on the user's own machine. Two checks protect against foreign pages:

* A request with the header `Origin` is refused unless the page is the server's own, or an allowed one.
* The body must be declared as JSON. A browser lets a foreign page declare that only after a preflight request.

DNS rebinding makes a foreign page look like the server's own, by a host name that resolves to this machine. So a server
without keys accepts a page only if its host name means this machine everywhere, such as `localhost`. A browser sends no
`Origin` when a page reads from its own server, so every reading request is checked like one from a page of the called
host.

A proxy on this machine makes everybody look near. So a server without keys refuses a request that was passed on.
"""

import asyncio
import ipaddress
from collections.abc import Mapping

from partsong.keys import Key, Keys
from partsong.server.problems import ProblemError
from partsong.server.response import SLOWEST, Headers, Receive, Scope
from partsong.store import new_id
from partsong.wire.reply import Problem

# Headers that proxies add, and clients on this machine do not.
FORWARDING = frozenset(
    ["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"]
)
LARGEST = 32 * 1024 * 1024  # bytes of a body


class ClientLeftError(Exception):
    """The client has closed its connection, so nobody waits for the answer."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of the request by name, in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def request_id(scope: Scope) -> str:
    """The id of this HTTP request, which is also the id of its first run. It is made when it is first asked for."""
    return str(scope.setdefault("partsong.request_id", new_id()))


def identity_headers(scope: Scope) -> Headers:
    """The request's id under the names that OpenAI's and Anthropic's clients look for."""
    name = request_id(scope).encode()
    return [(b"x-request-id", name), (b"request-id", name)]


def identify(
    scope: Scope, headers: Mapping[str, str], keys: Keys, origins: tuple[str, ...], *, metrics: bool = False
) -> Key | None:
    """The key of the request; `None` on a server without keys. Raises `ProblemError` if the caller is refused.

    A server without keys answers clients on this machine only. That is checked for each request: the last key may be
    removed while the server runs, and another ASGI server may listen on any address.

    origins: web pages that may use the server; `*` allows all
    metrics: whether the request reads `/metrics`, which needs a key of its own that allows nothing else
    """
    origin = headers.get("origin")
    if origin is None and scope.get("method") in ("GET", "HEAD") and "host" in headers:
        origin = f"{scope.get('scheme', 'http')}://{headers['host']}"
    if origin is not None and origin not in origins and "*" not in origins:
        host = headers.get("host", "")
        if origin.partition("://")[2] != host or not (keys.any() or _own(host)):
            message = f"pages of {origin} may not use this server; see `origins` in [server]"
            raise ProblemError(Problem(403, "permission", message))
    if not keys.any():
        if not _near(scope):
            raise ProblemError(
                Problem(401, "authentication", "this server has no keys, so it answers clients on its own machine only")
            )
        if (passed := next((name for name in headers if _is_forwarding(name)), None)) is not None:
            message = (
                f"the request was passed on (header {passed}), and this server has no keys, so it answers clients on "
                "its own machine only; make a key: partsong keys add NAME"
            )
            raise ProblemError(Problem(401, "authentication", message))
        return None
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    secret = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    if not secret:
        message = "the request needs a key, as `Authorization: Bearer KEY` or as `x-api-key: KEY`"
        raise ProblemError(Problem(401, "authentication", message))
    key = keys.find(secret)
    if key is None:
        raise ProblemError(Problem(401, "authentication", "this key is unknown", code="invalid_api_key"))
    if key.metrics != metrics:
        message = f'the key "{key.name}" may read /metrics and nothing else'
        if metrics:
            message = "/metrics needs a key of its own: partsong keys add NAME --metrics"
        raise ProblemError(Problem(403, "permission", message))
    return key


def _is_forwarding(name: str) -> bool:
    return name in FORWARDING or name.startswith("x-forwarded-")


def _near(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return True  # a Unix socket: the permissions of its file say who may use it
    try:
        return ipaddress.ip_address(client[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _own(host: str) -> bool:
    """Whether the host is a name or an address that means the local machine on every machine."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


async def read_body(headers: Mapping[str, str], receive: Receive, slowest: float = SLOWEST) -> bytes:
    """The whole body. Raises `ClientLeftError` if the client disconnects.

    Raises `ProblemError` if the body is not declared as JSON, is too large, or takes longer than `slowest` seconds.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ProblemError(Problem(400, "invalid_request", "the body must be sent as Content-Type: application/json"))
    too_large = ProblemError(Problem(413, "too_large", f"the body has more than {LARGEST // 1024 // 1024} MiB"))
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > LARGEST:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(slowest):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                piece = message.get("body", b"")
                size += len(piece)
                if size > LARGEST:
                    raise too_large
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        late = f"the body was not there after {slowest:g} seconds"
        raise ProblemError(Problem(408, "invalid_request", late)) from None


async def until_left(receive: Receive) -> None:
    """Return once the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
