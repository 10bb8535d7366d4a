"""What is worked out from the pool is what the engine does with the recipe: the same answer, with the same calls."""

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong import run
from partsong.bench.tune.candidates import racers_of, recipe_of
from partsong.bench.tune.methods import Method, Stage, measure, methods_of
from partsong.bench.tune.pool import ABSTAINS, Drawn, Member, Orders, pooled
from partsong.bench.tune.recipe_file import recipe_toml
from partsong.bench.tune.statements import statement
from partsong.model import Answer, Model, Request, Send, Text, Usage
from partsong.recipe import Recipe
from partsong.recipes.reading import tables_in

SAID = {ABSTAINS: "I cannot say, for many reasons that would take long to explain.", 0: "Answer: 4", 1: "Answer: 5"}


class Saying:
    """A model that says these texts in turn, and the last one again and again. `calls` counts its calls."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.calls = texts, 0
        self.asked: list[str] = []

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        self.asked.append("\n".join(message.text for message in request.messages))
        text = self.texts[min(self.calls, len(self.texts) - 1)]
        self.calls += 1
        return Answer((Text(text),), "stop", Usage(1, 1))


def pool_of(labels: Mapping[str, list[int]]) -> list[Member]:
    drawn = {name: [[Drawn(SAID[label], float(label == 0), 1.0, 1.0) for label in own]] for name, own in labels.items()}
    return pooled(drawn, {name: (f"x:{name}", 0.7) for name in labels}, statement)


class InOrder(Orders):
    """The answers of each member in the order in which they were given, once."""

    def __init__(self, members: list[Member]) -> None:
        super().__init__(members, 0, 1)
        self._orders = {each.name: np.arange(each.size)[None, :] for each in members}


async def performed(recipe: Recipe, labels: Mapping[str, list[int]]) -> tuple[str, int]:
    models = {f"x:{name}": Saying(*(SAID[label] for label in own)) for name, own in labels.items()}
    plain: dict[str, Model] = dict(models)
    transcript = await run(recipe, "What is 2 + 2?", plain)
    assert transcript.answer is not None
    return transcript.answer.text, sum(model.calls for model in models.values())


async def prompts_of(recipe: Recipe, labels: Mapping[str, list[int]]) -> list[str]:
    """The prompts of the calls of a run, by model and then in order."""
    models = {f"x:{name}": Saying(*(SAID[label] for label in own)) for name, own in labels.items()}
    plain: dict[str, Model] = dict(models)
    await run(recipe, "What is 2 + 2?", plain)
    return [prompt for model in models.values() for prompt in model.asked]


LABELS = st.lists(st.sampled_from([ABSTAINS, 0, 0, 1]), min_size=5, max_size=5)


@settings(deadline=None, max_examples=40)
@given(LABELS, st.sampled_from([0, 2, 3]))
async def test_a_vote_in_a_run_ends_as_it_was_worked_out(own: list[int], agree: int) -> None:
    labels = {"m": own}
    pool = pool_of(labels)
    method = Method("vote", (Stage((("m", 5),), agree),))
    found = measure(method, pool, InOrder(pool))
    said, calls = await performed(recipe_of(method, pool), labels)
    if set(own) == {ABSTAINS}:
        assert calls == 6  # nobody states anything, so one more call selects an answer
    else:
        assert (said == SAID[0], calls) == (found.values[0] == 1.0, found.calls[0])


@settings(deadline=None, max_examples=30)
@given(LABELS, LABELS)
async def test_a_vote_of_two_models_ends_as_it_was_worked_out(one: list[int], other: list[int]) -> None:
    labels = {"a": one, "b": other}
    pool = pool_of(labels)
    method = Method("all", (Stage((("a", 5), ("b", 5)), 2),))
    found = measure(method, pool, InOrder(pool))
    said, calls = await performed(recipe_of(method, pool), labels)
    if {*one, *other} != {ABSTAINS}:
        assert (said == SAID[0], calls) == (found.values[0] == 1.0, found.calls[0])


@settings(deadline=None, max_examples=30)
@given(LABELS, LABELS)
async def test_a_cascade_ends_as_it_was_worked_out(cheap: list[int], strong: list[int]) -> None:
    labels = {"cheap": cheap, "strong": strong}
    pool = pool_of(labels)
    method = Method("cascade", (Stage((("cheap", 3),), 2), Stage((("strong", 3),), 2)))
    found = measure(method, pool, InOrder(pool))
    recipe = recipe_of(method, pool)
    asked = await prompts_of(recipe, labels)
    assert set(asked[:-1]) == {"What is 2 + 2?"}  # as the pool was asked; the last call may be one that selects
    said, calls = await performed(recipe, labels)
    if set(strong[:3]) != {ABSTAINS} or found.calls[0] <= 3:
        assert (said == SAID[0], calls) == (found.values[0] == 1.0, found.calls[0])


def test_every_recipe_of_a_search_can_be_written_and_read_again() -> None:
    labels = {"cheap": [0, 1, 0, 1, 1], "strong": [0, 0, 0, 0, 1]}
    pool = pool_of(labels)
    pool[1].prices[:] = 9.0
    recipes = [recipe_of(method, pool) for method in methods_of(pool)] + racers_of(pool, votes=True)
    names = [recipe.name for recipe in recipes]
    assert len(names) == len(set(names)) > 15
    assert any("else" in name for name in names)
    for recipe in recipes:
        tables = tables_in(recipe_toml(recipe))
        assert tables["name"] == recipe.name
        assert len(tables.get("layers", ())) == len(recipe.layers)


def test_statements_are_those_of_a_run_and_not_those_of_the_grading() -> None:
    same = [("Answer: 4", "Answer: 4.0"), ("\\boxed{7}", "#### 7"), ("Answer: 26 metres", "Answer: 26")]
    different = [("Answer: 7:30", "Answer: 7:45"), ("Answer: x^2+1", "Answer: x^2-1")]
    assert all(statement(one) == statement(other) is not None for one, other in same)
    assert all(statement(one) != statement(other) for one, other in different)
    assert statement(SAID[ABSTAINS]) is None
