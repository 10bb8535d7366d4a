"""A server whose store is full, locked or damaged: it answers, it says so everywhere, and it finds out when it ends."""

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from partsong.configuration import Configuration, ModelSettings, Serving
from partsong.folders import keys_path, store_path
from partsong.keys import Keys
from partsong.server.application import Application
from tests.serving import recipe_file, serving

QUESTION = {"model": "three", "messages": [{"role": "user", "content": "Is it so?"}]}
BIG = {**QUESTION, "messages": [{"role": "user", "content": os.urandom(500_000).hex()}]}
WITHIN = 20.0  # seconds in which something must happen that takes a few at most


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the store and the keys of each test."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("PARTSONG_STATE", str(folder))
    return folder


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(session: aiohttp.ClientSession, url: str, body: Any = QUESTION, key: str = "") -> tuple[int, Any, float]:
    """The status, the response, and how many seconds it took."""
    began = time.monotonic()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        said = await response.json()
        return response.status, said, time.monotonic() - began


async def state_of(session: aiohttp.ClientSession, url: str) -> tuple[str, str, float]:
    """The state of the server, that of its store, and the gauge."""
    async with session.get(f"{url}/readyz") as response:
        assert response.status == 200
        ready = await response.json()
    async with session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    (gauge,) = (line for line in lines if line.startswith("partsong_store_failing"))
    return ready["status"], ready["store"], float(gauge.split()[1])


async def until_it_works(app: Application) -> None:
    async with asyncio.timeout(WITHIN):
        while app.service().store.health.failing is not None:
            await asyncio.sleep(0.05)


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the log about the store."""
    return [line for line in capfd.readouterr().err.splitlines() if "the store" in line]


@pytest.fixture(params=["limit", "disk"])
def full(request: pytest.FixtureRequest, state: Path) -> Iterator[Path]:
    """The folder of the store, without room for a megabyte: by a limit of the process, and by a disk that is full."""
    if request.param == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        yield state
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(state)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be made here")
    yield state
    subprocess.run(["umount", "-l", str(state)], check=True)


async def test_a_full_disk_is_told_and_its_end_too(
    full: Path, tmp_path: Path, session: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, app):
        status, said, _ = await ask(session, url)
        assert (status, "kept" in said["partsong"]) == (200, False)
        assert await state_of(session, url) == ("ready", "full", 0.0)
        for _ in range(3):
            status, said, _ = await ask(session, url, BIG)
            assert (status, said["partsong"]["kept"]) == (200, False)
            assert said["choices"][0]["message"]["content"] == "So it is"
        assert await state_of(session, url) == ("degraded", "failing", 1.0)
        if os.path.ismount(full):
            subprocess.run(["mount", "-o", "remount,size=64m", str(full)], check=True)
        else:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
            )
        await until_it_works(app)
        status, said, _ = await ask(session, url, BIG)
        assert (status, "kept" in said["partsong"]) == (200, False)
        assert (await app.service().store.runs(1))[0].status == "finished"
        assert await state_of(session, url) == ("ready", "full", 0.0)
    lines = told(capfd)
    assert len(lines) == 2, lines
    assert "not kept" in lines[0]
    assert str(store_path()) in lines[0]
    assert "works again" in lines[1]


async def test_a_stream_says_at_its_end_that_nothing_is_kept(
    full: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, _):
        async with session.post(f"{url}/v1/chat/completions", json={**BIG, "stream": True}) as response:
            chunks = [json.loads(line[6:]) async for line in response.content if line.startswith(b"data: {")]
        (report,) = (chunk["partsong"] for chunk in chunks if "partsong" in chunk)
        assert report["kept"] is False


async def test_a_locked_store_slows_a_request_by_a_second_at_most_and_caps_are_refused(
    tmp_path: Path, session: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving([recipe_file(tmp_path)]) as (url, app):
        _, _, usual = await ask(session, url)
        with closing(sqlite3.connect(store_path(), isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            took = [await ask(session, url) for _ in range(4)]
            assert [(status, said["partsong"]["kept"]) for status, said, _ in took] == [(200, False)] * 4
            assert sum(seconds for _, _, seconds in took) < 1.0 + 4 * usual + 0.5  # the first alone waits
            assert await state_of(session, url) == ("degraded", "failing", 1.0)
        await until_it_works(app)
        assert all(run.status == "finished" for run in await app.service().store.runs(5))  # a short lock loses no run
        assert len(await app.service().store.runs(10)) == 5
    assert len(told(capfd)) == 2


async def test_requests_under_a_cap_are_refused_while_the_store_is_locked_and_others_are_not(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    secrets = {name: Keys(keys_path()).add(name, dollars_per_day=dollars) for name, dollars in (("a", 5), ("b", None))}
    configuration = Configuration(models={"scripted:z?text=So+it+is": ModelSettings(None, Decimal(1), Decimal(1))})
    recipes = [recipe_file(tmp_path)]
    async with serving(recipes, configuration=configuration) as (url, app):
        assert [(await ask(session, url, key=secrets[name]))[0] for name in "ab"] == [200, 200]
        with closing(sqlite3.connect(store_path(), isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                status, said, seconds = await ask(session, url, key=secrets["a"])
                assert (status, said["error"]["code"]) == (503, "store")
                assert str(store_path()) not in json.dumps(said)
                assert seconds < 1.5
                assert (await ask(session, url, key=secrets["b"]))[0] == 200
        await until_it_works(app)
        assert (await ask(session, url, key=secrets["a"]))[0] == 200
        await asyncio.sleep(0)
        scope = f"key:{Keys(keys_path()).all()[0].owner}"
        left = await app.service().store.left({scope: Decimal(5)})
        assert left[scope] > Decimal("4.99")  # what was refused holds nothing


async def test_a_damaged_store_does_not_keep_the_server_from_starting(
    tmp_path: Path, session: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    store_path().write_bytes(b"Dear diary, " * 1000)
    async with serving([recipe_file(tmp_path)], server=Serving(workers=1)) as (url, app):
        status, said, seconds = await ask(session, url)
        assert (status, said["partsong"]["kept"]) == (200, False)
        assert seconds < 1.0 + WITHIN / 10
        assert await state_of(session, url) == ("degraded", "failing", 1.0)
        async with session.get(f"{url}/api/runs") as response:
            assert response.status == 503
        async with session.get(f"{url}/v1/runs/nothing/events") as response:
            assert response.status == 503
        store_path().rename(tmp_path / "damaged.db")
        await until_it_works(app)  # a new file is made
        status, said, _ = await ask(session, url)
        assert (status, "kept" in said["partsong"]) == (200, False)
        assert len(await app.service().store.runs(5)) == 1
    lines = told(capfd)
    assert len(lines) == 2, lines
    assert "move the file away" in lines[0]
    assert (tmp_path / "damaged.db").read_bytes() == b"Dear diary, " * 1000
