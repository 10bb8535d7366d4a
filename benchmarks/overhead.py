"""What a run costs beyond the bare calls: 3 x 2 + 1 streamed calls through partsong, every event heard by a listener.

    python benchmarks/overhead.py PORT [SUFFIX, e.g. -t300-d20] [RUNS AT ONCE] [RUNS] [--guarded]

An OpenAI-compatible server listens on 127.0.0.1:PORT and takes any model name; SUFFIX is put behind each name. With
`--guarded` every guard is on: prices, a budget for the run and for the day, first-token and silence limits, deadlines,
quorum and fallbacks, and a store on the disk that keeps every call and every event. Prints CPU milliseconds a run, runs
a second and the median time to the first piece of the final answer, on the same line as a script that makes the same
seven calls with aiohttp and nothing else would, so that the two can be run in turn:

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

import partsong
from partsong.assembly import daily_funds
from partsong.configuration import ModelSettings, Provider
from partsong.events import AggregationDelta, AnyEvent
from partsong.money.funding import Funds
from partsong.store import Store, open_store

QUESTION = "What are three fun things to do?"


async def main(port: str, suffix: str = "", at_once: int = 1, runs: int = 50, guarded: bool = False) -> None:
    names = [f"mock:{name}{suffix}" for name in "abcz"]
    url = f"http://127.0.0.1:{port}/v1"
    if guarded:
        agents = tuple(partsong.Agent(name, max_tokens=300, fallback=(names[3],)) for name in names[:3])
        layer = partsong.Layer(agents, quorum=3, grace=5, deadline=30)
        last = partsong.Aggregator(names[3], max_tokens=300, fallback=(names[0],))
        recipe = partsong.Recipe("overhead", (layer, layer), last, deadline=60, max_dollars=Decimal(1))
        price = ModelSettings(100_000, Decimal(1), Decimal(2))
        mock = Provider("openai", url, None, 10_000, first_token=20, silence=10, dollars_per_day=Decimal(10_000))
        configuration = partsong.Configuration(providers={"mock": mock}, models=dict.fromkeys(names, price))
    else:
        layer = partsong.Layer(tuple(partsong.Agent(name) for name in names[:3]))
        recipe = partsong.Recipe("overhead", (layer, layer), partsong.Aggregator(names[3]))
        mock = Provider("openai", url, concurrency=10_000)
        configuration = partsong.Configuration(providers={"mock": mock})
    gate = asyncio.Semaphore(at_once)
    firsts: list[float] = []

    async with AsyncExitStack() as stack:
        store: Store | None = None
        funds: Funds | None = None
        if guarded:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store = await stack.enter_async_context(open_store(Path(folder) / "journal.db"))
            funds = daily_funds(configuration, store)
        models = await stack.enter_async_context(partsong.assemble(recipe.models, configuration, store=store))

        async def one() -> None:
            spoke = False
            recorder = None if store is None else store.record()

            async def emit(event: AnyEvent) -> None:
                nonlocal spoke
                if recorder is not None:
                    await recorder.hear(event)
                if not spoke and type(event) is AggregationDelta:
                    spoke = True
                    firsts.append(time.perf_counter() - started)

            async with gate:
                started = time.perf_counter()
                await partsong.perform(recipe, partsong.asking(QUESTION), models, emit, funds=funds)
            if recorder is not None:
                await recorder.close()

        await one()
        firsts.clear()
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(runs)))
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = statistics.median(firsts) * 1e3
    print(f"cpu {cpu / runs * 1e3:.2f} ms a run, {runs / wall:.1f} runs/s, first piece {first:.1f} ms")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--guarded"]
    guarded = "--guarded" in sys.argv
    port, suffix, at_once, runs = (words + ["", "1", "50"][len(words) - 1 :])[:4]
    performed = main(port, suffix, int(at_once), int(runs), guarded)
    try:
        import uvloop
    except ImportError:
        asyncio.run(performed)
    else:
        uvloop.run(performed)
