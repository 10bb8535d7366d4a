"""Many runs at once on one core: 3+1 calls each, with nobody listening to the proposals, and with everybody.

    python benchmarks/many.py PORT [SUFFIX, -t300-d20-n200] [AT ONCE, 1000] [SECONDS over which they arrive, 10]

An OpenAI-compatible server listens on 127.0.0.1:PORT and takes any model name; SUFFIX is put behind each name. The
runs arrive one after another and are all in flight before the first one ends. Time added to the first word is told
against the same calls made alone by a bare script. The server's process is held to one core; the load comes from this
process, on whatever is left of the machine.
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
    CONFIGURATION,
    LAST,
    PROPOSERS,
    QUESTION,
    RECIPE,
    bare,
    family,
    free_port,
    new_loop,
    open_session,
    ready,
    running,
    stream,
    used,
)

ALONE = 5  # bare runs, of which the middle one is the floor


async def ask(session: aiohttp.ClientSession, url: str, events: bool) -> float:
    """Ask for a stream, with the run's events if they are wanted. Seconds to the answer's first word."""
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
    upstream, number, pause = f"http://127.0.0.1:{port}/v1", int(at_once), float(within) / int(at_once)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe, configuration = folder / "three.toml", folder / "partsong.toml"
        agents = ", ".join(f'"mock:{agent}{suffix}"' for agent in PROPOSERS)
        recipe.write_text(RECIPE.format(agents=agents, last=f"{LAST}{suffix}"))
        configuration.write_text(CONFIGURATION.format(port=port, recipe=recipe))
        ours = free_port()
        url = f"http://127.0.0.1:{ours}/v1"
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with running(serve, folder, PARTSONG_STATE=name) as served:
            async with open_session() as session:
                await ready(lambda: stream(session, url, "three"), folder)
                for process in family(served):
                    os.sched_setaffinity(process, {0})
                    for thread in Path(f"/proc/{process}/task").iterdir():
                        os.sched_setaffinity(int(thread.name), {0})
                alone = sorted([await bare(session, upstream, suffix) for _ in range(ALONE)])[ALONE // 2]
                print(f"{number} runs over {within} s; the four calls alone: first word after {alone * 1e3:.0f} ms\n")
                print("| proposals | answered | p50 added ms | p99 added ms | CPU ms a run | seconds | MB |")
                print("| --- | --: | --: | --: | --: | --: | --: |")
                for watched in (False, True):
                    before, started = used(served)[0], time.perf_counter()
                    tasks = []
                    for at in range(number):
                        await asyncio.sleep(max(0.0, started + at * pause - time.perf_counter()))
                        tasks.append(asyncio.create_task(ask(session, url, watched)))
                    done = await asyncio.gather(*tasks, return_exceptions=True)
                    wall, (spent, memory) = time.perf_counter() - started, used(served)
                    firsts = sorted(each - alone for each in done if isinstance(each, float))
                    what = "watched" if watched else "unheard"
                    if not firsts:
                        raise RuntimeError(f"none was answered: {done[0]}")
                    p50, p99 = firsts[len(firsts) // 2] * 1e3, firsts[len(firsts) * 99 // 100] * 1e3
                    cpu = (spent - before) / number * 1e3
                    print(
                        f"| {what} | {len(firsts)} | {p50:.0f} | {p99:.0f} | {cpu:.1f} | {wall:.1f} "
                        f"| {memory / 1e6:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
