"""Thousands of runs on one server, one in twenty by an attacker: no honest run is lost, mixed up or slowed down.

    python benchmarks/soak.py [RUNS, 20000] [AT ONCE, 10] [RATIO, 1.5] [SAMPLES, 1]

`partsong serve` (one worker, keys, a store) has a recipe of two scripted proposers and a scripted aggregator, which can
be asked alone too. All of them answer with what they are told. Each honest question holds a marker of its own: its
answer must hold this marker and no other, and so must its run in the store. A run may be missing in the store only if
its answer says so, as while the disk is full. The attackers are those of attackers.py, with the upstream of hostile.py.

Blocks without attackers (calm) and blocks with them take turns. The ratio is the 99th percentile with attackers over
that without: the median over all pairs of a calm block and the attacked block after it, so that what else happens on
the machine touches both alike. RATIO is the highest that is allowed, and 0 allows any, for machines that are busy with
other programs. SAMPLES is the number of answers, each of them a run, that most requests ask for.

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
MIXED = 5  # one honest request in so many is streamed, and for one run of the recipe with proposers
READ = 50  # one marker in so many is looked up in the store with all events of its runs
MARKER = re.compile(r"marker-[0-9a-f]{16}")
HONEST = """
name = "honest"
[[layers]]
agents = ["scripted:a?echo=true", "scripted:b?echo=true"]
[aggregator]
model = "scripted:z?echo=true"
"""
ALONE = "scripted:z?echo=true"
CONFIGURATION = """
[providers.hostile]
api = "openai"
base_url = "http://127.0.0.1:{port}/v1"
concurrency = 10000
[server]
recipes = ["{recipe}"]
[models."scripted:z?echo=true"]
window = 100000
"""


class Line:
    """A connection of an honest caller, which asks again and again. It costs little of the machine."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the response."""
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        head_said = await self.reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head_said.decode("latin-1").lower().split("\r\n")[1:] if line)
        said = b""
        if "content-length" in fields:
            said = await self.reader.readexactly(int(fields["content-length"]))
        else:
            while size := int(await self.reader.readline(), 16):
                said += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        return int(head_said[9:12]), said

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass
class Ended:
    """What came of the runs.

    ways: how many honest runs ended in each way
    attacks: how many attacks there were of each kind
    kept: how many runs with a marker must be in the store, by marker
    unkept: number of honest runs whose answers said that they are not kept
    """

    ways: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    kept: dict[str, int] = field(default_factory=dict)
    unkept: int = 0


async def ask(line: Line, ended: Ended, mixed: bool, samples: int) -> float:
    """Ask one honest question, note what came of it, and return the seconds that it took.

    mixed: whether the recipe with proposers is asked, for one answer, which is streamed
    samples: number of answers to ask for otherwise
    """
    count = 1 if mixed else samples
    marker = f"marker-{secrets.token_hex(8)}"
    question = {"role": "user", "content": f"{marker}: is it so?"}
    body = {"model": "honest" if mixed else ALONE, "stream": mixed, "messages": [question], "n": count}
    began = time.perf_counter()
    try:
        status, said = await line.post(json.dumps(body).encode())
    except (OSError, asyncio.IncompleteReadError, ValueError) as problem:
        line.close()
        ended.ways[f"LOST: {type(problem).__name__}"] += count
        return time.perf_counter() - began
    took = time.perf_counter() - began
    if status != 200 or (mixed and not said.endswith(b"data: [DONE]\n\n")):
        ended.ways[f"LOST: {status} {said[:200]!r}"] += count
        return took
    texts = texts_of(said, mixed)
    if len(texts) != count or any(set(MARKER.findall(text)) != {marker} for text in texts):
        ended.ways["MIXED"] += count
    else:
        ended.ways["answered"] += count
    lacking = said.count(b'"kept":false')
    ended.unkept += lacking
    ended.kept[marker] = count - lacking
    return took


def texts_of(said: bytes, streamed: bool) -> list[str]:
    """The answers in a response. A streamed response has one."""
    if not streamed:
        return [str(choice["message"]["content"]) for choice in json.loads(said)["choices"]]
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
    return ["".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])]


@dataclass(frozen=True)
class Callers:
    """The honest callers.

    keys: their keys
    at_once: how many requests, attacks included, are under way at the same time
    samples: how many answers most requests ask for
    """

    keys: list[str]
    at_once: int
    samples: int


async def block(runs: int, attackers: int, callers: Callers, target: Target, ended: Ended) -> list[float]:
    """Do so many honest runs and attacks in a random order; return the seconds of each honest request."""
    requests = round(runs / (1 + (callers.samples - 1) * (1 - 1 / MIXED)))
    turns = [True] * attackers + [False] * requests
    target.chance.shuffle(turns)
    left, took = iter(enumerate(turns)), list[float]()

    async def work(key: str) -> None:
        line = Line(target.port, key)
        for number, attacking in left:
            if attacking:
                ended.attacks[await attack(target)] += 1
            else:
                took.append(await ask(line, ended, number % MIXED == 0, callers.samples))
        line.close()

    await asyncio.gather(*(work(callers.keys[index % len(callers.keys)]) for index in range(callers.at_once)))
    return sorted(took)


def p99(took: list[float]) -> float:
    return took[len(took) * 99 // 100]


async def soak(runs: int, callers: Callers, target: Target, ended: Ended) -> list[float]:
    """Do all blocks, and return the ratio of each pair."""
    ratios = []
    attacked = runs // PAIRS
    await block(attacked // 4, 0, callers, target, Ended())  # until everything is warm
    for pair in range(PAIRS):
        calm = await block(attacked // 4, 0, callers, target, ended)
        attackers = round(attacked * ATTACKING)
        under = await block(attacked - attackers, attackers, callers, target, ended)
        ratios.append(p99(under) / p99(calm))
        print(
            f"pair {pair + 1}: p50 / p99 calm {calm[len(calm) // 2] * 1e3:.0f} / {p99(calm) * 1e3:.0f} ms, attacked "
            f"{under[len(under) // 2] * 1e3:.0f} / {p99(under) * 1e3:.0f} ms, ratio {ratios[-1]:.2f}; "
            f"worker {peak(target.worker) / 1e6:.0f} MB at most",
            flush=True,
        )
    return ratios


async def missing_in(path: Path, ended: Ended) -> list[str]:
    """The markers whose runs are not in the store as they were, each with what is there."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, question FROM runs WHERE status = 'finished'").fetchall()
    found: dict[str, list[str]] = {}
    for run, question in rows:
        for marker in set(MARKER.findall(question)):
            found.setdefault(marker, []).append(run)
    # A run whose answer says that it is not kept may be kept after all, once the disk has room again.
    wrong = [f"{each}: {found.get(each)}" for each, count in ended.kept.items() if len(found.get(each, ())) < count]
    async with open_store(path) as store:
        for marker in [*ended.kept][::READ]:
            for run in found.get(marker, ()):
                if (said := set(MARKER.findall(repr(await store.events(run))))) != {marker}:
                    wrong.append(f"{run}: its events have {said}")
    return wrong


async def main(runs: str = "20000", at_once: str = "10", most: str = "1.5", samples: str = "1") -> int:
    ended, began = Ended(), time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe, configuration = folder / "honest.toml", folder / "partsong.toml"
        recipe.write_text(HONEST)
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
        ratios = await soak(int(runs), Callers(keys, int(at_once), int(samples)), target, ended)
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
