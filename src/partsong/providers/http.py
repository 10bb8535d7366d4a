"""HTTP for hosted models: one pool of connections, and network faults as `ModelError`s.

A `Call` is opened with `async with` and read in the pieces that the network brings. On leaving, a connection whose
response was read to its end goes back to the pool; any other connection is closed, so that cancelling a call ends the
request at the provider. The middleware limits calls, so connections are not limited here. Redirects are not followed,
because they would send the key to another host.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from partsong.errors import ConfigurationError, ModelError
from partsong.providers.backlog import Backlog
from partsong.providers.rejection import Rejection, hidden, read_problem, read_rejection, shortened
from partsong.wire.rate_limit_headers import RateLimits, parse_rate_limit_headers

CONNECT = 10.0  # seconds until a connection stands
RESOLVE = 5.0  # seconds more for finding out where to connect to
# Seconds without a byte. A plain call to a model that thinks is silent for minutes, so this only ends what is dead;
# whoever wants an answer sooner sets a deadline.
SILENCE = 600.0
KEEP = 30.0  # seconds that an idle connection is kept, for the next layer or the next question
FINISH = 0.05  # seconds to wait for the end of a response whose content is complete
PROBE = 5.0  # seconds to find out whether a provider answers at all
LARGE = 1 << 20  # bytes of a body from which on it is sent in pieces
LONGEST_ANSWER = 64 << 20  # bytes
LONGEST_REJECTION = 64 << 10
FAULTS = (aiohttp.ClientError, OSError)

# Hears, of which model, what the head of a response says about how much may be used.
Told = Callable[[str, RateLimits], None]


class Http:
    """One HTTP session for all hosted models. Enter it on the event loop of the calls.

    `silence` is the longest time in seconds without a byte. `proxies` have the form of `urllib.request.getproxies()`;
    loopback addresses are always reached directly.
    """

    def __init__(self, *, silence: float = SILENCE, proxies: Mapping[str, str] | None = None) -> None:
        self.silence = silence
        self.proxies = proxies or {}
        self.backlog = Backlog()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Connections are limited per provider, above; aiohttp's own limit of 100 in all would stall a wide layer.
        # Its TLS context is one for the whole process already.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT + RESOLVE, sock_connect=CONNECT, sock_read=self.silence
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "partsong"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session."""
        if self._session is None:
            raise RuntimeError("enter Http with `async with` before calling a model that uses it")
        return self._session


class Endpoint:
    """An address, and the headers of every request to it. `secret` never appears in messages."""

    def __init__(
        self,
        http: Http,
        name: str,
        base_url: str,
        path: str,
        headers: Mapping[str, str],
        secret: str | None = None,
        told: Told | None = None,
    ) -> None:
        """`path` comes after the path of `base_url`, whose query stays; `name` is the provider's.

        Raises `ConfigurationError`.
        """
        if secret and not (secret.isascii() and secret.isprintable()):
            raise ConfigurationError(f"{name}: the key has characters that no key can have")
        try:
            url = URL(base_url)
            self.url = url.with_path(f"{url.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)
            host = url.host
        except ValueError:
            host = None
        if host is None or url.scheme not in ("http", "https"):
            shown = base_url.rpartition("@")[2]
            raise ConfigurationError(f'{name}: base_url is "{shown}", but must be like "https://host/v1"')
        if url.user is not None or url.password is not None:
            raise ConfigurationError(
                f"{name}: base_url holds a user name or a password, but a key belongs into an environment variable"
            )
        self.http = http
        self.host = url.host_port_subcomponent or host
        self.headers = dict(headers)
        self.secret = secret
        self.told = told
        self.proxy = proxy_for(url.scheme, host, http.proxies)

    def post(self, body: bytes) -> "Call":
        """A request with this JSON, to be opened with `async with`."""
        return Call(self, "POST", body)

    def get(self) -> "Call":
        """A request without a body."""
        return Call(self, "GET", None)

    def tell(self, model: str, headers: Mapping[str, str]) -> None:
        """Pass on the rate limits in the headers of a response, if there are any."""
        if self.told is not None and (allowance := parse_rate_limit_headers(headers, time.time())) is not None:
            self.told(model, allowance)

    async def probe(self) -> str | None:
        """What is wrong with this address, found out by a GET request; `None` if nothing is."""
        try:
            async with asyncio.timeout(PROBE):
                async with self.get() as call:
                    return None if call.status == 200 else (await call.rejection()).message
        except TimeoutError:
            return f"{self.host} did not answer within {PROBE:g} s"
        except ModelError as error:
            return str(error)

    def explain(self, fault: BaseException, *, answered: bool = False) -> ModelError:
        """A network fault in words. `answered`: the response had begun."""
        host = self.host
        match fault:
            case aiohttp.ConnectionTimeoutError():
                return ModelError(f"{host} cannot be reached: no connection within {CONNECT:g} s", "network")
            case TimeoutError():
                return ModelError(f"{host} was silent for {self.http.silence:g} s", "timeout")
            case aiohttp.ClientConnectorDNSError():
                return ModelError(f"{host} cannot be reached: there is no address for this name", "network")
            case aiohttp.ClientConnectorCertificateError():
                why = hidden(str(fault.certificate_error), self.secret)
                return ModelError(f"{host} cannot be trusted: {shortened(why)}", "network")
            case aiohttp.ClientSSLError():
                return ModelError(f"{host} does not speak TLS; is base_url right, with https?", "network")
            case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
                return ModelError(f"{host} cannot be reached through the proxy", "network")
            case aiohttp.ClientConnectorError():
                return ModelError(f"{host} cannot be reached: {fault.os_error.strerror or 'no connection'}", "network")
            case aiohttp.ServerDisconnectedError():
                return ModelError(f"{host} closed the connection without an answer", "network", sent=True)
            case aiohttp.ClientResponseError():
                return ModelError(f"{host} answered what is not HTTP", "server")
            case _ if answered:
                return ModelError(f"the connection to {host} broke in the middle of the answer", "truncated")
            case _:
                return ModelError(f"the connection to {host} broke before it answered", "network", sent=True)


class Call:
    """A request under way. Use it with `async with`; within, `status` and `headers` are there."""

    __slots__ = ("_body", "_endpoint", "_method", "_response", "streamed")

    def __init__(self, endpoint: Endpoint, method: str, body: bytes | None) -> None:
        self._endpoint, self._method, self._body = endpoint, method, body
        self.streamed = False  # whether the answer is a stream; set by whoever reads it

    async def __aenter__(self) -> Self:
        endpoint, body = self._endpoint, self._body
        data = BytesIO(body) if body is not None and len(body) > LARGE else body
        try:
            self._response = await endpoint.http.session.request(
                self._method,
                endpoint.url,
                data=data,
                headers=endpoint.headers,
                proxy=endpoint.proxy,
                allow_redirects=False,
            )
        except FAULTS as fault:
            raise endpoint.explain(fault) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What has come to its end is back in the pool by now; this gives up what has not.
        self._response.close()

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def backlog(self) -> Backlog:
        """The delay of the event loop. Enter it while a stream is read."""
        return self._endpoint.http.backlog

    async def read(self, until: float | None = None) -> bytes:
        """The bytes of one network read; empty at the end. Raises `ModelError`.

        With `until`, a time of the loop, the bytes are welcome but not needed: a later time or a fault is the end.
        """
        content = self._response.content
        try:
            if until is None:
                return await content.readany()
            async with asyncio.timeout_at(until):
                return await content.readany()
        except FAULTS as fault:
            if until is not None:
                return b""
            raise self._endpoint.explain(fault, answered=True) from None

    async def rest(self, seconds: float) -> None:
        """Read nothing for a time: bytes that arrive meanwhile wait in the network, and are then read at once."""
        connection = self._response.connection
        if connection is None or connection.protocol is None:
            return  # all of it is here
        protocol = connection.protocol
        protocol.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            protocol.resume_reading()

    async def whole(self, start: bytes = b"") -> bytes:
        """The whole body, which begins with `start`. Raises `ModelError`."""
        pieces, size = [start], len(start)
        while data := await self.read():
            pieces.append(data)
            size += len(data)
            if size > LONGEST_ANSWER:
                raise ModelError(f"the answer has more than {LONGEST_ANSWER:,} bytes", "server")
        return b"".join(pieces)

    async def finish(self) -> None:
        """Wait a moment for the end of a response whose content is complete, so that its connection can be kept."""
        content = self._response.content
        if content.at_eof():
            return
        try:
            async with asyncio.timeout(FINISH):
                while await content.readany():
                    pass
        except FAULTS:
            pass

    async def rejection(self) -> Rejection:
        """The error that the provider sent instead of an answer."""
        body = b""
        try:
            async with asyncio.timeout(PROBE):
                while len(body) < LONGEST_REJECTION and (data := await self._response.content.readany()):
                    body += data
        except FAULTS:
            pass  # the status is enough
        return read_rejection(self.status, self.headers, body[:LONGEST_REJECTION], self._endpoint.secret)

    def problem(self, data: bytes) -> Rejection:
        """The error that the provider sent, as JSON, in the middle of an answer."""
        return read_problem(data, self._endpoint.secret)

    def quote(self, text: str) -> str:
        """Words of the provider as they can be shown."""
        return shortened(hidden(text, self._endpoint.secret))


def proxy_for(scheme: str, host: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy that a host is reached through, if any."""
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _is_loopback(host):
        return None
    for entry in proxies.get("no", "").split(","):
        name = entry.strip().lstrip(".").lower()
        if name and (name == "*" or host.lower() == name or host.lower().endswith(f".{name}")):
            return None
    if not proxy.startswith(("http://", "https://")):
        proxy = f"http://{proxy}" if "://" not in proxy else proxy
        if not proxy.startswith("http://"):
            raise ConfigurationError(
                f"the proxy for {host} must begin with http://, but begins with {proxy.partition(':')[0]}://"
            )
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
