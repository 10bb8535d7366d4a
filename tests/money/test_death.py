"""A process that dies under a cap of a day: what has begun counts, the rest comes free, and the cap is never passed."""

import asyncio
import random
import sys
from decimal import Decimal
from pathlib import Path

import partsong
from partsong import Agent, Aggregator, Layer, Recipe, asking
from partsong.configuration import Configuration, ModelSettings, Provider
from partsong.money.planning import plan
from partsong.store import open_store
from tests.upstream import SILENCE, Exchange, Reply, Server, chat

LEASE = 1.0
NAMES = ("a", "b", "c", "z")
RECIPE = Recipe(
    "two",
    (
        Layer((Agent("lab:a", max_tokens=100), Agent("lab:b", max_tokens=100))),
        Layer((Agent("lab:c", max_tokens=100), Agent("lab:a", max_tokens=100))),
    ),
    Aggregator("lab:z", max_tokens=100),
)
QUESTION = asking("Why is the sky blue?")
PRICE = Decimal("0.000081")  # of each call: 11 tokens in, 7 out


def configuration(url: str) -> Configuration:
    models = {f"lab:{name}": ModelSettings(None, Decimal(1), Decimal(10)) for name in NAMES}
    return Configuration(providers={"lab": Provider("openai", f"{url}/v1")}, models=models)


WORKER = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
import partsong
from partsong.engine import perform
from partsong.errors import BudgetError
from partsong.money.funding import DailyFunds
from partsong.store import open_store
from tests.money.test_death import LEASE, QUESTION, RECIPE, configuration

async def hear(event):
    pass

async def main(url, path, cap, at_once):
    async with open_store(Path(path), lease=LEASE) as store:
        async with partsong.assemble(RECIPE.models, configuration(url), store=store) as models:
            async def work():
                while True:
                    try:
                        await perform(RECIPE, QUESTION, models, hear, funds=DailyFunds(store, {"": Decimal(cap)}))
                    except BudgetError:
                        return
            await asyncio.gather(*(work() for _ in range(int(at_once))))
asyncio.run(main(*sys.argv[1:]))
"""


async def start(url: str, path: Path, cap: Decimal, at_once: int) -> asyncio.subprocess.Process:
    arguments = (url, str(path), str(cap), str(at_once))
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *arguments)


async def left_of(path: Path, cap: Decimal) -> Decimal:
    async with open_store(path) as store:
        return (await store.left({"": cap}))[""]


async def test_on_death_finished_calls_count_at_their_price_and_begun_layers_at_their_worst(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def answer(exchange: Exchange) -> Reply:
        if exchange.json["model"] == "c":
            asked.set()
            return SILENCE
        return chat("Because.")(exchange)

    cap, path = Decimal(1), tmp_path / "s.db"
    async with Server(answer) as server:
        async with partsong.assemble(RECIPE.models, configuration(server.url)) as models:
            planned = plan(RECIPE, QUESTION, models, {})
        process = await start(server.url, path, cap, 1)
        await asyncio.wait_for(asked.wait(), 60)
        await asyncio.sleep(LEASE * 2)  # a process that lives renews its hold
        assert await left_of(path, cap) == cap - planned.worst[""]
        process.kill()
        await process.wait()
        await asyncio.sleep(LEASE + 0.2)
        second = planned.later[0][""] - planned.later[1][""]
        left = await left_of(path, cap)
        least = cap - 2 * PRICE - second
        assert least < left < least + second  # the second layer's other seat has answered, at its price
        assert planned.later[1][""] > 0  # nothing counts of the aggregator


async def test_processes_that_are_killed_again_and_again_never_pass_the_cap(tmp_path: Path) -> None:
    chance = random.Random(12)
    billed, left, victim = Decimal(0), 0, None

    def answer(exchange: Exchange) -> Reply:
        nonlocal billed, left
        billed += PRICE  # by what the provider saw, also where nobody heard its answer
        left -= 1
        if left == 0 and victim is not None:
            asyncio.get_running_loop().call_later(chance.choice((0, 0, 0.002, 0.01)), victim.kill)
        return chat("Because.")(exchange)

    path = tmp_path / "s.db"
    async with Server(answer) as server:
        async with partsong.assemble(RECIPE.models, configuration(server.url)) as models:
            worst = plan(RECIPE, QUESTION, models, {}).worst[""]
        cap = worst * 12
        for _ in range(6):
            left = chance.randint(3, 40)
            victim = await start(server.url, path, cap, 5)
            await victim.wait()
            await asyncio.sleep(LEASE + 0.2)
            counted = cap - await left_of(path, cap)
            assert billed <= counted <= cap
        victim = None
        assert await (await start(server.url, path, cap, 5)).wait() == 0  # until the cap allows no further run
        assert billed <= cap - await left_of(path, cap) <= cap
        assert await left_of(path, cap) < worst  # the money of the dead was given out again
