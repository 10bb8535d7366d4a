"""What comes in: who asks, and the body of the request, neither too long nor too slow, and not from a web page.

A page in a browser may post to any address, this machine's own included. So a request that names the page that it
comes from (`Origin`) is refused unless it is the server's own or may call, and a body must be declared as JSON, which
no page may do without asking first. A stranger's page whose name is made to mean this machine looks like the server's
own: where no key is needed, the name that the browser used must be one that only this machine has.
"""

import asyncio
import ipaddress
from collections.abc import Mapping

from partsong.keys import Key, Keys
from partsong.server.problems import ProblemError
from partsong.server.response import SLOWEST, Headers, Receive, Scope
from partsong.store import new_id
from partsong.wire.reply import Problem

LARGEST = 32 * 1024 * 1024  # bytes of a body


class ClientLeftError(Exception):
    """The client has closed its connection: nobody waits for an answer."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by name, in small letters."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def request_id(scope: Scope) -> str:
    """The id of this HTTP request, which its response, its log line and its first run bear."""
    return str(scope.setdefault("partsong.request_id", new_id()))


def identity_headers(scope: Scope) -> Headers:
    """The request's id under the names that OpenAI's and Anthropic's clients look for."""
    name = request_id(scope).encode()
    return [(b"x-request-id", name), (b"request-id", name)]


def identify(
    scope: Scope, headers: Mapping[str, str], keys: Keys, origins: tuple[str, ...], *, metrics: bool = False
) -> Key | None:
    """Whose request it is; `None` where no keys are made, so that everybody on this machine may ask, and nobody else:
    keys may be taken away while it runs, and another server may have been told to listen anywhere.

    A key that may read `metrics` may do nothing else, and no other key may read them. Raises `ProblemError`.
    """
    origin = headers.get("origin")
    if origin is not None and origin not in origins and "*" not in origins:
        host = headers.get("host", "")
        if origin.partition("://")[2] != host or not (keys.any() or _own(host)):
            message = f"pages of {origin} may not call this server (see [server] origins)"
            raise ProblemError(Problem(403, "permission", message))
    if not keys.any():
        if not _near(scope):
            raise ProblemError(Problem(401, "authentication", "there are no keys, so only this machine may ask"))
        return None
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    secret = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    if not secret:
        message = "a key is needed, as `Authorization: Bearer KEY` or as `x-api-key: KEY`"
        raise ProblemError(Problem(401, "authentication", message))
    key = keys.find(secret)
    if key is None:
        raise ProblemError(Problem(401, "authentication", "this key is not known here", code="invalid_api_key"))
    if key.metrics != metrics:
        message = f'the key "{key.name}" may read /metrics and nothing else'
        if metrics:
            message = "/metrics needs a key of its own: partsong keys add NAME --metrics"
        raise ProblemError(Problem(403, "permission", message))
    return key


def _near(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return True  # a socket in the file system: its owner says who may use it
    try:
        return ipaddress.ip_address(client[0].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _own(host: str) -> bool:
    """Whether this is a name or an address that means this machine wherever it is used."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


async def read_body(headers: Mapping[str, str], receive: Receive, slowest: float = SLOWEST) -> bytes:
    """The whole body. Raises `ProblemError`, or `ClientLeftError`."""
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
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
