"""What a run costs beyond the bare calls: 3 x 2 + 1 streamed calls through partsong, every event heard by a listener.

    python benchmarks/overhead.py PORT [SUFFIX, e.g. -t300-d20] [RUNS AT ONCE] [RUNS] [--guarded] [--store=ADDRESS]

PORT is that of the upstream, or 0 (see upstream.py). SUFFIX is put behind the name of each model. With `--guarded`
every guard is on: prices, a budget for the run and for the day, first-token and silence limits, deadlines, quorum and
fallbacks, and a store on the disk that keeps every call and every event. ADDRESS is a PostgreSQL database
(postgresql://…) that is the store in place of this file.

Prints CPU milliseconds a run, runs a second, and the median time to the first piece of the final answer. A script that
makes the same seven calls with aiohttp and nothing else should print the same line, so that both can be run in turn:

    python benchmarks/versus.py 'python floor.py PORT' 'python benchmarks/overhead.py PORT --guarded'
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

from upstream import upstream

import partsong
from partsong.assembly import daily_funds
from partsong.configuration import ModelSettings, Provider
from partsong.events import AggregationDelta, AnyEvent
from partsong.money.funding import Funds
from partsong.store import Recorder, Store, open_store

QUESTION = "What are three fun things to do?"


def planned(port: int, suffix: str, guarded: bool) -> tuple[partsong.Recipe, partsong.Configuration]:
    """The recipe, and the configuration of its models."""
    names = [f"mock:{name}{suffix}" for name in "abcz"]
    url = f"http://127.0.0.1:{port}/v1"
    if not guarded:
        layer = partsong.Layer(tuple(partsong.Agent(name) for name in names[:3]))
        recipe = partsong.Recipe("overhead", (layer, layer), partsong.Aggregator(names[3]))
        return recipe, partsong.Configuration(providers={"mock": Provider("openai", url, concurrency=10_000)})
    agents = tuple(partsong.Agent(name, max_tokens=300, fallback=(names[3],)) for name in names[:3])
    layer = partsong.Layer(agents, quorum=3, grace=5, deadline=30)
    last = partsong.Aggregator(names[3], max_tokens=300, fallback=(names[0],))
    recipe = partsong.Recipe("overhead", (layer, layer), last, deadline=60, max_dollars=Decimal(1))
    price = ModelSettings(100_000, Decimal(1), Decimal(2))
    mock = Provider("openai", url, None, 10_000, first_token=20, silence=10, dollars_per_day=Decimal(10_000))
    return recipe, partsong.Configuration(providers={"mock": mock}, models=dict.fromkeys(names, price))


class Listener:
    """Hears one run: every event goes to the recorder, and `first` is when the answer began."""

    def __init__(self, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.first: float | None = None

    async def hear(self, event: AnyEvent) -> None:
        if self.recorder is not None:
            await self.recorder.hear(event)
        if self.first is None and type(event) is AggregationDelta:
            self.first = time.perf_counter()


async def main(port: int, suffix: str, at_once: int, runs: int, guarded: bool, address: str) -> None:
    recipe, configuration = planned(port, suffix, guarded)
    gate = asyncio.Semaphore(at_once)
    async with AsyncExitStack() as stack:
        store: Store | None = None
        funds: Funds | None = None
        if guarded:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store = await stack.enter_async_context(open_store(address or Path(folder) / "journal.db"))
            funds = daily_funds(configuration, store)
        models = await stack.enter_async_context(partsong.assemble(recipe.models, configuration, store=store))

        async def one() -> float:
            """Perform one run; return the seconds until its answer began."""
            listener = Listener(None if store is None else store.record())
            async with gate:
                started = time.perf_counter()
                await partsong.perform(recipe, partsong.asking(QUESTION), models, listener.hear, funds=funds)
            if listener.recorder is not None:
                await listener.recorder.close()
            assert listener.first is not None, "the run has no answer"
            return listener.first - started

        await one()
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        firsts = await asyncio.gather(*(one() for _ in range(runs)))
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = statistics.median(firsts) * 1e3
    print(f"cpu {cpu / runs * 1e3:.2f} ms a run, {runs / wall:.1f} runs/s, first piece {first:.1f} ms")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    guarded = "--guarded" in sys.argv
    address = "".join(word.removeprefix("--store=") for word in sys.argv if word.startswith("--store="))
    given, suffix, at_once, runs = (words + ["", "1", "50"][len(words) - 1 :])[:4]
    with upstream(int(given)) as port:
        performed = main(port, suffix, int(at_once), int(runs), guarded, address)
        try:
            import uvloop
        except ImportError:
            asyncio.run(performed)
        else:
            uvloop.run(performed)
