"""A thousand runs that are cancelled at any moment leave nothing behind: no task, no socket, no file, no memory."""

import asyncio
import contextlib
import gc
import os
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import partsong
from partsong import Agent, Aggregator, Configuration, Layer, Model, Recipe, asking
from partsong.configuration import Provider
from partsong.engine import perform
from partsong.events import AggregationDelta, AnyEvent, RunFailed, RunFinished
from partsong.store import Store, open_store
from tests.faults.speech import Chat, well
from tests.upstream import SILENCE, Exchange, Reply, Server, stream

RUNS, AT_ONCE = 1000, 100
ENDLESS = ("hung", "silent", "trickle")
KINDS = (*ENDLESS, "well")
LAYERS = tuple(Layer(tuple(Agent(f"lab:{kind}") for kind in KINDS)) for _ in range(2))
RECIPE = Recipe(
    "leaks", (Layer(LAYERS[0].agents, quorum=1, grace=0.02), LAYERS[1]), Aggregator("lab:well"), deadline=60
)
AFTERWARDS = Recipe("afterwards", (Layer((Agent("lab:well"),) * 2),), Aggregator("lab:well"))


def answer(exchange: Exchange) -> Reply:
    """By the model's name: nothing at all, silence after a word, a word now and then, or an answer."""
    asked = exchange.json
    wire = Chat(bool(asked.get("stream")))
    match asked["model"]:
        case "hung":
            return SILENCE
        case "silent":
            return stream(wire.opening(), wire.words("A word"), end="silence")
        case "trickle":
            ticks = [asyncio.Event() for _ in range(20)]
            for number, tick in enumerate(ticks):
                asyncio.get_running_loop().call_later(0.005 * number, tick.set)
            return stream(*(piece for tick in ticks for piece in (wire.words("word "), tick)), end="silence")
        case _:
            return well(wire, "An answer.")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def ours() -> Counter[str]:
    """How many values and objects of partsong's own types there are."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if str(kind.__module__).startswith("partsong")
    )


class Watcher:
    """Performs runs and cancels each at a moment of its own; counts how they ended."""

    def __init__(self, models: Mapping[str, Model], store: Store | None) -> None:
        self.models, self.store = models, store
        self.ends: Counter[str] = Counter()
        self.dice = random.Random(3)
        self.gate = asyncio.Semaphore(AT_ONCE)

    async def emit(self, event: AnyEvent) -> None:
        if isinstance(event, RunFailed | RunFinished):
            self.ends[event.error.cause if isinstance(event, RunFailed) else "finished"] += 1
        elif isinstance(event, AggregationDelta):
            await asyncio.sleep(0)

    async def perform_and_leave(self) -> None:
        async with self.gate:
            watch, after = self.dice.random() < 0.5, self.dice.random() * 0.15
            cache = None if self.store is None else self.dice.random() < 0.5
            run = asyncio.create_task(perform(RECIPE, asking("Why?"), self.models, self.emit, watch=watch, cache=cache))
            await asyncio.sleep(after)
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run

    async def perform(self, runs: int) -> None:
        await asyncio.gather(*(self.perform_and_leave() for _ in range(runs)))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
@pytest.mark.parametrize("kept", [False, True], ids=["no store", "store"])
async def test_cancelled_runs_leave_nothing(tmp_path: Path, kept: bool) -> None:
    tasks, files = len(asyncio.all_tasks()), open_files()
    async with Server(answer) as server, AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(tmp_path / "journal.db", "full")) if kept else None
        lab = Provider("openai", base_url=f"{server.url}/v1", concurrency=4 * AT_ONCE * len(KINDS))
        async with partsong.assemble(RECIPE.models, Configuration(providers={"lab": lab}), store=store) as models:
            await leave_nothing(Watcher(models, store), server, RUNS // 2 if kept else RUNS)
        del models
    gc.collect()
    async with asyncio.timeout(10):
        while open_files() > files or len(asyncio.all_tasks()) > tasks:
            await asyncio.sleep(0.01)


async def leave_nothing(watcher: Watcher, server: Server, runs: int) -> None:
    """Perform the runs, and see what is left of them while the connections are open."""
    files = open_files()
    await watcher.perform(100)  # what is made once is made now
    before = ours()
    await watcher.perform(runs)
    async with asyncio.timeout(10):
        for exchange in server.exchanges:
            if exchange.json["model"] in ENDLESS:
                await exchange.left.wait()  # the call is closed at the server, too
    # What is idle is kept for the next question; it is no more than was once in use at the same time.
    assert open_files() - files <= 2 * AT_ONCE * len(KINDS)
    grown = {kind: (before[kind], number) for kind, number in ours().items() if number > before[kind] + 50}
    assert not grown, "objects that grow with the number of runs"
    assert sum(watcher.ends.values()) == runs + 100, "every run says how it ended"
    assert set(watcher.ends) <= {"cancelled", "finished"}
    assert watcher.ends["cancelled"] > runs * 0.9
    async with asyncio.timeout(10):  # and the provider's gate is as free as before
        await asyncio.gather(*(partsong.run(AFTERWARDS, "Why?", watcher.models) for _ in range(AT_ONCE)))
