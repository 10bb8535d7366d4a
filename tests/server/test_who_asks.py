"""Who may ask a server: hosts of pages that rebind names, requests that a proxy passed on, keys that are made anew."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.configuration import Serving
from partsong.folders import keys_path
from partsong.keys import Key, Keys
from tests.serving import recipe_file, serving

READS = ["/v1/models", "/v1/models/three", "/v1/runs/none/events", "/metrics", "/api/about", "/api/runs"]
ASKED = {"model": "three", "messages": [{"role": "user", "content": "Why?"}]}


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    keys_path().unlink(missing_ok=True)
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def status(session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: Any = None) -> int:
    method = "GET" if body is None else "POST"
    async with session.request(method, url, headers=headers, json=body) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("path", READS)
async def test_a_page_that_rebinds_its_name_reads_nothing(
    tmp_path: Path, session: aiohttp.ClientSession, path: str
) -> None:
    server = Serving(origins=("http://box.example:9000",))
    async with serving([recipe_file(tmp_path)], server=server) as (url, _):
        for host in (
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.7",
        ):
            assert await status(session, url + path, {"host": host}) == 403, host
        for host in ("localhost", "127.0.0.1:1", "[::1]:80", "a.localhost", "box.example:9000"):
            assert await status(session, url + path, {"host": host}) in (200, 404), host
        # A key is proof enough, and a page that rebinds a name has none.
        keys = Keys(keys_path())
        key = keys.add("alice", metrics=path == "/metrics")
        assert await status(session, url + path, {"host": "moa.example", "x-api-key": key}) in (200, 404)


FORWARDED = [
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Anything",
    "X-Real-IP",
    "Via",
    "CF-Connecting-IP",
    "True-Client-IP",
]


@pytest.mark.parametrize("name", FORWARDED)
async def test_a_request_that_was_passed_on_needs_a_key(
    tmp_path: Path, session: aiohttp.ClientSession, name: str
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        for path, body in [(path, None) for path in READS] + [("/v1/chat/completions", ASKED)]:
            for spelling in (name, name.upper(), name.lower()):
                assert await status(session, url + path, {spelling: "203.0.113.9"}, body) == 401
        secret = Keys(keys_path()).add("alice")
        with_key = {name: "203.0.113.9", "x-api-key": secret}
        assert await status(session, f"{url}/v1/chat/completions", with_key, ASKED) == 200
        assert await status(session, f"{url}/v1/models", with_key) == 200


async def test_strangers_are_told_no_names(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        keys = Keys(keys_path())
        secrets = [keys.add("bob", recipes=("other",)), keys.add("scraper", metrics=True), "", "ps-wrong"]
        for secret in secrets:
            headers = {"x-api-key": secret} if secret else {}
            for path, body in (
                ("/readyz", None),
                ("/healthz", None),
                ("/v1/models/nothing", None),
                ("/nothing", None),
                ("/v1/chat/completions", ASKED | {"model": "nothing"}),
                ("/v1/chat/completions", ASKED | {"model": "provider:nothing"}),
            ):
                method = "GET" if body is None else "POST"
                async with session.request(method, url + path, headers=headers, json=body) as response:
                    assert "three" not in await response.text(), (path, secret)
        async with session.get(f"{url}/readyz") as response:
            assert json.loads(await response.read()) == {
                "status": "ready",
                "store": "full",
                "recipes": 1,
                "unusable": 0,
            }


async def test_a_key_made_anew_has_no_runs_and_no_spending_of_its_former_name(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    costly = recipe_file(tmp_path, aggregator="scripted:z?text=So&output=1000")
    async with serving([costly]) as (url, _):
        keys = Keys(keys_path())

        async def ask(secret: str) -> tuple[int, str]:
            body = {"model": "three", "input": "Why?", "max_output_tokens": 10}
            async with session.post(f"{url}/v1/responses", json=body, headers={"x-api-key": secret}) as response:
                said = json.loads(await response.read())
                return response.status, said.get("partsong", {}).get("run", "")

        async def runs(secret: str) -> list[str]:
            async with session.get(f"{url}/api/runs", headers={"x-api-key": secret}) as response:
                return [run["id"] for run in json.loads(await response.read())["runs"]]

        first = keys.add("alice", dollars_per_day="0.0105")  # type: ignore[arg-type]
        code, run = await ask(first)
        assert code == 200
        assert await runs(first) == [run]
        assert (await ask(first))[0] == 402  # the day's money is used up
        keys.remove("alice")
        second = keys.add("alice", dollars_per_day="0.0105")  # type: ignore[arg-type]
        assert await runs(second) == []
        assert await status(session, f"{url}/v1/runs/{run}/events", {"x-api-key": second}) == 404
        body = {"model": "three", "input": "Go on.", "previous_response_id": f"resp_{run}"}
        assert await status(session, f"{url}/v1/responses", {"x-api-key": second}, body) == 404
        assert (await ask(second))[0] == 200


def test_keys_of_an_earlier_version_keep_their_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('[{"name": "alice", "digest": "00", "created": "2026-01-01T00:00:00Z"}]')
    keys = Keys(path)
    (alice,) = keys.all()
    keys.add("bob")
    assert alice.owner == "alice"
    again, bob = keys.all()
    assert again == alice
    assert bob.owner not in ("", "bob")


async def test_twelve_keys_at_once_are_twelve_keys() -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "partsong", "keys", "add", f"key{number}", stdout=asyncio.subprocess.PIPE
        )
        for number in range(12)
    ]
    secrets = [(await process.communicate())[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 12
    keys = Keys(keys_path())
    assert {key.name for key in keys.all()} == {f"key{number}" for number in range(12)}
    found = [keys.find(secret) for secret in secrets]
    assert [key.name for key in found if isinstance(key, Key)] == [f"key{number}" for number in range(12)]


async def test_adding_and_removing_at_once_lose_nothing() -> None:
    keys = [Keys(keys_path()) for _ in range(8)]
    for number, each in enumerate(keys):
        each.add(f"old{number}")

    def change(number: int) -> None:
        keys[number].add(f"new{number}")
        keys[number].remove(f"old{number}")

    await asyncio.gather(*(asyncio.to_thread(change, number) for number in range(8)))
    assert {key.name for key in Keys(keys_path()).all()} == {f"new{number}" for number in range(8)}
