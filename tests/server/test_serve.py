"""`partsong serve` as a process of its own: it listens, answers, notices who leaves, and stops when it is told to."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import aiohttp
import pytest

from partsong.store import Search, open_store
from tests.serving import recipe_file
from tests.upstream import SILENCE, Server

QUESTION = {"model": "three", "stream": True, "messages": [{"role": "user", "content": "Is it so?"}]}


@contextmanager
def served(
    folder: Path,
    *arguments: str,
    program: Sequence[str] = ("-m", "partsong", "serve", "--port", "0"),
    read: bool = True,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address once it answers. Its log is read as it comes, or only after it has ended."""
    command = [sys.executable, *program, *arguments]
    environment = os.environ | {"PARTSONG_STATE": str(folder / "state")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)
    assert process.stderr is not None
    first = process.stderr.readline()
    reading = Thread(target=process.stderr.read)
    if read:
        reading.start()
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+", first)
        assert found is not None, first
        yield process, found[0]
    finally:
        process.terminate()
        process.wait(timeout=60)
        if read:
            reading.join()
        process.stderr.close()


async def ready(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(600):
        try:
            async with session.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("the server never answered")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_answers_and_ends_when_it_is_told_to(tmp_path: Path, workers: str) -> None:
    with served(tmp_path, "--recipe", recipe_file(tmp_path), "--workers", workers) as (process, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
            for _ in range(4):
                async with session.post(f"{url}/v1/chat/completions", json=QUESTION | {"stream": False}) as response:
                    answer = await response.json()
                assert answer["choices"][0]["message"]["content"] == "So it is"
                # Whichever process answers: a run is known to all.
                async with session.get(f"{url}/v1/runs/{answer['partsong']['run']}/events") as response:
                    assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 128 + signal.SIGTERM


async def test_a_run_that_goes_on_is_finished_before_it_ends(tmp_path: Path) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=20&each=0.1")
    with served(tmp_path, "--recipe", slow) as (process, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
            async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
                await response.content.readline()
                process.send_signal(signal.SIGTERM)
                assert (await response.content.read()).endswith(b"data: [DONE]\n\n")


async def test_a_run_that_does_not_end_is_cut_and_written_down(tmp_path: Path) -> None:
    (tmp_path / "partsong.toml").write_text("[server]\ndrain = 0.2\n", encoding="utf-8")
    endless = recipe_file(tmp_path, aggregator="scripted:z?tokens=100000&each=0.01")
    with served(tmp_path, "--recipe", endless) as (process, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
            async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
                first = await response.content.readline()
                process.send_signal(signal.SIGINT)
                rest = await response.content.read()
        assert b"the server was stopped before the run had ended" in rest
        assert await asyncio.to_thread(process.wait, 60) == 130
    run = json.loads(first.removeprefix(b"data: "))["id"].removeprefix("chatcmpl-")
    async with open_store(tmp_path / "state" / "journal.db", "full") as store:
        assert (await store.find_run(run)).status == "failed"  # and not "running" for ever


def lives(process: str) -> bool:
    """Whether the process has not ended, though nobody may have asked for its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="workers are found in /proc")
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_workers_whose_main_process_was_killed_finish_their_runs_and_end(tmp_path: Path, workers: str) -> None:
    recipe = recipe_file(tmp_path, aggregator="scripted:z?tokens=60&each=0.05")
    with served(tmp_path, "--recipe", recipe, "--workers", workers) as (process, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
                await response.content.readline()
                process.kill()
                assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        assert children
        while any(lives(child) for child in children):
            await asyncio.sleep(0.05)
    async with open_store(tmp_path / "state" / "journal.db") as store:
        (run,), _ = await store.search(Search(""))
    assert run.status == "finished"


async def test_a_log_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    unknown = QUESTION | {"model": "x" * 8192}  # its refusal is as long a line: 40 are more than a pipe takes in
    with served(tmp_path, "--recipe", recipe_file(tmp_path), read=False) as (process, url):
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            await ready(session, url)
            for _ in range(40):
                async with session.post(f"{url}/v1/chat/completions", json=unknown) as response:
                    assert response.status == 404
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 128 + signal.SIGTERM


async def test_idle_connections_leave_room_for_others(tmp_path: Path) -> None:
    with served(tmp_path, "--recipe", recipe_file(tmp_path)) as (_, url):
        port = int(url.rpartition(":")[2])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(1100)]
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(30):
                await ready(session, url)
        finally:
            for each in idle:
                each.close()


async def test_who_leaves_has_stopped_the_run(tmp_path: Path) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=100000&each=0.01")
    with served(tmp_path, "--recipe", slow) as (_, url):
        async with aiohttp.ClientSession() as session:
            await ready(session, url)
            async with session.post(f"{url}/v1/chat/completions", json=QUESTION) as response:
                first = await response.content.readline()
            run = json.loads(first.removeprefix(b"data: "))["id"].removeprefix("chatcmpl-")
            async with session.get(f"{url}/v1/runs/{run}/events") as response:
                told = await response.read()
    assert b"event: run_failed" in told
    assert b'"cancelled"' in told


async def test_who_leaves_has_closed_every_call_of_the_run(tmp_path: Path) -> None:
    async with Server(SILENCE) as upstream, aiohttp.ClientSession() as session:
        told = f'[providers.up]\napi = "openai"\nbase_url = "{upstream.url}/v1"\nfree = true\n'
        (tmp_path / "partsong.toml").write_text(told, encoding="utf-8")
        text = 'name = "three"\nlayers = [{ agents = ["up:a", "up:b", "up:c"] }]\naggregator = { model = "up:z" }\n'
        with served(tmp_path, "--recipe", recipe_file(tmp_path, text.replace("{", "{{").replace("}", "}}"))) as (
            _,
            url,
        ):
            await ready(session, url)
            asking = asyncio.create_task(session.post(f"{url}/v1/chat/completions", json=QUESTION))
            async with asyncio.timeout(30):
                while len(upstream.exchanges) < 3:
                    await asyncio.sleep(0.01)
                assert not any(exchange.left.is_set() for exchange in upstream.exchanges)
                asking.cancel()
                await asyncio.wait((asking,))
                for exchange in upstream.exchanges:
                    await exchange.left.wait()
            assert len(upstream.exchanges) == 3


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    with served(tmp_path, "--recipe", recipe_file(tmp_path)) as (_, url):
        asyncio.run(_until_ready(url))
        port = url.rpartition(":")[2]
        command = [sys.executable, "-m", "partsong", "serve", "--port", port]
        other = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert other.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on" in other.stderr


async def _until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        await ready(session, url)
