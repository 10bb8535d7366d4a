"""Every error has the form of its API: damaged keys, odd headers and paths, large recipes, and errors of our own."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.bounds import Bounds
from partsong.configuration import Configuration
from partsong.folders import keys_path
from partsong.keys import Keys
from partsong.server.service import Service
from partsong.wire import chat
from tests.serving import recipe_file, serving

ASKED = {"model": "three", "messages": [{"role": "user", "content": "Why?"}]}
POSTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": ASKED,
    "/v1/responses": {"model": "three", "input": "Why?"},
    "/v1/messages": {**ASKED, "max_tokens": 99},
    "/v1/messages/count_tokens": ASKED,
    "/v1/responses/input_tokens": {"model": "three", "input": "Why?"},
}
READS = ["/v1/models", "/v1/models/three", "/v1/runs/none/events", "/v1/responses/none", "/metrics", "/api/runs"]


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    keys_path().unlink(missing_ok=True)
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def refused(
    session: aiohttp.ClientSession, url: str, path: str, headers: dict[str, str] | None = None, body: Any = None
) -> tuple[int, str]:
    """The status and the message of an error, whose form is that of the path's API."""
    method = "GET" if body is None else "POST"
    async with session.request(method, url + path, headers=headers, json=body) as response:
        assert response.headers["content-type"] == "application/json", await response.text()
        told = await response.json()
    assert (told.get("type") == "error") == path.startswith("/v1/messages")
    assert "Traceback" not in json.dumps(told)
    return response.status, told["error"]["message"]


DAMAGED = [
    b"",
    b"[{",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'[{"name":"a"}]',
    b'[{"name":"a","digest":1,"created":"2026-01-01T00:00:00Z"}]',
    b'[{"name":"a","digest":"d","created":"2026-01-01T00:00:00Z","dollars_per_day":"NaN"}]',
    b'[{"name":"a","digest":"d","created":"2026-01-01T00:00:00Z","at_once":0}]',
    b'[{"name":"a","digest":"d","created":"2026-01-01T00:00:00Z","keep_for":1e300}]',
]


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("before", [True, False])
async def test_damaged_keys_let_nobody_in(
    tmp_path: Path, session: aiohttp.ClientSession, damage: bytes, before: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        secret = Keys(keys_path()).add("alice") if before else "none"
        keys_path().parent.mkdir(parents=True, exist_ok=True)
        keys_path().write_bytes(damage)
        for path in [*POSTS, *READS]:
            for headers in ({}, {"x-api-key": secret}):
                status, message = await refused(session, url, path, headers, POSTS.get(path))
                assert status == 503
                assert str(keys_path()) not in message
        async with session.get(f"{url}/healthz") as response:
            assert response.status == 200
        keys_path().unlink()
        secret = Keys(keys_path()).add("bob")
        assert (await refused(session, url, "/v1/models"))[0] == 401
        async with session.get(f"{url}/v1/models", headers={"x-api-key": secret}) as response:
            assert response.status == 200
    log = capfd.readouterr().err
    assert log.count("requests are refused until the file is mended") == 1
    assert str(keys_path()) in log


async def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    keys_path().mkdir(parents=True)
    try:
        async with serving([recipe_file(tmp_path)]) as (url, _):
            assert (await refused(session, url, "/v1/models"))[0] == 503
    finally:
        keys_path().rmdir()


HEADERS = [
    "[" * 5000,
    '{"a":' * 5000,
    '{"recipe":{"layers":' + "[" * 99 + "]" * 99 + "}}",
    '{"recipe":{"layers":[{"agents":' + "[" * 9 + "]" * 9 + "}]}}",
    "[]",
    "1",
    "{",
    "{}}",
    '{"nothing":1}',
    '{"recipe":1}',
    '{"recipe":{"name":"x"}}',
    '{"recipe":{"about":"\\ud800"}}',
    '{"deadline":' + "9" * 5000 + "}",
    '{"deadline":1e999}',
    '{"max_dollars":"NaN"}',
    '{"recipe":{"layers":[{"agents":[{"model":"a:b","samples":' + "9" * 5000 + "}]}]}}",
    '{"recipe":{"layers":[{"agents":[{"model":"a:b","samples":1001}]}]}}',
    '{"recipe":{"layers":[{"agents":[{"model":"a:b","samples":257}]}]}}',
    '{"recipe":{"layers":[' + ",".join(['{"agents":["a:b"]}'] * 33) + "]}}",
]


@pytest.mark.parametrize("text", HEADERS)
async def test_odd_options_are_refused(tmp_path: Path, session: aiohttp.ClientSession, text: str) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
            assert (await refused(session, url, path, {"x-partsong": text}, POSTS[path]))[0] == 400
            if text.startswith("{") and text.endswith("}") and "ud800" not in text and text != "{}}":
                body = json.dumps(POSTS[path])[:-1].encode() + b',"partsong":' + text.encode() + b"}"
                headers = {"content-type": "application/json"}
                async with session.post(url + path, data=body, headers=headers) as response:
                    assert response.status == 400
                    assert (await response.json())["error"]["message"]


async def test_too_many_calls_for_one_request_are_refused(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    layers = [{"agents": [{"model": "scripted:a?text=one", "samples": 250}]}]
    body = {**ASKED, "n": 16, "partsong": {"recipe": {"layers": layers}}}
    async with serving([recipe_file(tmp_path)]) as (url, _):
        status, message = await refused(session, url, "/v1/chat/completions", None, body)
        assert status == 400
        assert "12,096 calls to models, but at most 4,000" in message


@pytest.mark.parametrize("path", [*POSTS, *READS, "/nothing", "/api/nothing", "/v1/messages/nothing"])
async def test_long_paths_and_queries_are_refused(tmp_path: Path, session: aiohttp.ClientSession, path: str) -> None:
    configuration = Configuration(bounds=Bounds(path_characters=2000))
    async with serving([recipe_file(tmp_path)], configuration=configuration) as (url, _):
        for end in ("?" + "a" * 2000, "/" + "a" * 2000):
            assert (await refused(session, url, path + end, None, POSTS.get(path)))[0] == 414


async def test_a_message_does_not_repeat_a_long_name(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        status, message = await refused(session, url, "/v1/chat/completions", None, {**ASKED, "model": "m" * 100_000})
        assert status == 404
        assert len(message) < 5000


@pytest.mark.parametrize("path", [*POSTS, "/v1/models", "/api/about"])
async def test_an_error_of_our_own_is_told_in_the_log_alone(
    tmp_path: Path,
    session: aiohttp.ClientSession,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("a secret")

    async with serving([recipe_file(tmp_path)]) as (url, app):
        monkeypatch.setattr(Service, "recipe_for", fail)
        monkeypatch.setattr(app.service(), "recipes", None)
        status, message = await refused(session, url, path, None, POSTS.get(path))
        assert status == 500
        assert "secret" not in message
    log = capfd.readouterr().err
    assert log.count(": an internal error") == 1
    assert "Traceback" in log


async def test_a_key_cannot_loosen_a_recipe(tmp_path: Path) -> None:
    text = 'name = "three"\ndeadline = 5\nstrict = true\n[[layers]]\nagents = ["scripted:a?text=one"]\n'
    text += '[aggregator]\nmodel = "scripted:z?text=two"\n'
    parsed = chat.parse_request(
        json.dumps({**ASKED, "partsong": {"recipe": {"deadline": 500, "strict": False}}}).encode()
    )
    async with serving([recipe_file(tmp_path, text)]) as (_, app):
        key = app.service().keys.find(Keys(keys_path()).add("alice"))
        kept = await app.service().recipe_for(parsed, key)
        assert (kept.deadline, kept.strict) == (5, True)
        own = await app.service().recipe_for(parsed, None)
        assert (own.deadline, own.strict) == (500, False)
