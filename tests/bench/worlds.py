"""Simulated worlds for the search: models whose skill is known, so that every claim can be checked against the truth.

A world says how likely each statement of each model is for each prompt. `search` runs the whole search on drawn
answers, with the functions that `partsong tune` uses, and tells whether its claim is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from partsong.bench.statistics.paired import Tested, paired_test
from partsong.bench.tune.choosing import choose
from partsong.bench.tune.halving import rungs, survivors
from partsong.bench.tune.methods import Measured, Method, measure, methods_of
from partsong.bench.tune.pool import Member, Orders

Numbers = NDArray[np.float64]
LABELS = 6  # statements that a model may make; 0 is right


@dataclass(frozen=True)
class World:
    """What is true of a world.

    chances: by model, the probability of each statement for each prompt: shape (prompts, LABELS)
    prices: by model, the cost of an answer
    racers: by recipe, the probability of a right answer for each prompt, and the cost of a run
    choose: number of prompts to choose on; the others are held out
    draws: answers of each model to each prompt
    """

    chances: Mapping[str, Numbers]
    prices: Mapping[str, float]
    racers: Mapping[str, tuple[Numbers, float]] = field(default_factory=dict)
    choose: int = 120
    draws: int = 5


def skilled(right: Numbers, spread: Numbers | None = None) -> Numbers:
    """The chances of statements of a model that is right with these probabilities; wrong ones are spread evenly."""
    wrong = np.full((len(right), LABELS - 1), 1 / (LABELS - 1)) if spread is None else spread
    return np.column_stack([right, (1 - right)[:, None] * wrong])


def drawn(chances: Numbers, count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """`count` statements about each prompt: shape (prompts, count)."""
    edges = np.cumsum(chances, axis=1)[:, None, :]
    found = (chance.random((len(chances), count, 1)) > edges).sum(axis=2)
    return np.asarray(np.minimum(found, LABELS - 1))


def members(world: World, rows: slice, draws: int, chance: np.random.Generator) -> list[Member]:
    found = []
    for name, chances in world.chances.items():
        labels = drawn(chances[rows], draws, chance)
        prices = np.full(labels.shape, world.prices[name])
        found.append(Member(name, name, 0.7, labels, (labels == 0).astype(float), prices, prices))
    return found


def raced(world: World, chance: np.random.Generator) -> list[Measured]:
    """The race: recipes run on the prompts to choose on, and half of them leave after each rung."""
    ends = rungs(world.choose, len(world.racers))
    left = list(world.racers)
    order = chance.permutation(world.choose)
    values = {name: np.full(world.choose, np.nan) for name in left}
    before = 0
    for end in ends:
        for name in left:
            rows = order[before:end]
            values[name][rows] = chance.random(len(rows)) < world.racers[name][0][: world.choose][rows]
        if end < world.choose:
            left = survivors({name: list(values[name][order[:end]]) for name in left})
        before = end
    found = []
    for name, graded in values.items():
        priced = np.where(np.isnan(graded), np.nan, world.racers[name][1])
        found.append(Measured(name, graded, np.zeros(len(graded)), priced, priced, priced))
    return found


@dataclass(frozen=True)
class Outcome:
    """The result of a search: finalist and baseline, the test, and after a claim the true gain."""

    finalist: str
    baseline: str
    test: Tested | None
    truth: float

    @property
    def claimed(self) -> bool:
        return self.test is not None and self.test.better


def search(world: World, seed: int) -> Outcome:
    """The whole search in this world, with answers drawn by the seed."""
    chance = np.random.default_rng(seed)
    pool = members(world, slice(0, world.choose), world.draws, chance)
    orders = Orders(pool, seed, 8)
    methods = methods_of(pool)
    measured = [*(measure(each, pool, orders) for each in methods), *raced(world, chance)]
    count = len(next(iter(world.chances.values()))) - world.choose
    choice = choose(measured, count)
    if choice is None:
        return Outcome("", "", None, 0.0)
    by_name = {each.name: each for each in methods}
    held = slice(world.choose, None)
    graded = [run(world, name, by_name, held, chance) for name in (choice.finalist.name, choice.baseline.name)]
    test = paired_test(*graded, seed=seed)
    names = choice.finalist.name, choice.baseline.name
    # The truth takes many runs, and is asked for only where something is claimed.
    true = [truth(world, name, by_name, held) for name in names] if test.better else [0.0, 0.0]
    return Outcome(*names, test, true[0] - true[1])


def run(world: World, name: str, methods: Mapping[str, Method], held: slice, chance: np.random.Generator) -> Numbers:
    """One fresh run of a recipe on each held-out prompt."""
    if name in world.racers:
        right = world.racers[name][0][held]
        return np.asarray(chance.random(len(right)) < right, dtype=float)
    pool = members(world, held, world.draws, chance)
    return measure(methods[name], pool, Orders(pool, 0, 1)).values


def truth(world: World, name: str, methods: Mapping[str, Method], held: slice, times: int = 40) -> float:
    """The true share of right answers of a recipe on the held-out prompts, from many runs for a vote."""
    if name in world.racers:
        return float(world.racers[name][0][held].mean())
    if methods[name].single:
        return float(world.chances[name][held, 0].mean())
    chance = np.random.default_rng(99)
    return float(np.mean([run(world, name, methods, held, chance).mean() for _ in range(times)]))
