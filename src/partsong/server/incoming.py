"""Says who asks: identifies the caller of a request, and refuses pages and callers that may not use the server.

A web page can post to any address, also to servers on the user's own machine. Two checks protect against foreign pages:

* A request with the header `Origin` is refused unless the page is the server's own, or an allowed one.
* The body must be declared as JSON. A browser lets a foreign page declare that only after a preflight request.

DNS rebinding makes a foreign page look like the server's own, by a host name that resolves to this machine. So a server
without keys accepts a page only if its host name means this machine everywhere, such as `localhost`. A browser sends no
`Origin` when a page reads from its own server, so every reading request is checked like one from a page of the called
host.

A proxy on this machine makes everybody look near. So a server without keys refuses a request that was passed on.
"""

import ipaddress
import logging
from collections.abc import Mapping

from partsong.errors import ConfigurationError
from partsong.keys import Key, KnownKeys
from partsong.server.problems import ProblemError
from partsong.server.response import Headers, Receive, Scope
from partsong.store import new_id
from partsong.wire.reply import Problem

LOG = logging.getLogger("partsong.server")

# Headers that proxies add, and clients on this machine do not.
FORWARDING = frozenset(
    ["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"]
)
# Headers that decide who asks and for what. A proxy and this server could each heed another one of two.
SINGLE = frozenset(
    [b"authorization", b"content-encoding", b"content-type", b"host", b"origin", b"x-api-key", b"x-partsong"]
)


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers of the request by name, in lower case. Raises `ProblemError` if one of `SINGLE` is there twice."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.lower()
        text = name.decode("latin-1")
        if text in headers and name in SINGLE:
            raise ProblemError(Problem(400, "invalid_request", f"the header {text} is there twice", text))
        headers[text] = value.decode("latin-1")
    return headers


def request_id(scope: Scope) -> str:
    """The id of this HTTP request, which is also the id of its first run. It is made when it is first asked for."""
    return str(scope.setdefault("partsong.request_id", new_id()))


def identity_headers(scope: Scope) -> Headers:
    """The request's id under the names that OpenAI's and Anthropic's clients look for."""
    name = request_id(scope).encode()
    return [(b"x-request-id", name), (b"request-id", name)]


def identify(
    scope: Scope, headers: Mapping[str, str], keys: KnownKeys, origins: tuple[str, ...], *, metrics: bool = False
) -> Key | None:
    """The key of the request; `None` on a server without keys. Raises `ProblemError` if the caller is refused.

    A server without keys answers clients on this machine only. That is checked for each request: the last key may be
    removed while the server runs, and another ASGI server may listen on any address.

    origins: web pages that may use the server; `*` allows all
    metrics: whether the request reads `/metrics`, which needs a key of its own that allows nothing else
    """
    try:
        return _identify(scope, headers, keys, origins, metrics)
    except ConfigurationError as problem:
        # The error names a file of the server, which is for its log alone. Without keys nobody is let in.
        if keys.told != (told := str(problem)):
            keys.told = told
            LOG.error("%s; requests are refused until the %s", told, keys.mended)
        message = "the server cannot read its keys now, so it answers nobody; its log says more"
        raise ProblemError(Problem(503, "overloaded", message, code="keys", retry_after=5.0)) from None


def _identify(
    scope: Scope, headers: Mapping[str, str], keys: KnownKeys, origins: tuple[str, ...], metrics: bool
) -> Key | None:
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
    if not (secret := secret_of(headers)):
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


def secret_of(headers: Mapping[str, str]) -> str:
    """The secret of the key that a request shows; "" if it shows none."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


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


async def until_left(receive: Receive) -> None:
    """Return once the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
