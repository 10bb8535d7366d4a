"""What serving a mixture costs: 200-token streamed answers of a 3+1 recipe, by `partsong serve` as its clients see it.

    python benchmarks/server.py PORT [AT ONCE] [RUNS] [SUFFIX, e.g. -t300-d20-n200]

An OpenAI-compatible server listens on 127.0.0.1:PORT and takes any model name; SUFFIX is put behind each name. Prints
the server's CPU milliseconds a run (all its processes, from /proc), runs a second, the time to the first word, and the
memory of an open stream; and beside it, in the same run, what the same four calls cost a script with aiohttp alone
(three plain, one streamed).
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

NAMES = "abcz"
RECIPE = """
name = "three"
[[layers]]
agents = [{agents}]
[aggregator]
model = "mock:z{suffix}"
"""
CONFIGURATION = """
[providers.mock]
api = "openai"
base_url = "http://127.0.0.1:{port}/v1"
concurrency = 10000
[server]
recipes = ["{recipe}"]
at_once = 10000
"""
QUESTION = [{"role": "user", "content": "What are three fun things to do?"}]


def used(process: int) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process and its children."""
    seconds, size = 0.0, 0
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for each in (process, *map(int, children)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        size += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return seconds, size


async def stream(session: aiohttp.ClientSession, url: str, model: str) -> float:
    """Ask for a stream, and read it to its end; seconds to the first word."""
    started, first = time.perf_counter(), 0.0
    body = {"model": model, "stream": True, "messages": QUESTION}
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        last = b""
        async for data in response.content.iter_any():
            if not first and b'"content":"' in data.replace(b'"content":""', b""):
                first = time.perf_counter() - started
            last = data
    if response.status != 200 or b"[DONE]" not in last:
        raise RuntimeError(f"no answer: {response.status}, {last[-200:]!r}")
    return first


async def bare(session: aiohttp.ClientSession, url: str, suffix: str) -> float:
    """The same four calls, and nothing else."""

    async def plain(name: str) -> None:
        body = {"model": f"{name}{suffix}", "messages": QUESTION}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            await response.read()

    await asyncio.gather(*(plain(name) for name in NAMES[:3]))
    return await stream(session, url, f"z{suffix}")


async def main(port: str, at_once: int, runs: int, suffix: str) -> None:
    gate = asyncio.Semaphore(at_once)

    async def gated(run: "asyncio.Future[float] | object") -> float:
        async with gate:
            return await run  # type: ignore[misc, no-any-return]

    with tempfile.TemporaryDirectory() as folder:
        agents = ", ".join(f'"mock:{name}{suffix}"' for name in NAMES[:3])
        recipe = Path(folder) / "three.toml"
        recipe.write_text(RECIPE.format(agents=agents, suffix=suffix))
        configuration = Path(folder) / "partsong.toml"
        configuration.write_text(CONFIGURATION.format(port=port, recipe=recipe))
        command = [sys.executable, "-m", "partsong", "serve", "--port", "0", "--config", str(configuration)]
        environment = os.environ | {"PARTSONG_STATE": folder}
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert server.stderr is not None
            url = server.stderr.readline().split()[1].removesuffix("/v1")
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                while True:
                    try:
                        await stream(session, url, "three")
                        break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.1)
                await asyncio.gather(*(gated(stream(session, url, "three")) for _ in range(min(runs, at_once))))
                before, size = used(server.pid)
                started = time.perf_counter()
                running = [asyncio.create_task(gated(stream(session, url, "three"))) for _ in range(runs)]
                peak = size
                while not all(task.done() for task in running):
                    await asyncio.sleep(0.2)
                    peak = max(peak, used(server.pid)[1])
                firsts = sorted(task.result() for task in running)
                wall, after = time.perf_counter() - started, used(server.pid)[0]
                own = resource.getrusage(resource.RUSAGE_SELF)
                floor_firsts = sorted(
                    await asyncio.gather(
                        *(gated(bare(session, f"http://127.0.0.1:{port}", suffix)) for _ in range(runs))
                    )
                )
                done = resource.getrusage(resource.RUSAGE_SELF)
        finally:
            server.terminate()
            server.wait(60)
    cpu = (after - before) / runs * 1e3
    floor = (done.ru_utime + done.ru_stime - own.ru_utime - own.ru_stime) / runs * 1e3
    p99 = firsts[int(len(firsts) * 0.99)] * 1e3
    print(
        f"{at_once} at once: cpu {cpu:.1f} ms a run (bare four calls {floor:.1f}, ratio {cpu / floor:.2f}), "
        f"{runs / wall:.1f} runs/s, first word median {statistics.median(firsts) * 1e3:.0f} ms, p99 {p99:.0f} ms "
        f"(bare, of the last call alone: {statistics.median(floor_firsts) * 1e3:.0f} ms), "
        f"peak memory {peak / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    words = sys.argv[1:] + ["", "1", "50", "-n200"][len(sys.argv) - 1 :]
    asyncio.run(main(words[0], int(words[1]), int(words[2]), words[3]))
