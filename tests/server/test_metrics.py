"""What Prometheus reads of the server: by its own parser, with keys, and added up over processes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from partsong.cli.main import run
from partsong.folders import keys_path
from partsong.keys import Keys
from tests.server.test_serve import ready, served
from tests.serving import recipe_file, serving

QUESTION = {"model": "three", "messages": [{"role": "user", "content": "Is it so?"}]}


@pytest.fixture(autouse=True)
def _no_keys_are_left() -> Iterator[None]:
    yield
    keys_path().unlink(missing_ok=True)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def numbers(session: aiohttp.ClientSession, url: str) -> Numbers:
    async with session.get(f"{url}/metrics") as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/plain")
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Numbers, name: str, **labels: str) -> float:
    return sum(
        value for (each, its), value in found.items() if each == f"partsong_{name}" and set(labels.items()) <= its
    )


async def ask(session: aiohttp.ClientSession, url: str, **fields: object) -> int:
    async with session.post(f"{url}/v1/chat/completions", json=QUESTION | fields) as response:
        await response.read()
        return response.status


async def test_runs_calls_tokens_dollars_and_losses_are_counted(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    priced = """
name = "three"
[[layers]]
agents = ["scripted:a?text=one+and+two&input=1&output=2", "scripted:b?fail=auth"]
[aggregator]
model = "scripted:z?text=So+it+is&input=1&output=2"
"""
    async with serving([recipe_file(tmp_path, priced)]) as (url, _):
        assert await ask(session, url) == 200
        assert await ask(session, url, stream=True) == 200
        assert await ask(session, url, model="nothing") == 404
        found = await numbers(session, url)
    assert of(found, "runs_total", api="chat", recipe="three", end="finished") == 2
    assert of(found, "refused_total", api="chat", status="404") == 1
    assert of(found, "calls_total", model="scripted:a?text=one+and+two&input=1&output=2") == 2
    assert of(found, "tokens_total", kind="output", model="scripted:z?text=So+it+is&input=1&output=2") == 6
    assert of(found, "dollars_total") > 0
    assert of(found, "losses_total", model="scripted:b?fail=auth", kind="failed", cause="auth") == 2
    assert of(found, "run_seconds_count", recipe="three") == 2
    assert of(found, "first_word_seconds_count", recipe="three") == 1
    assert of(found, "runs_open") == of(found, "requests_open") == 0


async def test_what_is_open_is_seen_and_who_leaves_is_counted(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    slow = recipe_file(tmp_path, aggregator="scripted:z?tokens=1000&each=0.05")
    async with serving([slow]) as (url, _):
        async with session.post(f"{url}/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
            await response.content.readline()
            assert of(await numbers(session, url), "runs_open") == 1
            response.close()
        for _ in range(200):
            found = await numbers(session, url)
            if of(found, "runs_open") == 0:
                break
            await asyncio.sleep(0.02)
    assert of(found, "runs_open") == 0
    assert of(found, "runs_total", end="cancelled") == 1


async def test_labels_do_not_grow_with_what_callers_send(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    async with serving([recipe_file(tmp_path)], models=["scripted:one?text=1", "scripted:two?text=2"]) as (url, _):
        assert await ask(session, url, model="scripted:one?text=1") == 200
        assert await ask(session, url, model="scripted:two?text=2") == 200
        found = await numbers(session, url)
    assert of(found, "runs_total", recipe="other") == 2
    assert {value for _, its in found for label, value in its if label == "model"} == {"other"}


async def test_with_keys_only_one_of_its_own_reads_them_and_that_does_nothing_else(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    keys = Keys(keys_path())
    alice, scraper = keys.add("alice"), keys.add("prometheus", metrics=True)
    async with serving([recipe_file(tmp_path)]) as (url, _):
        for secret, path, status in (
            (scraper, "/metrics", 200),
            (scraper, "/v1/models", 403),
            (alice, "/metrics", 403),
            (alice, "/v1/models", 200),
            ("wrong", "/metrics", 401),
        ):
            async with session.get(url + path, headers={"Authorization": f"Bearer {secret}"}) as response:
                assert response.status == status, (path, await response.text())


def test_a_key_for_metrics_has_no_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "prometheus", "--metrics", "--at-once", "1"]) == 2
    assert "leave those away" in capsys.readouterr().err
    assert run(["keys", "add", "prometheus", "--metrics"]) == 0
    assert run(["keys", "list"]) == 0
    assert "/metrics alone" in capsys.readouterr().out


async def test_processes_add_up_what_they_count(tmp_path: Path) -> None:
    with served(tmp_path, "--recipe", recipe_file(tmp_path), "--workers", "2") as (_, url):
        for _ in range(12):  # a connection each, so that both get some
            async with aiohttp.ClientSession() as session:
                await ready(session, url)
                assert await ask(session, url) == 200
        for _ in range(4):
            async with aiohttp.ClientSession() as session:
                found = await numbers(session, url)
                assert of(found, "runs_total", end="finished") == 12
                assert of(found, "runs_open") == 0
