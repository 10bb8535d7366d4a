"""A batch that is killed at twenty random points and started again each time: nothing that was finished is lost.

A real process is ended by SIGKILL, at moments that are spread over its calls and not over time. The criterion, exactly:
a call that the server saw in one start is not seen in a later one if it is known to have been finished, that is,

* a call of the same question in a later layer, whose prompt holds its answer, was seen as well, or
* the question's answer stood in the file beside the one to be made when the process was dead.

Calls that were under way at the kill may be made again, and no others; within one start, none is made twice. At the
end the file is, byte for byte, that of a batch that nobody killed.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from partsong.batch.answers import keys_for
from partsong.batch.questions import JsonLines, Place
from partsong.recipes.reading import read
from tests.upstream import Exchange, Reply, Server, chat

QUESTIONS, KILLS, AT_ONCE = 40, 20, 3
LAYERS = (("a0", "b0"), ("a1", "b1"), ("z",))  # the aggregator is the last
LAYER = {model: layer for layer, models in enumerate(LAYERS) for model in models}
WIDEST = max(len(models) for models in LAYERS)

Made = tuple[int, str]  # the number of a question, and the model that was asked


class Watched:
    """A server whose answers depend on what is asked alone, and which kills `victim` when enough was asked."""

    def __init__(self) -> None:
        self.seen: list[Made] = []  # in this start
        self.victim: asyncio.subprocess.Process | None = None
        self.left, self.pause = 0, 0.0

    def answer(self, exchange: Exchange) -> Reply:
        found = re.search(rb"question number (\d+)", exchange.body)
        assert found is not None
        self.seen.append((int(found[1]), exchange.json["model"]))
        if self.victim is not None:
            self.left -= 1
            if self.left == 0:
                asyncio.get_running_loop().call_later(self.pause, kill, self.victim)
        return chat(hashlib.sha256(exchange.body).hexdigest())(exchange)


def kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()


def write(folder: Path, url: str) -> None:
    """The recipe, the configuration and the questions."""
    models = [model for layer in LAYERS for model in layer]
    prices = "".join(
        f'[models."lab:{model}"]\ninput_dollars_per_million = 1.5\noutput_dollars_per_million = {number}.25\n'
        for number, model in enumerate(models)
    )
    (folder / "partsong.toml").write_text(f'[providers.lab]\napi = "openai"\nbase_url = "{url}/v1"\n{prices}')
    layers = "".join(
        f"[[layers]]\nagents = {json.dumps([f'lab:{model}' for model in layer])}\n" for layer in LAYERS[:-1]
    )
    (folder / "two.toml").write_text(f'name = "two"\n{layers}[aggregator]\nmodel = "lab:{LAYERS[-1][0]}"\n')
    lines = [{"question": f"This is question number {number}."} for number in range(QUESTIONS)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


async def start(folder: Path, out: str, state: str) -> asyncio.subprocess.Process:
    arguments = ("batch", "questions.jsonl", "--out", out, "--recipe", "two.toml", "--at-once", str(AT_ONCE))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "partsong", *arguments),
        cwd=folder,
        env={**os.environ, "PARTSONG_STATE": str(folder / state)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str]:
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def answered(folder: Path) -> set[int]:
    """The questions whose answers are committed in the file beside."""
    beside = folder / "killed.jsonl.partial"
    if not beside.exists():
        return set()
    with closing(sqlite3.connect(beside)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outcomes'").fetchone()[0]:
            return set()
        there = {key for (key,) in connection.execute("SELECT key FROM outcomes")}
    key_of = keys_for(read(folder / "two.toml"))
    asked = JsonLines(folder / "questions.jsonl").read(Place())
    return {number for number, (each, _) in enumerate(asked) if key_of(each.conversation) in there}


async def test_a_batch_that_is_killed_twenty_times_makes_no_finished_call_twice(tmp_path: Path) -> None:
    chance = random.Random(20)
    watched = Watched()
    async with Server(watched.answer) as server:
        write(tmp_path, server.url)
        finished: set[Made] = set()
        made: Counter[Made] = Counter()
        for _ in range(KILLS):
            watched.seen, watched.left, watched.pause = [], chance.randint(1, 9), chance.choice([0, 0, 0.002, 0.01])
            watched.victim = await start(tmp_path, "killed.jsonl", "state")
            code, output = await finish(watched.victim)
            watched.victim = None
            assert code == -signal.SIGKILL, output
            assert not (tmp_path / "killed.jsonl").exists()
            assert max(Counter(watched.seen).values()) == 1
            assert not finished & set(watched.seen)
            made.update(watched.seen)
            furthest = {number: max(LAYER[model] for other, model in made if other == number) for number, _ in made}
            whole = answered(tmp_path)
            finished |= {call for call in made if LAYER[call[1]] < furthest[call[0]] or call[0] in whole}
        assert finished
        watched.seen = []
        assert await finish(await start(tmp_path, "killed.jsonl", "state")) == (0, "")
        assert not finished & set(watched.seen)
        made.update(watched.seen)
        calls = {(number, model) for number in range(QUESTIONS) for model in LAYER}
        assert set(made) == calls
        assert made.total() <= len(calls) + KILLS * AT_ONCE * WIDEST

        watched.seen = []
        assert await finish(await start(tmp_path, "whole.jsonl", "another state")) == (0, "")
        assert sorted(watched.seen) == sorted(calls)
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob("*.whole"))
