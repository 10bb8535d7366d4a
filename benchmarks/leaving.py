"""How soon the calls of a client that leaves are closed, as the upstream sees it.

    python benchmarks/leaving.py PORT [RUNS, 50]

PORT is that of the upstream, or 0 (see upstream.py); it must know models named `…-hang`, and count `calls` and
`closed_early` at `GET /stats`. Each run has three calls open when its client leaves `partsong serve`. The time measured
ends when the upstream has seen all three closed.
"""

import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import aiohttp
from server import PROPOSERS, QUESTION, free_port, new_loop, open_session, ready, running, write_configuration
from upstream import upstream

LONGEST = 10.0  # seconds, after which a call counts as left open


async def main(port: str, runs: str = "50") -> None:
    took = []
    with tempfile.TemporaryDirectory() as name, upstream(int(port)) as theirs:
        folder = Path(name)
        configuration = write_configuration(folder, theirs, "-hang")
        ours, mock = free_port(), f"http://127.0.0.1:{theirs}"
        url = f"http://127.0.0.1:{ours}"
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with running(serve, folder, PARTSONG_STATE=name):
            async with open_session() as session:
                await ready(partial(alive, session, url), folder)
                for _ in range(int(runs)):
                    calls, closed = await count(session, mock, "calls"), await count(session, mock, "closed_early")
                    async with open_session() as client:
                        body = {"model": "three", "stream": True, "messages": QUESTION}
                        asking = asyncio.create_task(post(client, f"{url}/v1/chat/completions", body))
                        await until(session, mock, "calls", calls + len(PROPOSERS))
                        left = time.perf_counter()
                        asking.cancel()
                        await asyncio.wait((asking,))
                    await until(session, mock, "closed_early", closed + len(PROPOSERS))
                    took.append((time.perf_counter() - left) * 1e3)
    took.sort()
    print(f"{len(took)} clients left; all three calls of each closed, as the upstream saw it, after")
    print(f"p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms, at most {took[-1]:.1f} ms")


async def count(session: aiohttp.ClientSession, mock: str, what: str) -> int:
    """One of the upstream's counts."""
    async with session.get(f"{mock}/stats") as response:
        return int((await response.json(content_type=None))[what])


async def until(session: aiohttp.ClientSession, mock: str, what: str, least: int) -> None:
    """Wait until a count of the upstream is at least so high. Raises `TimeoutError` after `LONGEST` seconds."""
    async with asyncio.timeout(LONGEST):
        while await count(session, mock, what) < least:
            await asyncio.sleep(0.001)


async def alive(session: aiohttp.ClientSession, url: str) -> float:
    """Ask the server whether it is ready. Raises `aiohttp.ClientError` if not."""
    async with session.get(f"{url}/readyz") as response:
        response.raise_for_status()
    return 0.0


async def post(client: aiohttp.ClientSession, url: str, body: dict[str, object]) -> None:
    async with client.post(url, json=body) as response:
        await response.read()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
