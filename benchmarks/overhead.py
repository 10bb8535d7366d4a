"""What a run costs beyond the bare calls: 3 x 2 + 1 streamed calls through partsong, every event heard by a listener.

    python benchmarks/overhead.py PORT [SUFFIX, e.g. -t300-d20] [RUNS AT ONCE] [RUNS]

An OpenAI-compatible server listens on 127.0.0.1:PORT and takes any model name; SUFFIX is put behind each name. Prints
CPU milliseconds a run, runs a second and the median time to the first piece of the final answer, on the same line as a
script that makes the same seven calls with aiohttp and nothing else would, so that the two can be run in turn:

    python benchmarks/versus.py 'python floor.py PORT' 'python benchmarks/overhead.py PORT'
"""

import asyncio
import resource
import statistics
import sys
import time

import partsong
from partsong.configuration import Provider
from partsong.events import AggregationDelta, AnyEvent

QUESTION = "What are three fun things to do?"


async def main(port: str, suffix: str = "", at_once: int = 1, runs: int = 50) -> None:
    layer = partsong.Layer(tuple(partsong.Agent(f"mock:{name}{suffix}") for name in "abc"))
    recipe = partsong.Recipe("overhead", (layer, layer), partsong.Aggregator(f"mock:z{suffix}"))
    mock = Provider("openai", f"http://127.0.0.1:{port}/v1", concurrency=10_000)
    gate = asyncio.Semaphore(at_once)
    firsts: list[float] = []

    async with partsong.assemble(recipe.models, partsong.Configuration(providers={"mock": mock})) as models:

        async def one() -> None:
            spoke = False

            async def emit(event: AnyEvent) -> None:
                nonlocal spoke
                if not spoke and type(event) is AggregationDelta:
                    spoke = True
                    firsts.append(time.perf_counter() - started)

            async with gate:
                started = time.perf_counter()
                await partsong.perform(recipe, partsong.asking(QUESTION), models, emit)

        await one()
        firsts.clear()
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await asyncio.gather(*(one() for _ in range(runs)))
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    first = statistics.median(firsts) * 1e3
    print(f"cpu {cpu / runs * 1e3:.2f} ms a run, {runs / wall:.1f} runs/s, first piece {first:.1f} ms")


if __name__ == "__main__":
    port, suffix, at_once, runs = (sys.argv[1:] + ["", "1", "50"][len(sys.argv) - 2 :])[:4]
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(port, suffix, int(at_once), int(runs)))
    else:
        uvloop.run(main(port, suffix, int(at_once), int(runs)))
