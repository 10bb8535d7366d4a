"""Many runs at once on one core: 3+1 calls each, first with nobody listening to the proposals, then with everybody.

    python benchmarks/many.py PORT [SUFFIX, -t300-d20-n200] [AT ONCE, 1000] [SECONDS over which they arrive, 10]

PORT is that of the upstream, or 0 (see upstream.py). SUFFIX is put behind the name of each model. The runs arrive one
after another, and all are under way before the first one ends. The time that the server adds to the first word is the
difference to a bare script that makes the same calls alone. The server's process is held to one core; the load comes
from this process, on what is left of the machine.
"""

import asyncio
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from server import (
    QUESTION,
    bare,
    family,
    free_port,
    new_loop,
    open_session,
    ready,
    running,
    stream,
    used,
    write_configuration,
)
from upstream import upstream

ALONE = 5  # bare runs, of which the middle one is the floor


async def ask(session: aiohttp.ClientSession, url: str, events: bool) -> float:
    """Ask for a streamed answer, with the run's events or without; return the seconds to its first word."""
    if not events:
        return await stream(session, url, "three")
    started, first, last = time.perf_counter(), 0.0, b""
    body = {"model": "three", "stream": True, "messages": QUESTION, "partsong": {"events": True}}
    async with session.post(f"{url}/chat/completions", json=body) as response:
        async for data in response.content.iter_any():
            if not first and b'"event":"aggregation_delta"' in data:
                first = time.perf_counter() - started
            if not first and b'"content":"' in data and b'"aggregation_started"' in last + data:
                first = time.perf_counter() - started
            last = (last + data)[-4096:]
    if response.status != 200 or b"[DONE]" not in last:
        raise RuntimeError(f"no answer from {url}: {response.status}, {last!r}")
    return first or time.perf_counter() - started


async def main(port: str, suffix: str = "-t300-d20-n200", at_once: str = "1000", within: str = "10") -> None:
    runs, seconds = int(at_once), float(within)
    with tempfile.TemporaryDirectory() as name, upstream(int(port)) as theirs:
        folder = Path(name)
        configuration = write_configuration(folder, theirs, suffix)
        ours = free_port()
        url = f"http://127.0.0.1:{ours}/v1"
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with running(serve, folder, PARTSONG_STATE=name) as served:
            async with open_session() as session:
                await ready(lambda: stream(session, url, "three"), folder)
                hold_to_one_core(served)
                times = [await bare(session, f"http://127.0.0.1:{theirs}/v1", suffix) for _ in range(ALONE)]
                alone = sorted(times)[ALONE // 2]
                print(f"{runs} runs over {within} s; the four calls alone: first word after {alone * 1e3:.0f} ms\n")
                print("| proposals | answered | p50 added ms | p99 added ms | CPU ms a run | seconds | MB |")
                print("| --- | --: | --: | --: | --: | --: | --: |")
                for watched in (False, True):
                    before, started = used(served)[0], time.perf_counter()
                    firsts = await arriving(session, url, runs, seconds / runs, watched)
                    wall, (spent, memory) = time.perf_counter() - started, used(served)
                    added = sorted((first - alone) * 1e3 for first in firsts)
                    what = "watched" if watched else "unheard"
                    p50, p99 = added[len(added) // 2], added[len(added) * 99 // 100]
                    cpu = (spent - before) / runs * 1e3
                    print(
                        f"| {what} | {len(added)} | {p50:.0f} | {p99:.0f} | {cpu:.1f} | {wall:.1f} "
                        f"| {memory / 1e6:.0f} |",
                        flush=True,
                    )


async def arriving(session: aiohttp.ClientSession, url: str, runs: int, pause: float, watched: bool) -> list[float]:
    """Start runs with a pause between them; return the seconds to the first word of those that were answered.

    Raises `RuntimeError` if none was.
    """
    started, tasks = time.perf_counter(), []
    for index in range(runs):
        await asyncio.sleep(max(0.0, started + index * pause - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(session, url, watched)))
    done = await asyncio.gather(*tasks, return_exceptions=True)
    firsts = [each for each in done if isinstance(each, float)]
    if not firsts:
        raise RuntimeError(f"none was answered: {done[0]}")
    return firsts


def hold_to_one_core(process: int) -> None:
    """Let a process and all its descendants run on the first core alone."""
    for each in family(process):
        os.sched_setaffinity(each, {0})
        for thread in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
