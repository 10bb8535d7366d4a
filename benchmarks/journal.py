"""What the store costs: how long it blocks the event loop, and how long it takes to find what it has kept.

    python benchmarks/journal.py [CALLS A SECOND, 1000] [SECONDS, 5] [ENTRIES, 10000]

First, calls are kept at this rate: 4 kB asked and 4 kB answered, no two alike. Meanwhile a task that sleeps for half a
millisecond measures how late it wakes up. The line above, without any call, is this machine's own noise. Then a file is
filled with runs and calls, and the list of runs and the look-up of a call are timed. The bars are 5 ms, 0.2 s and 1 ms.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from partsong import Agent, Aggregator, Answer, Layer, Recipe, Request, Sampling, Text, Usage, asking
from partsong.events import (
    AggregationStarted,
    AnyEvent,
    CallFinished,
    LayerFinished,
    LayerStarted,
    ProposalFinished,
    ProposalStarted,
    RunFinished,
    RunStarted,
)
from partsong.model import NOTHING_USED
from partsong.store import Call, Store, call_key, open_store

LOOK = 0.0005  # seconds
WORDS = [f"{chr(97 + number % 26)}{number:x}" for number in range(4000)]  # prose shrinks a little better than this


def text(chance: random.Random, size: int = 4000) -> str:
    return " ".join(chance.choices(WORDS, k=size // 4))[:size]


def call(chance: random.Random, number: int) -> Call:
    request = Request(asking(text(chance)).messages, sampling=Sampling(0.0), sample=number)
    answer = Answer((Text(text(chance)),), "stop", Usage(1000, 1000), "bench")
    return Call(call_key("bench:a", request), "bench:a", request, answer, time.time(), 1.5, 0.2)


async def lags(seconds: float) -> list[float]:
    """How many seconds late the loop was, each time."""
    late = []
    end = time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        await asyncio.sleep(LOOK)
        late.append(time.perf_counter() - before - LOOK)
    return sorted(late)


async def paced(rate: int, seconds: float, act: Callable[[int], Awaitable[None]]) -> list[float]:
    """Do something `rate` times a second; how many seconds each took, sorted."""
    took: list[float] = []

    async def one(number: int) -> None:
        before = time.perf_counter()
        await act(number)
        took.append(time.perf_counter() - before)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            if (early := began + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.create_task(one(number))
    return sorted(took)


def told(what: str, times: list[float]) -> None:
    middle, high = statistics.median(times) * 1e3, times[int(len(times) * 0.999)] * 1e3
    print(f"{what:<44} median {middle:6.2f} ms   99.9 % {high:6.2f} ms   worst {times[-1] * 1e3:6.2f} ms")


async def writing(folder: Path, rate: int, seconds: float) -> None:
    chance = random.Random(1)
    calls = [call(chance, number) for number in range(int(rate * seconds))]

    async def nothing(_: int) -> None:
        await asyncio.sleep(0)

    async with open_store(folder / "writing.db") as store:
        for what, act in (("nothing", nothing), (f"{rate:,} calls/s", lambda number: store.keep_call(calls[number]))):
            looking = asyncio.create_task(lags(seconds))
            before, cpu = time.perf_counter(), time.process_time()
            took = await paced(rate, seconds, act)
            used = (time.process_time() - cpu) / (time.perf_counter() - before)
            told(f"loop late, keeping {what} (cpu {used:.0%})", await looking)
        told("a call kept", took)


async def reading(folder: Path, entries: int) -> None:
    chance = random.Random(2)
    async with open_store(folder / "reading.db") as store:
        calls = [call(chance, number) for number in range(entries)]
        await asyncio.gather(*(store.keep_call(each) for each in calls))
        began = time.perf_counter()
        for number in range(0, entries, 100):
            await asyncio.gather(*(record(store, at) for at in range(number, min(number + 100, entries))))
        took = time.perf_counter() - began
    print(
        f"{entries:,} runs of 3 seats recorded in {took:.1f} s, {(folder / 'reading.db').stat().st_size / 1e6:.0f} MB"
    )
    async with open_store(folder / "reading.db") as store:
        for limit in (20, entries):
            before = time.perf_counter()
            found = await store.runs(limit)
            print(f"history of {len(found):,} of {entries:,} runs: {(time.perf_counter() - before) * 1e3:.1f} ms")
        times = []
        for each in chance.sample(calls, min(1000, entries)):
            before = time.perf_counter()
            assert await store.find_call(each.key) == each.answer
            times.append(time.perf_counter() - before)
        told(f"a look-up among {entries:,} calls", sorted(times))
        before = time.perf_counter()
        await store.events(found[-1].id)
        print(f"the events of a run: {(time.perf_counter() - before) * 1e3:.1f} ms")


async def record(store: Store, number: int) -> None:
    recipe = Recipe("bench", (Layer((Agent("bench:a", samples=3),)),), Aggregator("bench:z"))
    answer = Answer((Text("Because the air scatters blue light more than red."),), usage=Usage(100, 12))
    events: list[AnyEvent] = [RunStarted(recipe, asking(f"Why is the sky blue? ({number})"))]
    events.append(LayerStarted(0, ("bench:a",) * 3))
    events += [ProposalStarted(0, seat, "bench:a") for seat in range(3)]
    for seat in range(3):
        called = CallFinished(0, seat, "bench:a", 0.0, 1.5, answer.usage)
        events += [called, ProposalFinished(0, seat, answer, "bench:a")]
    events += [
        LayerFinished(0, 3),
        AggregationStarted("bench:z"),
        CallFinished(1, 0, "bench:z", 1.5, 1.5, answer.usage),
    ]
    events.append(RunFinished(answer, NOTHING_USED, model="bench:z"))
    recorder = store.record()
    for event in events:
        await recorder.hear(event)
    await recorder.close()


async def main(rate: int, seconds: float, entries: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await writing(Path(folder), rate, seconds)
        await reading(Path(folder), entries)


if __name__ == "__main__":
    rate, seconds, entries = (sys.argv[1:] + ["1000", "5", "10000"][len(sys.argv) - 1 :])[:3]
    asyncio.run(main(int(rate), float(seconds), int(entries)))
