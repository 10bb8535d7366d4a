"""The search in simulated worlds: it makes no false claim more often than it may, and finds what is truly better."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.worlds import LABELS, Outcome, World, search, skilled

Numbers = NDArray[np.float64]
# Of 500 searches in each world; `benchmarks/worlds.py` runs them all, and the test runs a part of them.
SEARCHES, MOST_FALSE = 500, 37
KINDS = ("plain", "certain", "even", "wavering", "correlated", "few", "many", "free", "easy")
ONE_WRONG = np.array([[1.0, *[0.0] * (LABELS - 2)]])  # all wrong answers to a prompt are the same


def coins(chance: np.random.Generator, count: int, reach: float, shared: Numbers | None = None) -> Numbers:
    """Chances of a right answer that are as often above a half as below it, so that no vote gains anything."""
    own = chance.choice([-reach, reach], count)
    return np.asarray(0.5 + (own if shared is None else np.where(chance.random(count) < 0.7, shared, own)))


def null(kind: str, seed: int) -> World:
    """A world in which every recipe is right equally often, whatever it asks and however it votes."""
    chance = np.random.default_rng(10_000 + seed)
    choose, held = {"few": (14, 21), "many": (60, 300)}.get(kind, (40, 60))
    count = choose + held
    shared = chance.choice([-0.35, 0.35], count)
    reach = {"certain": 0.5, "even": 0.0, "wavering": 0.2}.get(kind, 0.35)
    rights = [coins(chance, count, reach, shared if kind == "correlated" else None) for _ in range(3)]
    if kind == "easy":  # nine of ten prompts are right whoever answers
        sure = chance.random(count) < 0.8
        rights = [np.where(sure, 1.0, right) for right in rights]
    names = ("a", "b", "c")
    prices = dict.fromkeys(names, 0.0) if kind == "free" else {"a": 1.0, "b": 2.0, "c": 5.0}
    racers = {}
    for place in range(6):
        right = coins(chance, count, 0.3, shared if kind == "correlated" else None)
        racers[f"racer {place}"] = (
            np.where(sure, 1.0, right) if kind == "easy" else right,
            0.0 if kind == "free" else 9.0,
        )
    return World(
        {name: skilled(right, ONE_WRONG) for name, right in zip(names, rights, strict=True)},
        prices,
        racers,
        choose,
    )


def test_where_nothing_is_better_hardly_anything_is_claimed() -> None:
    found = [search(null(KINDS[seed % len(KINDS)], seed), seed) for seed in range(SEARCHES)]
    assert sum(each.claimed for each in found) <= MOST_FALSE
    assert sum(each.test is not None for each in found) > SEARCHES / 2  # most searches had a finalist to test


def ahead(kind: str, seed: int) -> World:
    """A world with 300 and 300 prompts in which one recipe, or one kind of recipe, is 10 points ahead."""
    chance = np.random.default_rng(20_000 + seed)
    count = 600
    ease = chance.random(count)
    names = ("a", "b", "c")
    if kind == "mixture":
        # All models know the same 55 % of the prompts. The mixture knows 65 %, and not quite all that the models know.
        base = np.where(ease < 0.55, 1.0, 0.0)
        better = np.where((ease >= 0.05) & (ease < 0.70), 1.0, 0.0)
        racers = {"mixture": (better, 9.0)} | {f"racer {place}": (base, 9.0) for place in range(5)}
        return World({name: skilled(base) for name in names}, {"a": 1.0, "b": 2.0, "c": 3.0}, racers, 300)
    # One model is right with a chance of 0.6 on a half of the prompts, and its wrong answers scatter, so a vote gains.
    right = np.where(ease < 0.45, 0.95, np.where(ease < 0.8, 0.55, 0.02))
    weak = np.where(ease < 0.4, 0.9, 0.02)
    chances = {"a": skilled(right), "b": skilled(weak, ONE_WRONG), "c": skilled(weak, ONE_WRONG)}
    racers = {f"racer {place}": (right, 9.0) for place in range(3)}
    return World(chances, {"a": 1.0, "b": 1.0, "c": 1.0}, racers, 300)


def named(outcome: Outcome, kind: str) -> bool:
    if not outcome.claimed:
        return False
    return outcome.finalist == "mixture" if kind == "mixture" else " a" in f" {outcome.finalist}" and outcome.truth > 0


@pytest.mark.parametrize("kind", ["mixture", "vote"])
def test_a_recipe_that_is_ten_points_ahead_is_named(kind: str) -> None:
    found = [search(ahead(kind, seed), seed) for seed in range(40)]
    assert sum(named(each, kind) for each in found) >= 36
    assert all(each.truth > 0 for each in found if each.claimed)
