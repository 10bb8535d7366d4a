"""Two servers on one PostgreSQL, as on two hosts: what one of them knows, the other heeds."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.bounds import Bounds
from partsong.configuration import Configuration, ModelSettings, Provider
from partsong.folders import recipes_folder
from partsong.keys import make_key, read_keys, write_key
from partsong.store import open_store
from tests.postgres import PASSWORD, Cluster
from tests.server.test_serve import served
from tests.serving import THREE, recipe_file, serving
from tests.upstream import Exchange, Reply, Server, chat

SLOW = "scripted:slow?tokens=100000&each=0.01"
PAID = "scripted:paid?tokens=10&output=1000&first=0.02"  # a cent
PATIENT = Bounds(store_seconds=30.0)  # a busy machine must not count as a failure of the database
CHAT = "/v1/chat/completions"
WITHIN = 60.0  # seconds in which something must happen that takes a few at most


class Line:
    """A way to ask one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url

    async def ask(self, path: str, body: Any = None, key: str = "", method: str = "") -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        method = method or ("GET" if body is None else "POST")
        async with self.session.request(method, self.url + path, json=body, headers=headers) as response:
            said = await response.text()
            return response.status, json.loads(said) if said.startswith("{") else said


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    give_up = time.monotonic() + WITHIN
    while time.monotonic() < give_up:
        if found := await look():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it never happened")


def question(model: str = "three", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Is it so?"}], **more}


@pytest.fixture
def configuration(postgres: Cluster) -> Configuration:
    return Configuration(store=postgres.database(f"pair{uuid.uuid4().hex}"), bounds=PATIENT)


@asynccontextmanager
async def pair(configuration: Configuration, folder: Path) -> AsyncIterator[tuple[Line, Line]]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        urls = []
        for _ in range(2):
            context = serving([recipe_file(folder)], configuration=configuration, models=[SLOW, PAID])
            urls.append((await stack.enter_async_context(context))[0])
        yield Line(session, urls[0]), Line(session, urls[1])


async def add_key(configuration: Configuration, name: str, **limits: Any) -> str:
    key, secret = make_key(name, **limits)
    async with open_store(configuration.store) as store:
        assert await store.add_key(name, write_key(key))
    return secret


async def command(folder: Path, configuration: Configuration, *arguments: str) -> tuple[int, str]:
    """What `partsong keys` does on another host: its exit code and what it says."""
    file = folder / "other.toml"
    file.write_text(f'store = "{configuration.store}"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "partsong", "keys", *arguments, "--config", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert PASSWORD not in said.decode()
    return process.returncode or 0, said.decode()


async def test_a_key_that_is_added_on_one_host_is_valid_on_all(configuration: Configuration, tmp_path: Path) -> None:
    async with pair(configuration, tmp_path) as lines:

        async def statuses(secret: str = "") -> list[int]:
            return [(await line.ask("/v1/models", key=secret))[0] for line in lines]

        assert await statuses() == [200, 200]
        code, said = await command(tmp_path, configuration, "add", "guest")
        assert code == 0
        secret = next(word for word in said.split() if word.startswith("ps-"))
        assert await statuses(secret) == [200, 200]  # at once
        await until(lambda: _is(statuses, [401, 401]))
        assert 'there is a key "guest" already' in (await command(tmp_path, configuration, "add", "guest"))[1]
        assert "guest" in (await command(tmp_path, configuration))[1]
        other = await add_key(configuration, "other")
        assert await command(tmp_path, configuration, "remove", "guest") == (0, "")
        await until(lambda: _is(lambda: statuses(secret), [401, 401]))
        assert await statuses(other) == [200, 200]
        code, said = await command(tmp_path, configuration, "remove", "guest")
        assert code
        assert 'there is no key "guest"; known: other' in said


async def _is(look: Callable[[], Awaitable[Any]], wanted: Any) -> bool:
    return bool(await look() == wanted)


async def test_the_limits_of_a_key_are_those_of_both(configuration: Configuration, tmp_path: Path) -> None:
    async with pair(configuration, tmp_path) as lines:
        often = await add_key(configuration, "often", requests_per_minute=4)
        said = [(await line.ask(CHAT, question(), often))[0] for line in lines * 3]
        assert said == [200] * 4 + [429] * 2
        poor = await add_key(configuration, "poor", dollars_per_day=Decimal("0.02"))
        said = [(await line.ask(CHAT, question(PAID, max_tokens=10), poor))[0] for line in lines * 2]
        assert said == [200, 200, 402, 402]
        busy = await add_key(configuration, "busy", at_once=1)
        here, there = lines
        headers = {"authorization": f"Bearer {busy}"}
        body = question(SLOW, stream=True)
        async with here.session.post(here.url + CHAT, json=body, headers=headers) as stream:
            assert stream.status == 200
            await stream.content.readline()
            assert (await there.ask(CHAT, question(), busy))[0] == 429


async def test_one_goes_on_from_what_the_other_has_answered(configuration: Configuration, tmp_path: Path) -> None:
    async with pair(configuration, tmp_path) as (here, there):
        status, first = await here.ask("/v1/responses", {"model": "three", "input": "Is it so?", "temperature": 0})
        assert status == 200
        more = {"model": "three", "input": "And now?", "previous_response_id": first["id"]}
        status, second = await there.ask("/v1/responses", more)
        assert status == 200
        status, told = await here.ask(f"/v1/runs/{second['id'].removeprefix('resp_')}/events")
        assert "So it is" in told
        assert "event: run_finished" in told
        status, shown = await there.ask(f"/v1/responses/{first['id']}")
        assert (status, shown["status"]) == (200, "completed")
        again = question(temperature=0)
        assert (await here.ask(CHAT, again))[0] == 200
        status, answer = await there.ask(CHAT, again)
        assert status == 200
        async with open_store(configuration.store) as store:
            run = await store.run(answer["partsong"]["run"])
        assert run is not None
        assert run.stored == 1  # the aggregator, whose temperature is 0
        status, _ = await there.ask(f"/v1/responses/{first['id']}", method="DELETE")
        assert status == 200
        assert (await here.ask(f"/v1/responses/{first['id']}"))[0] == 404


async def test_equal_calls_at_the_same_time_on_two_hosts_are_made_once(
    configuration: Configuration, tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()

    async def answer(number: int, line: Line) -> tuple[int, Any]:
        body = question("lab:a", temperature=0) | {"messages": [{"role": "user", "content": f"Number {number}?"}]}
        return await line.ask(CHAT, body)

    gate = asyncio.Event()

    def count(exchange: Exchange) -> Reply:
        asked[exchange.json["messages"][-1]["content"]] += 1
        if len(asked) == 20:
            gate.set()  # until then no call ends
        said = chat("Because.")(exchange)
        pieces = said.body if isinstance(said.body, tuple) else (said.body,)
        return replace(said, body=(gate, *pieces))

    async with Server(count) as server:
        providers = {"lab": Provider("openai", f"{server.url}/v1")}
        several = Configuration(
            store=configuration.store, providers=providers, models={"lab:a": ModelSettings()}, bounds=PATIENT
        )
        async with pair(several, tmp_path) as lines:
            said = await asyncio.gather(*(answer(number, line) for number in range(20) for line in lines * 2))
    assert {status for status, _ in said} == {200}
    assert len(asked) == 20
    assert set(asked.values()) == {1}


async def test_one_follows_lists_and_stops_a_run_that_the_other_performs(
    configuration: Configuration, tmp_path: Path
) -> None:
    async with pair(configuration, tmp_path) as (here, there):
        body = {"model": SLOW, "input": "Is it so?", "background": True}
        status, started = await here.ask("/v1/responses", body)
        assert status == 200
        run = started["id"].removeprefix("resp_")

        async def followed() -> bool:
            status, shown = await there.ask(f"/v1/responses/{started['id']}")
            return status == 200 and bool(shown["status"] == "in_progress")

        await until(followed)
        async with there.session.get(f"{there.url}/v1/runs/{run}/events") as events:
            assert (await events.content.readline()).startswith(b"event: run_started")
        status, listed = await there.ask("/api/runs")
        assert run in json.dumps(listed)
        status, cancelled = await there.ask(f"/v1/responses/{started['id']}/cancel", {})
        assert (status, cancelled["status"]) == (200, "cancelled")

        status, started = await there.ask("/v1/responses", body)
        run = started["id"].removeprefix("resp_")
        assert (await here.ask(f"/v1/runs/{run}/stop", {}))[0] in (200, 404)

        async def stopped() -> bool:
            await here.ask(f"/v1/runs/{run}/stop", {})
            return bool((await here.ask(f"/v1/responses/{started['id']}"))[1]["status"] == "cancelled")

        await until(stopped)
        assert (await here.ask(f"/v1/runs/{run}/stop", {}))[0] == 404
        assert (await here.ask("/v1/runs/nobody/stop", {}))[0] == 404


async def test_no_key_stops_the_run_of_another_key(configuration: Configuration, tmp_path: Path) -> None:
    async with pair(configuration, tmp_path) as (here, there):
        mine, theirs = await add_key(configuration, "mine"), await add_key(configuration, "theirs")
        body = {"model": SLOW, "input": "Is it so?", "background": True}
        status, started = await here.ask("/v1/responses", body, mine)
        assert status == 200
        run = started["id"].removeprefix("resp_")

        async def known() -> bool:
            return (await there.ask(f"/v1/responses/{started['id']}", key=mine))[0] == 200

        await until(known)
        assert (await there.ask(f"/v1/runs/{run}/stop", {}, theirs))[0] == 404
        assert (await there.ask(f"/v1/responses/{started['id']}/cancel", {}, theirs))[0] == 404
        assert (await there.ask(f"/v1/responses/{started['id']}", key=mine))[1]["status"] == "in_progress"
        assert (await there.ask(f"/v1/responses/{started['id']}/cancel", {}, mine))[1]["status"] == "cancelled"


CAP = Decimal(5)  # dollars, for 500 runs
RUNS, AT_ONCE, KILL_AFTER = 640, 8, 150


async def test_two_servers_of_which_one_is_killed_never_pass_a_cap(
    configuration: Configuration, tmp_path: Path
) -> None:
    """Two real servers are sent more runs than the cap allows, and one of them is killed in the middle."""
    file = tmp_path / "partsong.toml"
    file.write_text(
        f'store = "{configuration.store}"\ndollars_per_day = {CAP}\n[bounds]\nstore_seconds = 30\n[models."{PAID}"]\n'
    )
    said: Counter[int] = Counter()
    answered: dict[int, int] = {0: 0, 1: 0}
    numbers = iter(range(RUNS))
    with ExitStack() as stack:
        named = ("--config", str(file), "--recipe", recipe_file(tmp_path))
        folders = [tmp_path / name for name in ("one", "other")]
        for folder in folders:
            folder.mkdir()
        servers = [stack.enter_context(served(folder, *named)) for folder in folders]
        async with aiohttp.ClientSession() as session, open_store(configuration.store) as store:
            lines = [Line(session, url) for _, url in servers]

            async def client(index: int) -> None:
                for number in numbers:
                    body = question(PAID, max_tokens=10, user=str(number))
                    try:
                        status, _ = await lines[index].ask(CHAT, body)
                    except (aiohttp.ClientError, json.JSONDecodeError):
                        said[0] += 1  # it was under way
                        return
                    said[status] += 1
                    answered[index] += status == 200
                    if status == 200 and index == 1 and answered[1] == KILL_AFTER:
                        kill_tree(servers[1][0])
                    if status == 200 and number % 50 == 0:
                        assert (await store.left({"": CAP}))[""] >= 0

            await asyncio.gather(*(client(index) for index in (0, 1) for _ in range(AT_ONCE)))
            assert answered[1] >= KILL_AFTER
            assert said[0] <= AT_ONCE
            assert set(said) <= {0, 200, 402}
            assert 500 - 2 * AT_ONCE <= said[200] <= 500
            await asyncio.sleep(0)

            # What the dead server held comes free by itself, without what it had begun.
            async def settled() -> bool:
                return not await live_holds(configuration.store)

            began = time.monotonic()
            await until(settled)
            assert time.monotonic() - began < 30 + WITHIN  # the lease is 20 seconds of the database's clock
            left = (await store.left({"": CAP}))[""]
            lost = said[0]
            assert CAP - Decimal(said[200] + lost) / 100 <= left <= CAP - Decimal(said[200]) / 100
            # The other one goes on until the cap is reached.
            while (await lines[0].ask(CHAT, question(PAID, max_tokens=10)))[0] == 200:
                said[200] += 1
            assert said[200] + lost >= 500 >= said[200]
            assert (await store.left({"": CAP}))[""] < Decimal("0.01")


async def live_holds(address: str) -> list[Any]:
    import psycopg

    def look() -> list[Any]:
        with psycopg.connect(address) as connection:
            query = "SELECT id FROM partsong.holds WHERE until > extract(epoch FROM clock_timestamp())"
            return connection.execute(query).fetchall()

    return await asyncio.to_thread(look)


def kill_tree(process: "subprocess.Popen[str]") -> None:
    """Kill the server with its workers, as the end of their host would."""
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, workers)):
        os.kill(pid, signal.SIGKILL)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the workers of a server are found in /proc")


async def test_without_the_database_limits_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    from tests import postgres as postgresql

    if (why := postgresql.missing()) is not None:
        pytest.skip(why)
    with postgresql.cluster() as cluster:
        configuration = Configuration(store=cluster.database("gone"), bounds=PATIENT)
        async with pair(configuration, tmp_path) as (here, there):
            free = await add_key(configuration, "free")
            poor = await add_key(configuration, "poor", dollars_per_day=1)
            often = await add_key(configuration, "often", requests_per_minute=1000)
            paid = question(PAID, max_tokens=10)

            answers: Counter[str] = Counter()

            async def status_of(line: Line, key: str) -> int:
                status, _ = await line.ask(CHAT, paid, key)
                answers[key] += status == 200
                return status

            async def statuses(line: Line) -> list[int]:
                return [await status_of(line, key) for key in (free, poor, often)]

            assert await statuses(here) == await statuses(there) == [200] * 3
            status, kept = await here.ask("/v1/responses", {"model": "three", "input": "Is it so?"}, free)
            await asyncio.to_thread(cluster.stop)
            for line in (here, there):
                status, answer = await line.ask(CHAT, paid, free)
                assert (status, answer["partsong"]["kept"]) == (200, False)
                assert await statuses(line) == [200, 503, 503]
                status, told = await line.ask(CHAT, paid, poor)
                assert PASSWORD not in json.dumps(told)
                status, ready = await line.ask("/readyz")
                assert (status, ready["store"]) == (200, "failing")
                unknown, _ = await line.ask(CHAT, paid, "ps-unknown")
                assert unknown == 401
            await asyncio.to_thread(cluster.start)
            for line in (here, there):
                await until(lambda line=line: _is(lambda: statuses(line), [200] * 3))  # type: ignore[misc]
                status, ready = await line.ask("/readyz")
                assert ready["status"] == "ready"
                more = {"model": "three", "input": "And now?", "previous_response_id": kept["id"]}
                assert (await line.ask("/v1/responses", more, free))[0] == 200
            spent = Decimal("0.01") * answers[poor]
            async with open_store(configuration.store) as store:
                known = read_keys(await store.read_keys(), "the database")
                owner = next(key.owner for key in known if key.name == "poor")
                scope = f"key:{owner}"
                assert await store.left({scope: Decimal(1)}) == {scope: 1 - spent}


async def test_a_recipe_that_is_saved_changed_or_deleted_on_one_host_is_so_on_all(
    configuration: Configuration, tmp_path: Path
) -> None:
    text = THREE.replace('"three"', '"mine"').format(aggregator="scripted:z?text=So+it+is")
    changed = text.replace(', "scripted:c?text=three"', "")
    async with pair(configuration, tmp_path) as (one, other):
        status, saved = await one.ask("/api/recipes/mine", {"toml": text}, method="PUT")
        assert (status, saved) == (200, {"name": "mine", "path": None, "restart": False, "lasts": True})
        assert not recipes_folder().exists()
        status, answer = await other.ask(CHAT, question("mine"))
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "So it is")
        _, shown = await other.ask("/api/recipes/mine")
        assert (shown["toml"], shown["saved"], shown["unusable"]) == (text, True, None)
        about = (await other.ask("/api/about"))[1]
        assert "mine" in {recipe["name"] for recipe in about["recipes"]}
        status, refused = await other.ask("/api/recipes/mine", {"toml": changed}, method="PUT")
        assert (status, refused["error"]["param"]) == (409, "replace")
        assert (await one.ask("/api/recipes/mine"))[1]["toml"] == text
        status, _ = await other.ask("/api/recipes/mine", {"toml": changed, "replace": True}, method="PUT")
        assert status == 200

        async def heard() -> bool:
            calls: int = (await one.ask("/v1/models/mine"))[1]["partsong"]["calls"]
            return calls == 3

        await until(heard)
        async with pair(configuration, tmp_path) as (third, _):  # a server that starts later
            assert (await third.ask(CHAT, question("mine")))[0] == 200
        assert (await one.ask("/api/recipes/mine", method="DELETE"))[0] == 200
        assert (await other.ask("/api/recipes/mine"))[0] == 404

        async def gone() -> bool:
            return (await other.ask(CHAT, question("mine")))[0] == 404

        await until(gone)
        listed = [(await line.ask("/v1/models"))[1]["data"] for line in (one, other)]
        assert [[entry["id"] for entry in entries] for entries in listed] == [["three"], ["three"]]


async def test_a_shared_recipe_gives_no_server_models_that_its_requests_may_not_name(
    configuration: Configuration, tmp_path: Path
) -> None:
    text = THREE.replace('"three"', '"mine"').format(aggregator="scripted:z?text=mine+alone")
    models = ["scripted:z?text=mine+alone"]
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        files = [recipe_file(tmp_path)]
        urls = [
            (await stack.enter_async_context(serving(files, configuration=configuration, models=named)))[0]
            for named in (models, [])
        ]
        one, other = (Line(session, url) for url in urls)
        assert (await one.ask("/api/recipes/mine", {"toml": text}, method="PUT"))[0] == 200
        assert (await one.ask(CHAT, question("mine")))[0] == 200
        status, refused = await other.ask(CHAT, question("mine"))
        assert status == 503
        assert "may be asked over the server only if" in refused["error"]["message"]
        assert (await other.ask("/api/recipes/mine"))[1]["toml"] == text
        assert (await other.ask("/api/recipes/three", method="DELETE"))[0] == 409
        hiding = text.replace('"mine"', '"three"')
        assert (await one.ask("/api/recipes/three", {"toml": hiding, "replace": True}, method="PUT"))[0] == 409
