"""Thousands of runs on one server, with clients that leave and calls that fail: nothing is lost, mixed up or leaked.

    python benchmarks/soak.py [RUNS, 20000] [AT ONCE, 50]

The models of the upstream fail one call in twenty, and answer with the canaries of their prompts (see upstream.py).
`partsong serve` stands before it with a 3+1 recipe. Each question holds a canary of its own: its answer must hold that
canary, and no other. One client in twenty leaves in the middle. In the end every run is looked up in the store, and the
server's memory is compared with what it was after the first tenth.
"""

import asyncio
import json
import random
import resource
import secrets
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from server import free_port, new_loop, open_session, ready, running, used, write_configuration
from upstream import CANARY, upstream

from partsong.store import open_store

LEAVING = 0.05  # share of the clients
SUFFIX = "-echo-f5-d5"


async def ask(session: aiohttp.ClientSession, url: str, leaves: bool) -> tuple[str, str]:
    """Ask one question; return the way in which it ended, and the id of its run."""
    canary = f"canary-{secrets.token_hex(8)}"
    body = {"model": "three", "stream": True, "messages": [{"role": "user", "content": f"Say {canary}, please."}]}
    said, run = b"", ""
    async with session.post(f"{url}/chat/completions", json=body) as response:
        run = response.headers.get("x-partsong-run", "")
        async for data in response.content.iter_any():
            said += data
            if leaves and b'"content":"' in said:
                response.close()
                return "left", run
    if response.status != 200:
        return "failed", json.loads(said).get("partsong", {}).get("run", "")
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
    if any("error" in chunk for chunk in chunks):
        return "failed", run
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    if not said.endswith(b"data: [DONE]\n\n"):
        return "LOST", run
    return ("answered" if set(CANARY.findall(text)) == {canary} else "MIXED"), run


async def main(runs: str = "20000", at_once: str = "50") -> None:
    total, ended = int(runs), Ended()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, upstream(0) as theirs:
        folder = Path(name)
        configuration = write_configuration(folder, theirs, SUFFIX)
        ours = free_port()
        url = f"http://127.0.0.1:{ours}/v1"
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with running(serve, folder, PARTSONG_STATE=name) as served:
            async with open_session() as session:
                await ready(lambda: _listening(ours), folder)
                left, chance = iter(range(total)), random.Random(3)

                async def work() -> None:
                    for _ in left:
                        ended.count(*await ask(session, url, chance.random() < LEAVING))
                        if len(ended.ids) % max(1, total // 20) == 0:
                            ended.memory.append(used(served)[1])
                            print(
                                f"{len(ended.ids)} runs, {ended.memory[-1] / 1e6:.0f} MB, {dict(ended.ways)}",
                                flush=True,
                            )

                await asyncio.gather(*(work() for _ in range(int(at_once))))
        wall = time.monotonic() - started
        async with open_store(folder / "journal.db") as store:
            stored = {run.id: run.status for run in await store.runs(total + 10)}
    missing = [run for run in ended.ids if run not in stored]
    memory = ended.memory
    grown = memory[-1] / memory[1] - 1
    found = dict(Counter(stored.values()))
    print(f"\n{total} runs in {wall:.0f} s: {dict(ended.ways)}; in the store {len(stored)}, {found}")
    print(f"not in the store: {len(missing)}; memory after a tenth {memory[1] / 1e6:.0f} MB, now {grown:+.1%}")


@dataclass
class Ended:
    """The runs that have ended.

    ways: how many ended in each way
    ids: the id of each run
    memory: the server's memory in bytes, after each twentieth of all runs
    """

    ways: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def count(self, way: str, run: str) -> None:
        self.ways[way] += 1
        self.ids.append(run)


async def _listening(port: int) -> float:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError as problem:
        raise aiohttp.ClientConnectionError(str(problem)) from None
    return 0.0


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(*sys.argv[1:]))
