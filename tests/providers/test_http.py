"""The HTTP edge: what goes over the network, and what becomes of it when the network fails."""

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from partsong.errors import ConfigurationError, ModelError
from partsong.providers.http import LARGE, LONGEST_REJECTION, Endpoint, Http, proxy_for
from partsong.providers.openai import reachable
from tests.upstream import HTML, NOTHING, RESET, SILENCE, Exchange, Reply, Server, as_json, event, status, stream

BODY = b'{"a": 1}'


async def post(url: str, body: bytes = BODY, *, silence: float = 600.0) -> bytes:
    """All that a POST brings."""
    async with Http(silence=silence) as http, Endpoint(http, "lab", url, "x", {"A": "b"}).post(body) as call:
        return await call.whole()


async def fault(url: str, *, silence: float = 600.0) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await post(url, silence=silence)
    return caught.value


async def test_a_post_goes_where_it_should_with_what_it_should() -> None:
    async with Server(Reply(b"[1, 2]")) as server:
        assert await post(f"{server.url}/v1/?version=2") == b"[1, 2]"
        sent = server.exchanges[0]
        assert (sent.method, sent.path, sent.body) == ("POST", "/v1/x?version=2", BODY)
        assert sent.headers["A"] == "b"
        assert sent.headers["User-Agent"] == "partsong"


async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * (3 * LARGE // 256)
    async with Server(Reply(b"ok")) as server:
        assert await post(server.url, body) == b"ok"
        assert server.exchanges[0].body == body


async def test_no_limit_of_connections_holds_calls_up() -> None:
    all_are_here = asyncio.Event()

    def answer(exchange: Exchange) -> Reply:
        if exchange.connection == 119:
            all_are_here.set()
        return stream(all_are_here, b"ok")

    async with Server(answer) as server, Http() as http:
        endpoint = Endpoint(http, "lab", server.url, "x", {})

        async def call() -> bytes:
            async with endpoint.post(BODY) as opened:
                return await opened.whole()

        async with asyncio.timeout(30):
            assert await asyncio.gather(*(call() for _ in range(120))) == [b"ok"] * 120
        await asyncio.gather(*(call() for _ in range(120)))
        assert server.connections == 120


async def test_reads_come_as_the_network_brings_them() -> None:
    async with Server(stream(b"one", b"two")) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            assert [await call.read(), await call.read(), await call.read()] == [b"one", b"two", b""]


async def test_a_response_that_was_read_to_its_end_leaves_its_connection_to_the_next() -> None:
    async with Server(stream(event("a"), event("[DONE]"), b": bye\n\n")) as server, Http() as http:
        endpoint = Endpoint(http, "lab", server.url, "x", {})
        for _ in range(3):
            async with endpoint.post(BODY) as call:
                assert await call.read() == event("a")
                assert await call.read() == event("[DONE]")
                await call.finish()
        assert server.connections == 1


@pytest.mark.parametrize("end", ["silence", "reset"])
async def test_what_is_only_welcome_is_read_until_a_time_or_a_fault(end: Any) -> None:
    async with Server(stream(b"one", b"two", end=end)) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            assert await call.read() == b"one"
            assert await call.read(asyncio.get_running_loop().time() + 60) == b"two"
            assert await call.read(asyncio.get_running_loop().time() + 0.05) == b""


async def test_a_response_that_will_not_end_is_given_up() -> None:
    async with Server(stream(event("[DONE]"), end="silence")) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            await call.read()
            await call.finish()
        async with asyncio.timeout(5):
            await server.exchanges[0].left.wait()


@pytest.mark.parametrize("answer", [SILENCE, stream(b"a", end="silence")])
async def test_cancelling_closes_the_connection(answer: Reply) -> None:
    async with Server(answer) as server:
        task = asyncio.create_task(post(server.url))
        while not server.exchanges:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.exchanges[0].left.wait()


# ---- faults


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (NOTHING, "network", "closed the connection without an answer"),
        (RESET, "network", "broke before it answered"),
        (stream(b"a", end="close"), "truncated", "broke in the middle of the answer"),
        (stream(b"a", end="reset"), "truncated", "broke in the middle of the answer"),
        (Reply(b"a", headers={"Content-Length": "9"}, end="close"), "truncated", "broke in the middle of the answer"),
        (SILENCE, "timeout", "was silent for 0.1 s"),
        (stream(b"a", end="silence"), "timeout", "was silent for 0.1 s"),
    ],
)
async def test_a_fault_has_a_cause(answer: Reply, cause: str, words: str) -> None:
    async with Server(answer) as server:
        error = await fault(server.url, silence=0.1)
        assert error.cause == cause
        assert str(error).startswith((server.url[7:], f"the connection to {server.url[7:]}"))
        assert words in str(error)
        assert error.passing


async def test_nobody_is_there(unused_tcp_port: int) -> None:
    error = await fault(f"http://127.0.0.1:{unused_tcp_port}/v1")
    assert error.cause == "network"
    assert str(error).startswith(f"127.0.0.1:{unused_tcp_port} cannot be reached: ")


async def test_faults_that_loopback_does_not_have() -> None:
    endpoint = Endpoint(Http(), "lab", "https://host.example/v1", "x", {}, "key-12345")
    key = cast("Any", SimpleNamespace(host="host.example", port=443, is_ssl=True, ssl=True))
    untrusted = ssl.SSLCertVerificationError("self-signed certificate")
    for problem, words in (
        (aiohttp.ClientConnectorDNSError(key, OSError(-2, "unknown")), "there is no address for this name"),
        (aiohttp.ConnectionTimeoutError(), "no connection within 10 s"),
        (aiohttp.ClientConnectorCertificateError(key, untrusted), "self-signed certificate"),
        (aiohttp.ClientProxyConnectionError(key, OSError(111, "refused")), "through the proxy"),
    ):
        error = endpoint.explain(problem)
        assert error.cause == "network"
        assert str(error).startswith("host.example can")
        assert words in str(error)


async def test_https_where_there_is_only_http() -> None:
    async with Server(Reply(b"ok")) as server:
        error = await fault(server.url.replace("http://", "https://"))
        assert error.cause == "network"
        assert "does not speak TLS" in str(error)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\x00\x01\x02\r\n\r\n"])
async def test_what_is_not_http(said: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        error = await fault(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert error.cause == "server"
        assert "not HTTP" in str(error)


# ---- rejections


async def test_a_rejection_is_read_with_its_status_and_headers() -> None:
    async with Server(status(429, "slow down", {"Retry-After": "3"}, code="rate_limit_exceeded")) as server:
        async with Http() as http, Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            error = (await call.rejection()).error()
    assert (error.cause, error.status, error.retry_after) == ("rate", 429, 3.0)
    assert str(error) == "HTTP 429 Too Many Requests: slow down"


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_rejection_may_break_off(end: str) -> None:
    answer = Reply((b'{"error":',), 503, end=end)  # type: ignore[arg-type]
    async with Server(answer) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            assert (await call.rejection()).error().cause == "server"


async def test_a_rejection_may_be_endless() -> None:
    async with Server(Reply((b"x" * LONGEST_REJECTION,) * 4, 500, end="silence")) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            assert len((await call.rejection()).text) == LONGEST_REJECTION


async def test_an_answer_may_not_be_endless() -> None:
    async with Server(stream(*[b"x" * LARGE] * ((16 << 20) // LARGE + 1), end="silence")) as server:
        error = await fault(server.url)
    assert error.cause == "server"
    assert "more than 16 MiB" in str(error)


async def test_a_redirection_is_not_followed() -> None:
    async with Server(Reply(b"", 307, {"Location": "/elsewhere"})) as server, Http() as http:
        async with Endpoint(http, "lab", server.url, "x", {}).post(BODY) as call:
            error = (await call.rejection()).error()
        assert error.cause == "refused"
        assert "/elsewhere" in str(error)
        assert len(server.exchanges) == 1


# ---- is it there


async def test_a_provider_that_answers_is_reachable() -> None:
    async with Server(as_json({"data": []})) as server, Http() as http:
        assert await reachable(http, f"{server.url}/v1", "key-12345") is None
        sent = server.exchanges[0]
        assert (sent.method, sent.path, sent.headers["Authorization"]) == ("GET", "/v1/models", "Bearer key-12345")
        assert await reachable(http, f"{server.url}/v1") is None
        assert "Authorization" not in server.exchanges[1].headers


async def test_what_is_wrong_with_a_provider_is_said_without_the_key(unused_tcp_port: int) -> None:
    async with Server(status(401, "no such key: key-12345"), HTML) as server, Http() as http:
        assert await reachable(http, server.url, "key-12345") == "HTTP 401 Unauthorized: no such key: [key]"
    async with Http() as http:
        said = await reachable(http, f"http://127.0.0.1:{unused_tcp_port}", "key-12345")
        assert said is not None
        assert "cannot be reached" in said


# ---- configuration


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("", "must be like"),
        ("localhost:8000/v1", "must be like"),
        ("http://", "must be like"),
        ("ftp://host/v1", "must be like"),
        ("http://host:99999/v1", "must be like"),
        ("http://me:hidden@host/v1", "holds a user name or a password"),
        ("http://me:hidden@host:99999/v1", "must be like"),
    ],
)
async def test_an_address_that_is_none(base_url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Endpoint(Http(), "lab", base_url, "x", {})
    assert str(caught.value).startswith("lab: ")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", ["kéy", "key\nX-Other: 1", "key\x00"])
async def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(ConfigurationError, match="lab: the key has characters that no key can have"):
        Endpoint(Http(), "lab", "http://host/v1", "x", {}, key)


async def test_calls_need_an_open_session() -> None:
    with pytest.raises(RuntimeError, match="enter Http"):
        async with Endpoint(Http(), "lab", "http://127.0.0.1/v1", "x", {}).post(BODY):
            pass


@pytest.mark.parametrize(
    ("scheme", "host", "proxy"),
    [
        ("https", "api.example.com", "http://proxy:3128"),
        ("http", "api.example.com", "http://all:1"),
        ("https", "127.0.0.1", None),
        ("https", "::1", None),
        ("https", "localhost", None),
        ("https", "intern.example.org", None),
        ("https", "example.org", None),
        ("https", "notexample.org", "http://proxy:3128"),
        ("https", "10.0.0.7", None),
    ],
)
def test_the_way_through_a_proxy(scheme: str, host: str, proxy: str | None) -> None:
    proxies = {"https": "proxy:3128", "all": "http://all:1", "no": ".example.org, 10.0.0.7"}
    assert proxy_for(scheme, host, proxies) == proxy
    assert proxy_for(scheme, host, {}) is None
    assert proxy_for(scheme, host, proxies | {"no": "*"}) is None


def test_a_proxy_that_speaks_no_http() -> None:
    with pytest.raises(ConfigurationError, match=r"must begin with http://, but begins with socks5://"):
        proxy_for("https", "api.example.com", {"all": "socks5://me:hidden@proxy:1"})


async def test_a_proxy_is_asked_for_what_is_not_here() -> None:
    async with Server(Reply(b"ok")) as proxy, Http(proxies={"http": proxy.url}) as http:
        async with Endpoint(http, "lab", "http://partsong.invalid/v1", "x", {}).post(BODY) as call:
            assert await call.whole() == b"ok"
        assert proxy.exchanges[0].headers["Host"] == "partsong.invalid"
