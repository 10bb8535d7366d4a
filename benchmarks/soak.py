"""Thousands of runs on one server, with clients that leave and calls that fail: nothing is lost, mixed up or leaked.

    python benchmarks/soak.py [RUNS, 20000] [AT ONCE, 50]

It starts an upstream of its own that says what it was told and fails one call in twenty, and `partsong serve` with a
3+1 recipe before it. Each question holds a word of its own (a canary); an answer must hold it, and nobody else's. One
client in twenty leaves in the middle. In the end every run is looked up in the store, and the server's memory is
compared with what it was after the first tenth.
"""

import asyncio
import json
import random
import re
import resource
import secrets
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web
from server import CONFIGURATION, LAST, PROPOSERS, RECIPE, free_port, new_loop, open_session, ready, running, used

from partsong.store import open_store

FAILING = LEAVING = 0.05
CANARY = re.compile(r"canary-[0-9a-f]{16}")


async def upstream(port: int) -> None:
    """Says the canaries of the last message, in some pieces if it is to stream; fails one call in twenty."""
    chance = random.Random(7)

    async def complete(request: web.Request) -> web.StreamResponse:
        if chance.random() < FAILING:
            return web.json_response({"error": {"message": "no"}}, status=chance.choice((400, 500, 503)))
        asked = await request.json()
        said = " ".join(sorted(set(CANARY.findall(json.dumps(asked["messages"])))))
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            return web.json_response({"id": "c", "model": "said", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for at in range(0, len(said), 4):
            delta = {"id": "c", "choices": [{"index": 0, "delta": {"content": said[at : at + 4]}}]}
            await response.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
            await asyncio.sleep(0.005)
        end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
        await response.write(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def ask(session: aiohttp.ClientSession, url: str, leaves: bool) -> tuple[str, str]:
    """Ask one question; how that ended, and the run's id."""
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
    total, chance = int(runs), random.Random(3)
    ends: Counter[str] = Counter()
    ids: list[str] = []
    memory: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "up").mkdir()
        recipe, configuration = folder / "three.toml", folder / "partsong.toml"
        recipe.write_text(RECIPE.format(agents=", ".join(f'"mock:{agent}"' for agent in PROPOSERS), last=LAST))
        theirs, ours = free_port(), free_port()
        configuration.write_text(CONFIGURATION.format(port=theirs, recipe=recipe))
        url, started = f"http://127.0.0.1:{ours}/v1", time.monotonic()
        script = ["soak", "upstream", str(theirs)]
        serve = ["partsong", "serve", "--port", str(ours), "--config", str(configuration)]
        with (
            running(script, folder / "up", PYTHONPATH=str(Path(__file__).parent)),
            running(serve, folder, PARTSONG_STATE=name) as served,
        ):
            async with open_session() as session:
                await ready(lambda: _listening(theirs), folder / "up")
                await ready(lambda: _listening(ours), folder)
                left = iter(range(total))

                async def work() -> None:
                    for _ in left:
                        end, run = await ask(session, url, chance.random() < LEAVING)
                        ends[end] += 1
                        ids.append(run)
                        if len(ids) % max(1, total // 20) == 0:
                            memory.append(used(served)[1])
                            print(f"{len(ids)} runs, {memory[-1] / 1e6:.0f} MB, {dict(ends)}", flush=True)

                await asyncio.gather(*(work() for _ in range(int(at_once))))
        wall = time.monotonic() - started
        async with open_store(folder / "journal.db") as store:
            stored = {run.id: run.status for run in await store.runs(total + 10)}
    missing = [run for run in ids if run not in stored]
    grown = memory[-1] / memory[1] - 1
    print(f"\n{total} runs in {wall:.0f} s: {dict(ends)}; in the store {len(stored)}, {dict(Counter(stored.values()))}")
    print(f"not in the store: {len(missing)}; memory after a tenth {memory[1] / 1e6:.0f} MB, now {grown:+.1%}")


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
        if sys.argv[1:2] == ["upstream"]:
            runner.run(upstream(int(sys.argv[2])))
        else:
            runner.run(main(*sys.argv[1:]))
