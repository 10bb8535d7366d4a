"""A real `partsong serve` over raw sockets: whatever bytes come, no answer is a traceback, plain text or status 500.

What the HTTP layer itself cannot read (a bad request line, a wrong Content-Length) it refuses with an empty 4xx. All
other errors are JSON in the form of the API. A malformed chunk is one of these.
"""

import json
import random
import re
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.test_serve import served
from tests.serving import recipe_file

PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/metrics"]
PATHS += ["/v1/models/%ff%00", "/v1/runs/%zz/events?from=%ff", "/api/recipes/check", "/api/runs?before=%00", "/healthz"]
PATHS += [
    "/v1/responses/%2e%2e%2f",
    "/%",
    "//v1//models",
    "/v1/messages/" + "a" * 300,
    "/" + "é" * 9,
    "http://x/v1/models",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "FOO"]
BODY = b'{"model":"three","max_tokens":9,"input":"Why?","messages":[{"role":"user","content":"Why?"}]}'
CHUNKED = "Transfer-Encoding: chunked\r\n"
BODIES: list[tuple[str, bytes]] = [
    (f"Content-Length: {len(BODY)}\r\n", BODY),
    (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),
    (CHUNKED, b"zz\r\n{}\r\n"),
    (CHUNKED, b"-1\r\n{}\r\n"),
    (CHUNKED, b"ffffffffffffffffff\r\n{}"),
    (CHUNKED, b"5\r\n{}\r\nxx\r\n"),
    (CHUNKED, b"2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n"),
    (CHUNKED + "Content-Length: 2\r\n", b"0\r\n\r\n"),
    ("Content-Length: abc\r\n", b"{}"),
    ("Content-Length: -1\r\n", b"{}"),
    ("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
    ("Content-Length: 99999999999999999999\r\n", b"{}"),
    ("Content-Length: 9000000000000000000\r\n", b"{}"),
    ("Content-Length: 2\r\n", b"[["),
    ("Content-Length: 4\r\n", b"\xff\xfe{}"),
    ("Content-Length: 30000\r\n", b"[" * 30_000),
    ("", b""),
]
HEADERS = [
    "",
    "X-Partsong: " + "[" * 9000 + "\r\n",
    'X-Partsong: {"recipe":{"about":"\xe9"}}\r\n',
    "X-Partsong: {}\r\nX-Partsong: {}\r\n",
    "Authorization: Bearer \xff\xfe\r\n",
    "Authorization: a\r\nAuthorization: b\r\n",
    "Content-Type: text/plain\r\n",
    "Content-Encoding: gzip\r\n",
    "Host: b\r\n",
    "Origin: http://[\r\n",
    "Last-Event-ID: \xb2\r\n",
    "X-A: b\0c\r\n",
    "Expect: 100-continue\r\n",
    "".join(f"X-{number}: 1\r\n" for number in range(300)),
]


@pytest.fixture(scope="module", params=["1", "2"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("raw")
    with served(folder, "--workers", request.param, "--recipe", recipe_file(folder)) as (_, url):
        yield int(url.rpartition(":")[2])


def asked(port: int, data: bytes, wait: float = 60) -> tuple[int, str, bytes]:
    """The status, the type and the body of the answer; status 0 if there is none.

    wait: seconds without bytes after which the connection is closed: the server may wait for another request
    """
    with socket.create_connection(("127.0.0.1", port)) as connection:
        received = b""
        with suppress(ConnectionError, TimeoutError):  # what was received before is judged
            connection.sendall(data)
            if not select.select([connection], [], [], wait)[0]:
                return 0, "", b""
            connection.settimeout(wait)
            while piece := connection.recv(65_536):
                received += piece
    head, _, body = re.sub(rb"\AHTTP/1.1 100 [^\r]*\r\n\r\n", b"", received).partition(b"\r\n\r\n")
    if not head:
        return 0, "", b""
    kind = re.search(rb"(?im)^content-type: ([^\r]*)", head)
    return int(head.split()[1]), kind[1].decode() if kind else "", body


def check(path: str, answer: tuple[int, str, bytes]) -> None:
    status, kind, body = answer
    assert status < 500 or status == 503, answer
    assert b"Traceback" not in body
    assert not (status >= 400 and kind.startswith("text/plain")), answer
    if status >= 400 and body:
        told = json.loads(body)
        assert told["error"]["message"]
        assert (told.get("type") == "error") == path.startswith("/v1/messages")
        assert kind == "application/json"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(METHODS), st.sampled_from(PATHS), st.sampled_from(HEADERS), st.sampled_from(BODIES))
def test_every_answer_has_its_form(port: int, method: str, path: str, header: str, body: tuple[str, bytes]) -> None:
    kind = "" if header.startswith("Content-Type") else "Content-Type: application/json\r\n"
    line = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".encode()
    check(path, asked(port, line + f"{kind}{header}{body[0]}\r\n".encode("latin-1") + body[1]))


@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize("body", BODIES[2:6])
def test_malformed_chunks_are_an_error_of_the_api(port: int, path: str, body: tuple[str, bytes]) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n{body[0]}"
    )
    status, kind, told = asked(port, f"{head}\r\n".encode() + body[1])
    assert (status, kind) == (400, "application/json")
    assert "chunks are malformed" in json.loads(told)["error"]["message"]
    check(path, (status, kind, told))


def test_bytes_that_are_changed_at_random_are_answered(port: int) -> None:
    whole = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    whole += b"Content-Length: %d\r\nX-Partsong: {}\r\n\r\n%b" % (len(BODY), BODY)
    chance = random.Random(17)
    for _ in range(50):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        status, kind, body = asked(port, bytes(data), wait=0.5)
        assert status < 500
        assert b"Traceback" not in body
        assert status < 400 or not body or kind == "application/json"


def test_the_server_still_answers(port: int) -> None:
    check("/healthz", answer := asked(port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"))
    assert answer[0] == 200
