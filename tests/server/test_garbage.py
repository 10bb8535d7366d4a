"""A run that has ended leaves no cycle of references behind, however it ends.

A cycle lives until the garbage collector visits the oldest objects. The server lets the collector do this rarely, and
the frames of a run hold everything that its models have said.
"""

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import aiohttp
import pytest

from partsong.configuration import Provider, Serving
from partsong.server.application import Application
from tests.faults.cells import providers
from tests.faults.misbehaving import Stage
from tests.server.test_calls import failing
from tests.serving import recipe_file, serving
from tests.upstream import Reply, Server

WORDS = b'data: {"choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % (b"so it is " * 400)
PROPOSERS = '[[layers]]\nagents = ["scripted:a?text=So+it+is+so", "scripted:b?text=It+is+not+so"]\n'
VOTERS = '[[layers]]\nagents = ["scripted:a?text=1", "scripted:b?text=2", "scripted:c?text=3"]\n'
GOOD = '[aggregator]\nmodel = "scripted:z?text=It+is+so"\n'
BAD = '[aggregator]\nmodel = "scripted:z?fail=server"\n'
LOST = """deadline = 0.5
[[layers]]
agents = ["scripted:a?fail=server", "scripted:b?first=60", "scripted:c?text=So"]
[[layers]]
agents = ["scripted:d?fail=rate", {{ model = "scripted:e?fail=empty", fallback = "scripted:f?text=So" }}]
"""
RECIPES = {
    "breaks": f'{PROPOSERS}[aggregator]\nmodel = "scripted:z?text=So+it+is+and+so+on&fail=server&after=3"',
    "fails": PROPOSERS + BAD,
    "lost": LOST + GOOD,
    "all-lost": '[[layers]]\nagents = ["scripted:a?fail=server", "scripted:b?fail=auth"]\n' + GOOD,
    "strict": f"strict = true\n{LOST}{GOOD}",
    "late": f'deadline = 0.3\n{PROPOSERS}[aggregator]\nmodel = "scripted:z?first=60"',
    "resort": f'last_resort = "best_proposal"\n{PROPOSERS}{BAD}',
    "fallback": f'{PROPOSERS}[aggregator]\nmodel = "scripted:y?fail=server"\nfallback = "scripted:z?text=So"',
    "no-ranking": f'{PROPOSERS}[aggregator]\nmethod = "select"\nmodel = "scripted:z?text=none"',
    "analyst": f'{PROPOSERS}{GOOD}[analyst]\nmodel = "scripted:y?fail=server"',
    "analyst-unread": f'{PROPOSERS}{GOOD}[analyst]\nmodel = "scripted:y?text=no"\nfallback = "scripted:x?fail=rate"',
    "analyst-late": f'deadline = 0.4\n{PROPOSERS}{GOOD}[analyst]\nmodel = "scripted:y?first=60"',
    "quorum": '[[layers]]\nagents = ["scripted:a?text=So", "scripted:b?first=60"]\nquorum = 1\ngrace = 0.05\n' + GOOD,
    "vote": f'{VOTERS}[aggregator]\nmethod = "vote"\notherwise = "fail"',
    "poor": f'max_dollars = 0.000001\n[[layers]]\nagents = ["scripted:a?text=So&input=9&output=9"]\n{GOOD}',
}


@pytest.fixture
def left_behind() -> Iterator[Any]:
    """What only a cycle holds on to, of the objects and the frames of partsong."""
    gc.collect()
    gc.disable()

    def collect() -> list[str]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found = [name for each in gc.garbage if (name := of_partsong(each))]
        gc.garbage.clear()
        return found

    yield collect
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def of_partsong(value: object) -> str:
    if isinstance(value, FrameType):
        return value.f_code.co_qualname if value.f_globals.get("__name__", "").startswith("partsong") else ""
    kind = type(value)
    return kind.__qualname__ if kind.__module__.startswith("partsong") else ""


async def leave(url: str, model: str) -> None:
    """Ask for a stream, and hang up in the middle."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "Is it so?"}]}).encode()
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"{head}content-type: application/json\r\n\r\n".encode() + body)
    await asyncio.sleep(0.5)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def idle(app: Application) -> None:
    async with asyncio.timeout(30):
        while app.service().working:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


async def test_clients_that_leave_leave_nothing(tmp_path: Path, left_behind: Any) -> None:
    endless = Reply((WORDS,) * 100, content_type="text/event-stream", end="silence")
    waits = recipe_file(tmp_path, aggregator="scripted:z?first=60")
    async with Server(endless) as upstream:
        known = {"up": Provider(api="openai", base_url=f"{upstream.url}/v1", free=True)}
        async with serving([waits], providers=known, models=["up:z"]) as (url, app):
            await leave(url, "up:z")
            await idle(app)
            left_behind()
            for model in ("up:z", "three", "up:z"):
                await leave(url, model)
            await idle(app)
            assert left_behind() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_runs_that_end_leave_nothing(tmp_path: Path, left_behind: Any, stream: bool) -> None:
    recipes = [recipe_file(tmp_path)]
    for name, text in RECIPES.items():
        recipes.append(recipe_file(tmp_path, f'name = "{name}"\n{text}', name))
    async with serving(recipes) as (url, app), aiohttp.ClientSession() as session:
        for name in ("three", *RECIPES):
            for count in (1, 1, 2):
                body = {"model": name, "stream": stream, "messages": [{"role": "user", "content": "Is it so?"}]}
                async with session.post(f"{url}/v1/chat/completions", json={**body, "n": count}) as response:
                    assert response.status in (200, 400, 502, 504), await response.text()
                    await response.read()
            await idle(app)
            assert left_behind() == [], name


@pytest.mark.parametrize("place", ["proposers", "aggregator", "aggregator-resort"])
async def test_runs_with_faulty_upstreams_leave_nothing(tmp_path: Path, left_behind: Any, place: str) -> None:
    recipes = [each for each in failing(tmp_path) if Path(each).stem.endswith(f"-{place}")]
    async with Server(Stage()) as upstream, aiohttp.ClientSession() as session:
        known = providers({"p": upstream.url, "q": upstream.url}, silence=0.5)
        async with serving(recipes, providers=known, server=Serving(at_once=500)) as (url, app):

            async def ask(name: str) -> None:
                body = {"model": name, "stream": True, "messages": [{"role": "user", "content": "Is it so?"}]}
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    await response.read()

            left_behind()
            await asyncio.gather(*(ask(Path(recipe).stem) for recipe in recipes))
            await idle(app)
            assert left_behind() == []
