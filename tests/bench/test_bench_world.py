"""A world in which it is known who is how good: real commands ask a real server, with models that are right by chance.

`compare` must find the true order in it; and a study that is killed again and again must neither make a finished call
twice nor spend more than it may, counted by what the server has answered.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.upstream import Exchange, Reply, Server, as_json

ONE_CALL = 1.0  # dollars: every call is answered at its full length, so that the worst case is the price
TOKENS = 10


class World:
    """Models by name: `s70` is right with a chance of 70 %; `vote` says what most proposals say; `judge` knows."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []
        self.victim: asyncio.subprocess.Process | None = None
        self.left = 0

    def answer(self, exchange: Exchange) -> Reply:
        asked = exchange.json
        words = "\n".join(message["content"] for message in asked["messages"])
        found = re.search(r"question (\d+)", words)
        assert found is not None
        number, model = int(found[1]), asked["model"]
        self.seen.append((number, model))
        if self.victim is not None:
            self.left -= 1
            if self.left == 0 and self.victim.returncode is None:
                self.victim.kill()
        return said(self.words(number, model, words, asked.get("seed")))

    def words(self, number: int, model: str, words: str, seed: int | None) -> str:
        right = 1000 + number
        if model == "vote":
            votes = Counter(re.findall(r"Answer: (\d+)", words)).most_common(1)
            return f"Answer: {votes[0][0]}" if votes else "There is nothing to count."
        if model == "judge":
            first, second = re.findall(r"Answer: (\d+)", words)[:2]
            if (first == str(right)) == (second == str(right)):
                return "Both alike.\nVerdict: tie"
            return f"One is right.\nVerdict: {'A' if first == str(right) else 'B'}"
        chance = random.Random(hashlib.sha256(f"{number}/{model}/{seed}".encode()).digest()).random()
        return f"Answer: {right if chance < int(model[1:]) / 100 else chance * 900:.0f}"


def said(text: str) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": TOKENS, "total_tokens": TOKENS + 1}
    return as_json({"id": "c", "model": "said", "choices": [choice], "usage": usage})


def write(folder: Path, url: str, models: list[str], count: int, *, references: bool = True) -> None:
    """The configuration, a file of questions, a recipe for each model, and `three`: thrice 70 % with a vote."""
    dollars = f"input_dollars_per_million = 0\noutput_dollars_per_million = {ONE_CALL / TOKENS * 1e6}\n"
    prices = "".join(f'[models."lab:{model}"]\n{dollars}' for model in (*models, "s70", "vote", "judge"))
    (folder / "partsong.toml").write_text(f'[providers.lab]\napi = "openai"\nbase_url = "{url}/v1"\n{prices}')
    for name, model, samples in (*((model, model, 1) for model in models), ("three", "s70", 3)):
        agent = f'{{ model = "lab:{model}", samples = {samples}, max_tokens = {TOKENS} }}'
        aggregator = f'{{ model = "lab:vote", max_tokens = {TOKENS} }}'
        (folder / f"{name}.toml").write_text(
            f'name = "{name}"\naggregator = {aggregator}\nlayers = [{{ agents = [{agent}] }}]\n'
        )
    lines = [
        {"prompt": f"This is question {number}.", **({"reference": str(1000 + number)} if references else {})}
        for number in range(count)
    ]
    (folder / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "partsong", *arguments),
        cwd=folder,
        env={**os.environ, "PARTSONG_STATE": str(folder / "state")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str]:
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def compared(folder: Path, *arguments: str) -> tuple[str, dict[tuple[str, str], Any]]:
    """What `compare` prints, and what it found, by pair."""
    code, output = await finish(await start(folder, "compare", "asked.jsonl", "--out", "out", *arguments))
    assert code == 0, output
    found = json.loads((folder / "out" / "comparison.json").read_bytes())
    return output, {(each["one"], each["other"]): each for each in found["differences"]}


async def test_compare_finds_the_true_order(tmp_path: Path) -> None:
    world = World()
    async with Server(world.answer) as server:
        write(tmp_path, server.url, ["s99", "s40"], 120)
        recipes = ("--recipe", "s40.toml", "--recipe", "three.toml", "--recipe", "s99.toml")
        output, found = await compared(tmp_path, *recipes, "--no-baselines")
    assert list(found) == [("s40", "three"), ("s40", "s99"), ("three", "s99")]
    assert all(each["interval"]["high"] < 0 for each in found.values())
    assert "three is better than s40: s40 has -0." in output
    assert "s99 is better than three: three has -0." in output
    # Three samples of one model are three answers, drawn apart: a vote of equal ones would be right 70 % of the time.
    outputs = [json.loads(line) for line in (tmp_path / "out" / "outputs.jsonl").read_text().splitlines()]
    proposals = [{text for _, text in each["proposals"]} for each in outputs if each["contestant"] == "three"]
    assert sum(len(texts) > 1 for texts in proposals) > 40


async def test_what_the_same_money_buys_of_one_member(tmp_path: Path) -> None:
    world = World()
    async with Server(world.answer) as server:
        write(tmp_path, server.url, [], 40)
        output, found = await compared(tmp_path, "--recipe", "three.toml")
    vote = ("three", "lab:s70 × 4, majority")  # four calls, as the mixture makes
    assert list(found) == [("three", "lab:s70"), vote]
    assert found[vote]["interval"]["low"] <= 0 <= found[vote]["interval"]["high"]
    assert f"no difference shown between three and {vote[1]}" in output
    assert "no difference shown" in output
    assert "the best one of each prompt" in output
    rows = {line.split("  ")[0]: line for line in output.splitlines()}
    assert rows["three"].count("$4.00") == rows["lab:s70 × 4, majority"].count("$4.00") == 1


async def test_a_judge_that_knows_finds_the_better_one_and_shows_no_favour(tmp_path: Path) -> None:
    world = World()
    async with Server(world.answer) as server:
        write(tmp_path, server.url, ["s99", "s40"], 40, references=False)
        recipes = ("--recipe", "s99.toml", "--recipe", "s40.toml")
        output, found = await compared(tmp_path, *recipes, "--judge", "lab:judge", "--no-baselines")
    assert found["s99", "s40"]["interval"]["low"] > 0
    assert "s99 is better than s40" in output
    assert "preferred what it was shown first 50% of the time" in output
    assert "turned with the order in 0%" in output


async def test_killed_again_and_again_it_repeats_no_finished_call_and_keeps_its_cap(tmp_path: Path) -> None:
    chance, world, cap = random.Random(5), World(), 100
    run = ("bench", "run", "asked.jsonl", "--out", "out", "--recipe", "three.toml", "--max-dollars", str(cap))
    async with Server(world.answer) as server:
        write(tmp_path, server.url, [], 40)  # 160 dollars' worth of calls
        voted: set[int] = set()
        for _ in range(4):
            world.left, before = chance.randint(13, 18), len(world.seen)
            world.victim = await start(tmp_path, *run)
            code, output = await finish(world.victim)
            world.victim = None
            assert code == -9, output
            # Where the aggregator was asked, all proposals were there: none of these is asked for again.
            assert not any(number in voted and model == "s70" for number, model in world.seen[before:])
            voted |= {number for number, model in world.seen if model == "vote"}
        assert voted
        before = len(world.seen)
        code, output = await finish(await start(tmp_path, *run))
        assert code == 1
        assert "may cost 4 dollars" in output
        assert not any(number in voted and model == "s70" for number, model in world.seen[before:])
        assert cap / 2 < len(world.seen) * ONE_CALL <= cap
