"""Thousands of runs on one server, one in twenty of them by an attacker: no honest run is lost, mixed up or slowed down.

    python benchmarks/soak.py [RUNS, 20000] [AT ONCE, 50] [RATIO, most p99 with attackers over p99 without, 1.5]

`partsong serve` (one worker, keys, a store) has a recipe of two scripted proposers and a scripted aggregator, which
answer with what they are told. Each honest question holds a marker of its own: its answer must hold this marker and no
other, and so must the run in the store. A run may be missing in the store only if its answer says so, as while the disk
is full. The attackers are those of attackers.py, with the upstream of hostile.py.

Blocks without attackers (calm) and blocks with them take turns. The ratio is the median over all pairs of a calm block
and the attacked block after it, so that what else happens on the machine touches both alike. With a RATIO of 0 nothing
is said about the time: for machines that are busy with other programs.

The exit status is 1 if an honest run is lost or mixed up, if the server's worker has died, or if the ratio is higher.
"""

import asyncio
import json
import random
import re
import resource
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from attackers import Target, attack
from attacks import hostile, peak
from server import family, free_port, new_loop, ready, running

from partsong.keys import Keys
from partsong.store import open_store

ATTACKING = 0.05  # share of the runs in a block with attackers
PAIRS = 8  # of a calm block and an attacked one, which has four times as many runs
STREAMED = 4  # one honest run in so many is streamed
READ = 20  # one run in so many is read from the store with all its events
MARKER = re.compile(r"marker-[0-9a-f]{16}")
FILES = """
name = "honest"
[[layers]]
agents = ["scripted:a?echo=true", "scripted:b?echo=true"]
[aggregator]
model = "scripted:z?echo=true"
"""
CONFIGURATION = """
[providers.hostile]
api = "openai"
base_url = "http://127.0.0.1:{port}/v1"
concurrency = 10000
[server]
recipes = ["{recipe}"]
"""


class Line:
    """A connection of an honest caller, which asks again and again. It costs little of the machine."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> tuple[int, str, bytes]:
        """The status, the id of the run, and the body of the response."""
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        head_said = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head_said.decode("latin-1").lower().split("\r\n")[1:] if line)
        run = re.search(rb"(?i)\r\nx-partsong-run: (\S+)", head_said)
        said = b""
        if "content-length" in fields:
            said = await self.reader.readexactly(int(fields["content-length"]))
        else:
            while size := int(await self.reader.readline(), 16):
                said += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        return int(head_said[9:12]), "" if run is None else run[1].decode(), said

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass
class Ended:
    """What came of the runs.

    ways: how many honest runs ended in each way
    attacks: how many attacks there were of each kind
    kept: marker of each honest run that must be in the store, by the id of the run
    unkept: number of honest runs whose answers said that they are not kept
    """

    ways: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    kept: dict[str, str] = field(default_factory=dict)
    unkept: int = 0


async def ask(line: Line, ended: Ended, streamed: bool) -> float:
    """Ask one honest question, note what came of it, and return the seconds that it took."""
    marker = f"marker-{secrets.token_hex(8)}"
    question = {"role": "user", "content": f"{marker}: is it so?"}
    body = {"model": "honest", "stream": streamed, "messages": [question], "partsong": {"events": False}}
    began = time.perf_counter()
    try:
        status, run, said = await line.post(json.dumps(body).encode())
    except (OSError, asyncio.IncompleteReadError, ValueError) as problem:
        line.close()
        ended.ways[f"LOST: {type(problem).__name__}"] += 1
        return time.perf_counter() - began
    took = time.perf_counter() - began
    if status != 200 or (streamed and not said.endswith(b"data: [DONE]\n\n")):
        ended.ways[f"LOST: {status} {said[:100]!r}"] += 1
    elif set(MARKER.findall(text_of(said, streamed))) != {marker}:
        ended.ways["MIXED"] += 1
    else:
        ended.ways["answered"] += 1
    if b'"kept":false' in said:
        ended.unkept += 1
    else:
        ended.kept[run] = marker
    return took


def text_of(said: bytes, streamed: bool) -> str:
    if not streamed:
        return str(json.loads(said)["choices"][0]["message"]["content"])
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


async def block(runs: int, attackers: int, at_once: int, keys: list[str], target: Target, ended: Ended) -> list[float]:
    """Do so many honest runs and attacks in a random order; return the seconds of each honest run."""
    turns = [True] * attackers + [False] * runs
    target.chance.shuffle(turns)
    left, took = iter(enumerate(turns)), list[float]()

    async def work(key: str) -> None:
        line = Line(target.port, key)
        for number, attacking in left:
            if attacking:
                ended.attacks[await attack(target)] += 1
            else:
                took.append(await ask(line, ended, number % STREAMED == 0))
        line.close()

    await asyncio.gather(*(work(keys[index % len(keys)]) for index in range(at_once)))
    return sorted(took)


def p99(took: list[float]) -> float:
    return took[len(took) * 99 // 100]


async def soak(runs: int, at_once: int, target: Target, keys: list[str], ended: Ended) -> list[float]:
    """Do all blocks, and return the ratio of each pair."""
    ratios = []
    attacked = runs // PAIRS
    await block(attacked // 4, 0, at_once, keys, target, Ended())  # until everything is warm
    for pair in range(PAIRS):
        calm = await block(attacked // 4, 0, at_once, keys, target, ended)
        attackers = round(attacked * ATTACKING)
        under = await block(attacked - attackers, attackers, at_once, keys, target, ended)
        ratios.append(p99(under) / p99(calm))
        print(
            f"pair {pair + 1}: p50 / p99 calm {calm[len(calm) // 2] * 1e3:.0f} / {p99(calm) * 1e3:.0f} ms, attacked "
            f"{under[len(under) // 2] * 1e3:.0f} / {p99(under) * 1e3:.0f} ms, ratio {ratios[-1]:.2f}; "
            f"worker {peak(target.worker) / 1e6:.0f} MB at most",
            flush=True,
        )
    return ratios


async def missing_in(path: Path, ended: Ended) -> list[str]:
    """The honest runs that are not in the store as they were, each with the reason."""
    with closing(sqlite3.connect(path)) as store:
        found = {
            run: (question, status) for run, question, status in store.execute("SELECT id, question, status FROM runs")
        }
    wrong = [
        f"{run}: {found.get(run)}"
        for run, marker in ended.kept.items()
        if run not in found or set(MARKER.findall(found[run][0])) != {marker} or found[run][1] != "finished"
    ]
    async with open_store(path) as store:
        for run, marker in [*ended.kept.items()][::READ]:
            events = repr(await store.events(run))
            if set(MARKER.findall(events)) != {marker}:
                wrong.append(f"{run}: its events have {set(MARKER.findall(events))}")
    return wrong


async def main(runs: str = "20000", at_once: str = "50", most: str = "1.5") -> int:
    ended, began = Ended(), time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe, configuration = folder / "honest.toml", folder / "partsong.toml"
        recipe.write_text(FILES)
        configuration.write_text(CONFIGURATION.format(port=stack.enter_context(hostile()), recipe=recipe))
        made = Keys(folder / "keys.json")
        keys = [made.add(f"honest{index}") for index in range(3)]
        port = free_port()
        words = ["partsong", "serve", "--port", str(port), "--config", str(configuration)]
        served = stack.enter_context(running(words, folder, PARTSONG_STATE=str(folder)))
        async with aiohttp.ClientSession() as session:

            async def listening() -> float:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    response.raise_for_status()
                return 0.0

            await ready(listening, folder)
        worker = list(family(served))[1]
        target = Target(port, made.add("attacker"), worker, folder / "journal.db", random.Random(3))
        ratios = await soak(int(runs), int(at_once), target, keys, ended)
        alive = Path(f"/proc/{worker}").exists()
        memory = peak(worker) if alive else 0
        log = (folder / "written").read_text(errors="replace")
        wrong = await missing_in(folder / "journal.db", ended)
    ratio = statistics.median(ratios)
    lost = ended.ways.total() - ended.ways["answered"]
    print(f"\n{ended.ways.total()} honest runs and {ended.attacks.total()} attacks in {time.monotonic() - began:.0f} s")
    print(f"ended: {dict(ended.ways.most_common(5))}; attacks: {dict(ended.attacks)}")
    print(f"not kept, and told so: {ended.unkept}; wrong in the store: {len(wrong)} {wrong[:3]}")
    print(
        f"worker: {memory / 1e6:.0f} MB at most, {'alive' if alive else 'DEAD'}; tracebacks: {log.count('Traceback')}"
    )
    print(f"p99 with attackers / p99 without, median of the pairs: {ratio:.2f}")
    slow = 0 < float(most) < ratio
    return int(bool(lost or wrong or not alive or slow or "Traceback" in log))


if __name__ == "__main__":
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        sys.exit(runner.run(main(*sys.argv[1:])))
