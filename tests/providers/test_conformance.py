"""The paper's recipes, over real HTTP: who is called how often, who sees what, in which order, to the byte."""

import asyncio
import re
from collections import Counter
from typing import Any

import pytest

import partsong
from partsong import Configuration, Recipe, assemble, find_recipe
from partsong.configuration import Provider
from partsong.prompts import instruction_for
from tests.upstream import Exchange, Reply, Server, chat


def speaking(exchange: Exchange) -> Reply:
    """Answer `[model/depth/canary]`: depth is one more than that of the deepest proposal that the model was shown."""
    asked = exchange.json
    shown = "\n".join(message["content"] for message in asked["messages"])
    depth = 1 + max((int(number) for number in re.findall(r"\[[^\[\]]+/(\d+)/canary-\d+\]", shown)), default=0)
    (canary,) = set(re.findall(r"canary-\d+", shown))
    return chat(f"[{asked['model']}/{depth}/{canary}]")(exchange)


def served(server: Server, *names: str) -> Configuration:
    provider = Provider("openai", server.url + "/v1", concurrency=10_000)
    return Configuration(providers=dict.fromkeys(names, provider))


def proposals(recipe: Recipe, layer: int, canary: str) -> list[str]:
    """What the server answers to the seats of a layer (counted from 1), in seat order."""
    return [f"[{agent.model.partition(':')[2]}/{layer}/{canary}]" for agent in recipe.layers[layer - 1].seats]


def depth_of(asked: dict[str, Any]) -> int:
    numbers = re.findall(r"/(\d+)/canary", "".join(message["content"] for message in asked["messages"]))
    return 1 + max(map(int, numbers), default=0)


@pytest.mark.parametrize(("name", "calls"), [("moa", 13), ("moa-gpt-4o", 13), ("moa-lite", 7)])
async def test_the_papers_recipes_to_the_byte(name: str, calls: int) -> None:
    recipe = find_recipe(name)
    question, canary = "Why is canary-1 blue?", "canary-1"
    async with Server(speaking) as server:
        async with assemble(recipe.models, served(server, "together", "openai")) as models:
            transcript = await partsong.run(recipe, partsong.asking(question, system="Be brief."), models, watch=True)
    asked = [exchange.json for exchange in server.exchanges]
    assert len(asked) == calls == recipe.calls
    instruction = instruction_for("paper")
    for request in asked:
        depth = depth_of(request)
        told = "Be brief."
        if depth > 1:
            shown = proposals(recipe, depth - 1, canary)
            told += f"\n\n{instruction}" + "".join(f"\n{number}. {text}" for number, text in enumerate(shown, 1))
        assert request["messages"] == [{"role": "system", "content": told}, {"role": "user", "content": question}]
        assert request["temperature"] == 0.7
        assert request["max_tokens"] == 2048
        assert request["stream"] is True
    layers = len(recipe.layers)
    expected = Counter(
        (depth, agent.model.partition(":")[2])
        for depth in range(1, layers + 1)
        for agent in recipe.layers[depth - 1].seats
    )
    aggregator = recipe.aggregator.model.partition(":")[2]
    expected[(layers + 1, aggregator)] += 1
    assert Counter((depth_of(request), request["model"]) for request in asked) == expected
    assert transcript.text == f"[{aggregator}/{layers + 1}/{canary}]"
    assert not transcript.losses


async def test_without_a_system_prompt_the_first_layer_has_none_and_later_ones_a_new_one_in_front() -> None:
    recipe = find_recipe("moa-lite")
    async with Server(speaking) as server:
        async with assemble(recipe.models, served(server, "together")) as models:
            await partsong.run(recipe, "canary-1?", models)
    roles = Counter(tuple(message["role"] for message in exchange.json["messages"]) for exchange in server.exchanges)
    assert roles == {("user",): 6, ("system", "user"): 1}
    plain = Counter(exchange.json.get("stream", False) for exchange in server.exchanges)
    assert plain == {False: 6, True: 1}  # nobody listens to the proposers, so they are asked by plain calls


@pytest.mark.parametrize("layout", ["tail", "paper"])
async def test_two_hundred_runs_at_once_never_cross(layout: str) -> None:
    agents = tuple(partsong.Agent(f"lab:{name}") for name in "abc")
    recipe = Recipe("t", (partsong.Layer(agents),) * 2, partsong.Aggregator("lab:z"), layout=layout)  # type: ignore[arg-type]
    async with Server(speaking) as server:
        async with assemble(recipe.models, served(server, "lab")) as models:
            transcripts = await asyncio.gather(
                *(partsong.run(recipe, f"canary-{number}?", models, watch=True) for number in range(200))
            )
    # `speaking` itself refuses a prompt with two canaries in it; here is the rest of the way, back to the caller.
    assert len(server.exchanges) == 200 * 7
    for number, transcript in enumerate(transcripts):
        canary = f"canary-{number}"
        assert transcript.text == f"[z/3/{canary}]"
        for layer in (1, 2):
            texts = [answer.text for answer in transcript.proposals(layer - 1)]
            assert texts == proposals(recipe, layer, canary)


async def test_the_tail_keeps_the_prefix_and_never_uses_the_system_role() -> None:
    recipe = Recipe("t", (partsong.Layer((partsong.Agent("lab:a"),)),) * 2, partsong.Aggregator("lab:z"))
    conversation = partsong.asking("canary-1?", system="Be brief.")
    async with Server(speaking) as server:
        async with assemble(recipe.models, served(server, "lab")) as models:
            await partsong.run(recipe, conversation, models)
    first, *later = (exchange.json["messages"] for exchange in server.exchanges)
    assert first == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "canary-1?"}]
    for depth, messages in enumerate(later, 1):
        assert messages[:2] == first
        assert [message["role"] for message in messages[2:]] == ["user"]
        assert f"[a/{depth}/canary-1]" in messages[2]["content"]
