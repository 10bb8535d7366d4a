"""How soon a client that leaves has ended its calls: the upstream's own count of connections that were closed early.

    python benchmarks/leaving.py PORT [RUNS, 50]

A server that counts (`GET /stats` with `calls` and `closed_early`, as JSON) and that lets a model named `…-hang` never
answer listens on 127.0.0.1:PORT. Each run has three calls in flight when its client leaves; the time is that until the
upstream has seen all three closed, as `partsong serve` on granian does it.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from server import CONFIGURATION, LAST, PROPOSERS, QUESTION, RECIPE, free_port, new_loop, open_session, ready, running

LONGEST = 10.0  # seconds, after which it says that calls were left open


async def main(port: str, runs: str = "50") -> None:
    mock = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe, configuration = folder / "three.toml", folder / "partsong.toml"
        agents = ", ".join(f'"mock:{agent}-hang"' for agent in PROPOSERS)
        recipe.write_text(RECIPE.format(agents=agents, last=f"{LAST}-hang"))
        configuration.write_text(CONFIGURATION.format(port=port, recipe=recipe))
        ours = free_port()
        url = f"http://127.0.0.1:{ours}"
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with running(serve, folder, PARTSONG_STATE=name):
            async with open_session() as session:

                async def count(what: str) -> int:
                    async with session.get(f"{mock}/stats") as response:
                        return int((await response.json(content_type=None))[what])

                async def until(what: str, number: int) -> None:
                    async with asyncio.timeout(LONGEST):
                        while await count(what) < number:
                            await asyncio.sleep(0.001)

                async def alive() -> float:
                    async with session.get(f"{url}/readyz") as response:
                        response.raise_for_status()
                    return 0.0

                await ready(alive, folder)
                took = []
                for _ in range(int(runs)):
                    calls, closed = await count("calls"), await count("closed_early")
                    async with open_session() as client:
                        body = {"model": "three", "stream": True, "messages": QUESTION}
                        asking = asyncio.create_task(_post(client, f"{url}/v1/chat/completions", body))
                        await until("calls", calls + len(PROPOSERS))
                        left = time.perf_counter()
                        asking.cancel()
                        await asyncio.wait((asking,))
                    await until("closed_early", closed + len(PROPOSERS))
                    took.append((time.perf_counter() - left) * 1e3)
    took.sort()
    print(f"{len(took)} clients left; all three calls of each closed, as the upstream saw it, after")
    print(f"p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms, at most {took[-1]:.1f} ms")


async def _post(client: aiohttp.ClientSession, url: str, body: dict[str, object]) -> None:
    async with client.post(url, json=body) as response:
        await response.read()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
