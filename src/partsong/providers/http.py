"""HTTP for hosted models: one pool of connections, and network faults as `ModelError`s.

A `Call` is opened with `async with`, and read in the pieces in which the network delivers it. After the block, a
connection whose response was read to its end returns to the pool. Any other connection is closed, so that cancelling
a call ends the request at the provider. Connections are not limited here, because the middleware limits calls.
Redirects are not followed, because they would send the key to another host.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from types import TracebackType
from typing import Any, Self

import aiohttp
from msgspec.structs import replace
from yarl import URL

from partsong.bounds import Bounds
from partsong.errors import ConfigurationError, ModelError
from partsong.providers.backlog import Backlog
from partsong.providers.rejection import Rejection, hidden, read_problem, read_rejection, shortened
from partsong.providers.sending import Place, Sending, pieces_of
from partsong.wire.blobs import Encoded
from partsong.wire.rate_limit_headers import RateLimits, parse_rate_limit_headers

CONNECT = 10.0  # seconds to open a connection
RESOLVE = 5.0  # further seconds to look up the host's address
KEEP = 30.0  # seconds that an idle connection is kept for the next layer or the next run
FINISH = 0.05  # seconds to wait for the end of a response whose content is complete
PROBE = 5.0  # seconds that a provider has to answer a probe, or to send the body of an error
LARGE = 1 << 20  # bytes; a longer body is sent in pieces, and a longer answer without a stream waits for room
WHOLES = 2  # such answers without a stream that are read at the same time, each of them twice in memory
LONGEST_REJECTION = 64 << 10  # bytes
FAULTS = (aiohttp.ClientError, OSError)

# Receives a model's name and the rate limits in the headers of a response.
Told = Callable[[str, RateLimits], None]


class Http:
    """One HTTP session for all hosted models. Enter it with `async with`, on the event loop of the calls.

    silence: seconds without a byte after which a call fails; `silence_seconds` of the bounds by default. A model that
        thinks is silent for minutes in a call without a stream, so this limit only ends dead connections
    proxies: proxies by scheme, in the form of `urllib.request.getproxies()`; none by default. Loopback addresses are
        always reached directly
    bounds: the bounds on answers
    keys: by the provider's name, where its key is and where keys are given, for the errors of refused keys; none by
        default
    backlog: the delay of the event loop
    sending: the large requests that are being sent
    reading: the large answers without a stream that are being read
    """

    def __init__(
        self,
        *,
        silence: float | None = None,
        proxies: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.bounds = Bounds() if bounds is None else bounds
        self.silence = self.bounds.silence_seconds if silence is None else silence
        self.proxies = proxies or {}
        self.keys = keys or {}
        self.backlog = Backlog()
        self.sending = Sending(self.bounds.sending_megabytes)
        self.reading = Sending(WHOLES * 2 * self.bounds.answer_megabytes)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # The middleware limits calls for each provider. aiohttp's own limit of 100 connections would stall wide layers.
        # aiohttp already shares one TLS context in the process.
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
        """The open session. Raises `RuntimeError` before `async with` was entered."""
        if self._session is None:
            raise RuntimeError("enter Http with `async with` before calling a model that uses it")
        return self._session


class Endpoint:
    """An address, and the headers of every request to it.

    The `secret` never appears in errors, even if the provider repeats it.
    """

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
        """Prepare requests; nothing is sent.

        name: the provider's name, for errors
        base_url: the API's address; a query in it is kept
        path: appended to the path of `base_url`
        headers: headers of every request
        secret: the API key, to hide it in errors; `None` by default
        told: receives rate limits (see `tell`); `None` by default

        Raises `ConfigurationError` if `base_url` is no URL or holds a password, or if the secret has characters that
        HTTP headers forbid.
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
        self.key_told = http.keys.get(name, "") if secret else ""
        self.host = url.host_port_subcomponent or host
        self.headers = dict(headers)
        self.secret = secret
        self.told = told
        self.proxy = proxy_for(url.scheme, host, http.proxies)

    def post(self, body: bytes | Encoded, place: Place | None = None) -> "Call":
        """Return a POST request with this JSON; `async with` sends it.

        place: of a large body; `None` (default) for a body in bytes
        """
        return Call(self, "POST", body, place)

    def place(self, size: int) -> Place:
        """A place for a large body of about so many bytes; of a body of 0 bytes, which waits for nothing."""
        return self.http.sending.place(self.host, size)

    def get(self) -> "Call":
        """Return a GET request; `async with` sends it."""
        return Call(self, "GET", None)

    def tell(self, model: str, headers: Mapping[str, str]) -> None:
        """Pass the rate limits in a response's headers to `told`, if the response has any."""
        if self.told is not None and (allowance := parse_rate_limit_headers(headers, time.time())) is not None:
            self.told(model, allowance)

    def quote(self, text: str) -> str:
        """Return the provider's text as it may be shown: one line, shortened, without the secret."""
        return shortened(hidden(text, self.secret))

    async def probe(self) -> str | None:
        """Return what is wrong with this endpoint, or `None` if a GET request is answered with status 200.

        Takes 5 seconds at most.
        """
        try:
            async with asyncio.timeout(PROBE):
                async with self.get() as call:
                    return None if call.status == 200 else (await call.rejection()).message
        except TimeoutError:
            return f"{self.host} did not answer within {PROBE:g} s"
        except ModelError as error:
            return str(error)

    def explain(self, fault: BaseException, *, answered: bool = False) -> ModelError:
        """Return the `ModelError` for a network fault. `answered`: whether the response had begun; False by default."""
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
    """One HTTP request. `async with` sends the request; within the block, the response can be read.

    Every byte of an answer is read here, so the bounds on sizes and times hold here, for all answers.

    streamed: whether the answer is a stream; False until set by the code that reads the answer

    Raises `ModelError` on entering if the provider cannot be reached, or does not begin to answer in time.
    """

    __slots__ = ("_body", "_endpoint", "_method", "_place", "_progress", "_read", "_response", "_until", "streamed")

    def __init__(
        self, endpoint: Endpoint, method: str, body: bytes | Encoded | None, place: Place | None = None
    ) -> None:
        self._endpoint, self._method, self._body, self._place = endpoint, method, body, place
        self._read = 0  # bytes, after decompression
        self._progress = self._until = 0.0  # by the loop's clock: the last progress, and when the call must end
        self.streamed = False

    async def __aenter__(self) -> Self:
        endpoint, bounds = self._endpoint, self._endpoint.http.bounds
        data, headers = self._content()
        self._body = None  # a large body is forgotten as it is sent
        self._until = asyncio.get_running_loop().time() + bounds.call_seconds
        try:
            # A server can send parts of a head for ever, without being silent.
            async with asyncio.timeout(min(bounds.progress_seconds, bounds.call_seconds)) as limit:
                self._response = await endpoint.http.session.request(
                    self._method,
                    endpoint.url,
                    data=data,
                    headers=headers,
                    proxy=endpoint.proxy,
                    allow_redirects=False,
                )
        except FAULTS as fault:
            if limit.expired():
                seconds = min(bounds.progress_seconds, bounds.call_seconds)
                raise ModelError(f"{endpoint.host} did not begin to answer within {seconds:g} s", "timeout") from None
            raise endpoint.explain(fault) from None
        self._progress = asyncio.get_running_loop().time()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A response that was read to its end has returned its connection to the pool. Any other connection is closed.
        self._response.close()

    def _content(self) -> tuple[Any, Mapping[str, str]]:
        """The body as the HTTP library takes it, and the headers."""
        headers, body = self._endpoint.headers, self._body
        if not isinstance(body, Encoded):
            return BytesIO(body) if body is not None and len(body) > LARGE else body, headers
        place = self._endpoint.place(0) if self._place is None else self._place
        # Some servers do not understand a body without a length.
        return pieces_of(body, place), {**headers, "Content-Length": str(body.size)}

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def is_over(self) -> bool:
        """Whether more bytes were read than a stream may have."""
        return self._read > self.bounds.stream_megabytes << 20

    @property
    def bounds(self) -> Bounds:
        return self._endpoint.http.bounds

    @property
    def backlog(self) -> Backlog:
        """The measured delay of the event loop. Enter the `Backlog` with `with` while a stream is read."""
        return self._endpoint.http.backlog

    async def read(self, until: float | None = None) -> bytes:
        """Return the bytes of one network read; empty at the end of the response.

        until: when to stop waiting, by the loop's clock; `None` (default) waits. With a time, a fault also counts as
            the end, because the answer is already complete

        Raises `ModelError` for a network fault without `until`, and if the answer exceeds a bound on its size or time.
        """
        content = self._response.content
        try:
            if until is None:
                data = await content.readany()
            else:
                async with asyncio.timeout_at(until):
                    data = await content.readany()
        except FAULTS as fault:
            fault.with_traceback(None)  # aiohttp keeps the fault with the response, and the traceback has this frame
            if until is not None:
                return b""
            raise self._endpoint.explain(fault, answered=True) from None
        self._check(len(data))
        return data

    def _check(self, size: int) -> None:
        """Count the bytes of one read. Raises `ModelError` if a bound is exceeded."""
        bounds, host, now = self._endpoint.http.bounds, self._endpoint.host, asyncio.get_running_loop().time()
        self._read += size
        if not self.streamed and self._read > bounds.answer_megabytes << 20:
            raise ModelError(f"the answer has more than {bounds.answer_megabytes:,} MiB", "server", again=False)
        if now > self._until:
            message = f"{host} did not end its answer within {bounds.call_seconds:g} s"
            raise ModelError(message, "timeout", again=False)
        if now > self._progress + bounds.progress_seconds:
            message = f"{host} sent nothing but signs of life for {bounds.progress_seconds:g} s"
            raise ModelError(message, "timeout")

    def note(self, *, progress: bool, listened: float = 0.0) -> None:
        """Note what the last read brought.

        progress: whether it brought a part of the answer, and not only signs of life
        listened: seconds that a listener has taken since the read, which do not count as time of the call
        """
        self._progress = asyncio.get_running_loop().time() if progress else self._progress + listened
        self._until += listened

    async def rest(self, seconds: float) -> None:
        """Stop reading for some seconds. The next read then returns all bytes of that time at once."""
        connection = self._response.connection
        if connection is None or connection.protocol is None:
            return  # the whole response has arrived
        protocol = connection.protocol
        protocol.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            protocol.resume_reading()

    def reading_place(self) -> Place:
        """A place for the whole answer, which takes room once the answer is large."""
        return self._endpoint.http.reading.place(self._endpoint.host, 0)

    async def whole(self, start: bytes = b"", place: Place | None = None) -> bytes:
        """Read the rest of the body, and return the whole body.

        start: the bytes that were already read; none by default
        place: of the answer, from `reading_place`; `None` (default) for one that no model has written

        Raises `ModelError` for a network fault, or if the answer exceeds a bound on its size or time.
        """
        body = bytearray(start)
        announced = self._response.content_length or 0
        while True:
            if place is not None and max(announced, len(body)) > LARGE:
                await place.enlarge(2 * self.bounds.answer_megabytes << 20)
            if not (data := await self.read()):
                return bytes(body)
            body += data
            self.note(progress=not data.isspace())

    async def finish(self) -> None:
        """Wait up to `FINISH` seconds for the end of the response, so that its connection can return to the pool."""
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
        """Read and return the error that the provider sent instead of an answer."""
        body = b""
        try:
            async with asyncio.timeout(PROBE):
                while len(body) < LONGEST_REJECTION and (data := await self._response.content.readany()):
                    body += data
        except FAULTS:
            pass  # without a body, the status and the headers remain
        endpoint = self._endpoint
        found = read_rejection(self.status, self.headers, body[:LONGEST_REJECTION], endpoint.secret)
        if found.cause == "auth" and endpoint.key_told:
            return replace(found, message=f"{found.message} ({endpoint.key_told})")
        return found

    def problem(self, data: bytes) -> Rejection:
        """Return the error that the provider sent with a success status, in a stream or in place of an answer.

        data: the error's JSON
        """
        return read_problem(data[:LONGEST_REJECTION], self._endpoint.secret)

    def quote(self, text: str) -> str:
        """Return the provider's text as it may be shown: one line, shortened, without the secret."""
        return self._endpoint.quote(text)


def proxy_for(scheme: str, host: str, proxies: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for a host; `None` for a direct connection.

    scheme: "http" or "https"
    proxies: proxies by scheme, `all` for any scheme, and `no` for hosts without a proxy

    Raises `ConfigurationError` if the proxy is no HTTP proxy.
    """
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
