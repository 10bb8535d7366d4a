"""Bodies of requests: what they count, from their first byte until their run has ended, and for whom."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.bounds import Bounds
from partsong.configuration import Configuration
from partsong.folders import keys_path
from partsong.keys import Key, Keys
from partsong.server.application import Application
from partsong.server.bodies import MIB, Bodies
from partsong.server.limits import Limits
from partsong.server.problems import ProblemError
from tests.serving import recipe_file, serving

SMALL = Bounds(body_megabytes=2, bodies_megabytes=4, key_bodies_megabytes=2, body_seconds=30)
ASKED = {"model": "three", "messages": [{"role": "user", "content": "Why?"}]}
BODIES = {
    "/v1/chat/completions": ASKED,
    "/v1/responses": {"model": "three", "input": "Why?"},
    "/v1/messages": {**ASKED, "max_tokens": 99},
    "/v1/messages/count_tokens": ASKED,
    "/v1/responses/input_tokens": {"model": "three", "input": "Why?"},
    "/api/recipes/check": {"toml": "name = 1"},
}
PART = b'{"model":"three","messages":[{"role":"user","content":"' + b"a" * (3 * MIB // 2)


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    keys_path().unlink(missing_ok=True)
    yield
    keys_path().unlink(missing_ok=True)


@asynccontextmanager
async def bounded(folder: Path, bounds: Bounds = SMALL, text: str = "So+it+is") -> AsyncIterator[tuple[str, Any]]:
    recipes = [recipe_file(folder, aggregator=f"scripted:z?text={text}")]
    async with serving(recipes, configuration=Configuration(bounds=bounds)) as (url, app):
        yield url, app


class Upload:
    """A request whose body is sent in part, over a connection of its own."""

    def __init__(self, url: str, key: str, path: str = "/v1/chat/completions", length: int = 2 * MIB - 1) -> None:
        self.port = int(url.rpartition(":")[2])
        self.head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    async def send(self, part: bytes) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(self.head + part)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def until(what: Any) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


def bodies(app: Application) -> Bodies:
    return app.service().bodies


async def test_unfinished_bodies_of_one_key_leave_room_for_others(tmp_path: Path) -> None:
    async with bounded(tmp_path) as (url, app), aiohttp.ClientSession() as session:
        keys = Keys(keys_path())
        mallory, alice = keys.add("mallory"), keys.add("alice")
        first = Upload(url, mallory)
        await first.send(PART)
        await until(lambda: bodies(app).total == len(PART))
        others = [Upload(url, mallory) for _ in range(30)]
        await asyncio.gather(*(other.send(PART) for other in others))
        for other in others:
            status, headers, body = await other.answer()
            assert (status, headers["retry-after"]) == (429, "2")
            assert body["error"]["code"] == "bodies"
            await other.close()
        assert bodies(app).total == len(PART)
        async with session.post(
            f"{url}/v1/messages", json=BODIES["/v1/messages"], headers={"x-api-key": alice}
        ) as told:
            assert told.status == 200
        async with session.get(f"{url}/healthz") as told:
            assert told.status == 200
        await first.close()
        await until(lambda: bodies(app).total == 0)
        assert bodies(app).of_key == {}


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_of_several_keys_have_a_bound_together(tmp_path: Path, path: str) -> None:
    async with bounded(tmp_path, Bounds(body_megabytes=1, bodies_megabytes=2, key_bodies_megabytes=1)) as (url, app):
        keys = [Keys(keys_path()).add(f"key {number}") for number in range(6)]
        part, length = b'{"a":"' + b"x" * 360_000, 380_000
        held = [Upload(url, key, path, length) for key in keys]
        for number, each in enumerate(held):
            await each.send(part)
            await until(lambda number=number: bodies(app).total >= min(number + 1, 5) * len(part))
        status, headers, body = await held[-1].answer()
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "2", "application/json")
        assert body["error"]["message"].endswith("ask again soon")
        assert ("type" in body) == path.startswith("/v1/messages")
        for each in held:
            await each.close()
        await until(lambda: bodies(app).total == 0)


async def test_who_announces_much_and_sends_nothing_takes_nothing(tmp_path: Path) -> None:
    async with bounded(tmp_path) as (url, app), aiohttp.ClientSession() as session:
        key = Keys(keys_path()).add("mallory")
        idle = [Upload(url, key, length=MIB) for _ in range(100)]
        await asyncio.gather(*(each.send(b"{") for each in idle))
        await until(lambda: bodies(app).total == 100)
        async with session.post(f"{url}/v1/chat/completions", json=ASKED, headers={"x-api-key": key}) as told:
            assert told.status == 200
        for each in idle:
            await each.close()


async def test_a_body_counts_until_its_run_has_ended(tmp_path: Path) -> None:
    async with bounded(tmp_path, text="So&first=0.5") as (url, app):
        body = json.dumps(ASKED).encode()
        asking = Upload(url, "none", length=len(body))
        await asking.send(body)
        await until(lambda: app.service().limiter.inside == 1)
        assert bodies(app).total == len(body)
        assert (await asking.answer())[0] == 200
        await asking.close()
        await until(lambda: bodies(app).total == 0)


async def test_limits_of_a_key_count_before_the_body(tmp_path: Path) -> None:
    async with bounded(tmp_path) as (url, _), aiohttp.ClientSession() as session:
        key = Keys(keys_path()).add("alice", at_once=1)
        first = Upload(url, key, length=len(json.dumps(ASKED)))
        await first.send(b"{")
        second = Upload(url, key)
        for _ in range(100):  # the first one may not have come in yet
            await second.send(b"{")
            status = asyncio.create_task(second.answer())
            await asyncio.wait([status], timeout=0.2)
            if status.done():
                break
            status.cancel()
            await second.close()
        assert status.result()[0] == 429
        await second.close()
        first.writer.write(json.dumps(ASKED).encode()[1:])
        assert (await first.answer())[0] == 200
        await first.close()
        async with session.post(f"{url}/v1/chat/completions", json=ASKED, headers={"x-api-key": key}) as told:
            assert told.status == 200


async def test_a_key_that_is_made_anew_begins_without_requests(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    limits = Limits()

    def made() -> Key:
        found = keys.find(keys.add("alice", requests_per_minute=1, at_once=1))
        assert found is not None
        keys.remove("alice")
        return found

    one, other = made(), made()
    async with limits.within(one):
        async with limits.within(other):
            pass
        with pytest.raises(ProblemError):
            async with limits.within(other):
                pass


async def test_a_body_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    async with bounded(tmp_path, Bounds(body_seconds=0.2)) as (url, app):
        slow = Upload(url, "none")
        await slow.send(b"{")
        assert (await slow.answer())[0] == 408
        await slow.close()
        assert bodies(app).total == 0


REFUSED: list[tuple[dict[str, str], bytes, int]] = [
    ({"content-encoding": "gzip"}, b"{}", 415),
    ({"content-encoding": "br, gzip"}, b"{}", 415),
    ({"content-type": "application/json; charset=utf-16"}, b"{}", 415),
    ({"content-type": "text/plain"}, b"{}", 400),
    ({}, b"[" * 300_000, 400),
    ({}, b"[" * 99 + b"{" * 99 + b"}" * 99 + b"]" * 99, 400),
    ({}, b"[" + b"[]," * 20_000 + b"[]]", 413),
    ({}, b'{"a":[' + b"1," * 20_000 + b"1]}", 413),
    ({}, b'{"a":"' + b"x" * 2 * MIB + b'"}', 413),
    ({}, b"\xff\xfe{}", 400),
    ({}, b'{"model":"\\ud800"}', 400),
    # What a decoder keeps as raw JSON is not checked by it: arguments, schemas, examples, and unknown fields.
    *(
        ({}, b'{"model":"three","max_tokens":9,' + fields % wrong + b"}", 400)
        for wrong in (b"\xed\xa0\x80", b"\xff", b"\xc3", b"\xf0\x9f\x98", b"\xc0\xaf")
        for fields in (
            (
                b'"messages":[{"role":"user","content":"t"},{"role":"assistant","content":'
                b'[{"type":"tool_use","id":"c","name":"f","input":{"a":"%s"}}]}]'
            ),
            b'"input":"?","messages":[{"role":"user","content":"?"}],"tools":[{"name":"f","input_schema":{"a":"%s"}}]',
            b'"messages":[{"role":"user","content":"?"}],"input":"?","unknown":{"a":"%s"}',
        )
    ),
    ({}, b"", 400),
]


@pytest.mark.parametrize(("headers", "data", "status"), REFUSED)
async def test_what_is_not_read_is_refused_in_the_form_of_the_api(
    tmp_path: Path, headers: dict[str, str], data: bytes, status: int
) -> None:
    bounds = Bounds(body_megabytes=2, body_values=10_000)
    async with bounded(tmp_path, bounds) as (url, app), aiohttp.ClientSession() as session:
        for path in BODIES:
            sent = {"content-type": "application/json", **headers}
            async with session.post(url + path, data=io.BytesIO(data), headers=sent) as told:
                body = await told.json()
            assert told.status == status, path
            assert body["error"]["message"]
            assert (body.get("type") == "error") == path.startswith("/v1/messages")
        await until(lambda: bodies(app).total == 0)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_utf_8_charset_and_no_encoding_are_declared_rightly(tmp_path: Path, path: str) -> None:
    headers = {"content-type": 'Application/JSON; Charset="UTF-8"', "content-encoding": "identity"}
    async with bounded(tmp_path) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(url + path, data=json.dumps(BODIES[path]), headers=headers) as told:
            assert told.status == 200


async def test_a_letter_may_be_split_over_pieces(tmp_path: Path) -> None:
    words = "é🜁" * 5000  # longer than what is measured at once, and split within letters by each odd size
    data = json.dumps({"model": "three", "messages": [{"role": "user", "content": words}]}, ensure_ascii=False).encode()

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async with bounded(tmp_path, Bounds()) as (url, _), aiohttp.ClientSession() as session:
        for size in (977, 8191, len(data)):
            sent = {"content-type": "application/json"}
            async with session.post(f"{url}/v1/chat/completions", data=pieces(size), headers=sent) as told:
                assert told.status == 200, await told.text()
