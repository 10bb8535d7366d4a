"""The recipes in the package are what they say they are: the paper's to the letter, the others bounded and dated."""

import pytest

from partsong.recipe import Agent, Recipe
from partsong.recipes.finding import find_recipe, shipped

SIX = (
    "together:Qwen/Qwen1.5-110B-Chat",
    "together:Qwen/Qwen1.5-72B-Chat",
    "together:microsoft/WizardLM-2-8x22B",
    "together:meta-llama/Llama-3-70b-chat-hf",
    "together:mistralai/Mixtral-8x22B-Instruct-v0.1",
    "together:databricks/dbrx-instruct",
)
CALLS = {
    "frontier": 4,
    "local": 4,
    "local-full": 5,
    "local-small": 4,
    "moa": 13,
    "moa-gpt-4o": 13,
    "moa-lite": 7,
    "self-moa": 7,
}
PAPER = {
    "moa": (2, "together:Qwen/Qwen1.5-110B-Chat"),
    "moa-gpt-4o": (2, "openai:gpt-4o-2024-05-13"),
    "moa-lite": (1, "together:Qwen/Qwen1.5-72B-Chat"),
}


def test_calls_per_question() -> None:
    assert {recipe.name: recipe.calls for recipe in shipped()} == CALLS


@pytest.mark.parametrize("name", CALLS)
def test_a_recipe_is_called_as_its_file(name: str) -> None:
    assert find_recipe(name).name == name
    assert find_recipe(name).about


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_configurations(name: str) -> None:
    recipe, (layers, aggregator) = find_recipe(name), PAPER[name]
    assert [tuple(agent.model for agent in layer.seats) for layer in recipe.layers] == [SIX] * layers
    assert recipe.aggregator.model == aggregator
    assert recipe.layout == "paper"
    assert {(agent.temperature, agent.max_tokens) for agent in agents(recipe)} == {(0.7, 2048)}
    # Every agent sees all the proposals of the layer before it, so nobody may be cut off.
    assert all(layer.quorum is None and layer.deadline is None for layer in recipe.layers)


def test_self_moa_is_one_model_six_times_and_once_more() -> None:
    recipe = find_recipe("self-moa")
    assert len(recipe.models) == 1
    assert [len(layer.seats) for layer in recipe.layers] == [6]
    assert {agent.temperature for agent in agents(recipe)} == {0.7}


def test_local_recipes_need_no_provider() -> None:
    for name in ("local", "local-small", "local-full"):
        assert all(model.startswith("local:") for model in find_recipe(name).models)
    assert find_recipe("local").models == ("local:qwen2.5-coder-1.5b",)
    assert len(find_recipe("local").layers[0].seats) == 3
    assert [agent.model for agent in find_recipe("local-small").layers[0].seats] == [
        "local:smollm2-135m",
        "local:qwen2.5-coder-0.5b",
        "local:qwen2.5-coder-0.5b",
    ]
    seeds = [agent.seed for agent in find_recipe("local-full").layers[0].seats]
    assert len(set(seeds)) == len(seeds) == 4
    assert find_recipe("local-full").aggregator.model == "local:qwen2.5-coder-1.5b"


def test_frontier_mixes_three_families() -> None:
    seats = find_recipe("frontier").layers[0].seats
    assert len({agent.model.split("/")[0] for agent in seats}) == len(seats) == 3


@pytest.mark.parametrize("name", CALLS)
def test_every_run_ends_and_no_answer_is_endless(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.deadline is not None
    assert all(agent.max_tokens is not None for agent in agents(recipe))


@pytest.mark.parametrize("name", CALLS)
def test_hosted_ids_say_when_they_were_right(name: str) -> None:
    recipe = find_recipe(name)
    assert (recipe.date is None) == all(model.startswith("local:") for model in recipe.models)


def agents(recipe: Recipe) -> list[Agent]:
    return [*(agent for layer in recipe.layers for agent in layer.seats), recipe.aggregator]
