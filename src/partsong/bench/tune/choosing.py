"""Chooses one finalist and one baseline on the first part of the prompts. The held-out part is not touched.

The finalist is the recipe whose gain over its own baseline is the most likely to be shown: the gain, times the
probability that the held-out prompts show it. The baseline of a recipe is the best recipe at no more than its cost,
single models at their best temperature among them. So a recipe is never praised for what a cheaper one can do as well.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from partsong.bench.statistics.detectable import power_of
from partsong.bench.tune.methods import Measured

# Standard deviation of the true gains that recipes have over each other, as a share: 5 points. An observed gain is
# shrunk towards 0 by it, because the best of many observed gains is the best by chance as well.
USUAL_GAIN = 0.05


Ranking = Sequence[tuple[Measured, float, float]]  # recipes with mean grade and cost


class Choice(Struct, frozen=True):
    """A finalist and its baseline.

    gain: observed gain of the finalist on the first part, which is too large on average
    spread: standard deviation of the difference of two single runs
    power: probability that the held-out part shows the gain, if the shrunk gain is the true one
    """

    finalist: Measured
    baseline: Measured
    gain: float
    spread: float
    power: float


def choose(measured: Sequence[Measured], held: int) -> Choice | None:
    """Return the finalist and its baseline; `None` if no recipe has gained anything on the first part.

    measured: all recipes; those that did not run on every prompt are left out
    held: number of prompts held out
    """
    ranked = ranking([each for each in measured if each.complete])
    choices = [
        choice
        for each, _, _ in ranked
        if not each.single and (choice := _against(each, baseline_of(each, ranked), held)).gain > 0
    ]
    return max(choices, key=lambda choice: _shrunk(choice) * choice.power, default=None)


def ranking(measured: Sequence[Measured]) -> Ranking:
    """Return the recipes with mean grade and cost: the best first, and of equally good ones the cheapest first."""
    return sorted(((each, each.mean, each.price) for each in measured), key=lambda each: (-each[1], each[2]))


def baseline_of(finalist: Measured, ranked: Ranking) -> Measured:
    """Return the best recipe at no more than the cost of the finalist, single models among them.

    ranked: all recipes, from `ranking`

    If nothing is as cheap as the finalist, the best single model is returned. Raises `StopIteration` if there is none.
    """
    most = finalist.price * (1 + 1e-9)
    others = [(each, price) for each, _, price in ranked if each is not finalist]
    cheap = (each for each, price in others if price <= most)
    return next(cheap, None) or next(each for each, _ in others if each.single)


def best_of(measured: Sequence[Measured]) -> Measured:
    """Return the best single model at its best temperature; of equally good ones, the cheapest."""
    return max((each for each in measured if each.single), key=lambda each: (each.mean, -each.price))


def _against(finalist: Measured, baseline: Measured, held: int) -> Choice:
    differences = finalist.values - baseline.values
    gain = float(differences.mean())
    spread = math.sqrt(float(differences.var()) + float((finalist.noise + baseline.noise).mean()))
    found = Choice(finalist, baseline, gain, spread, 0.0)
    return Choice(finalist, baseline, gain, spread, power_of(_shrunk(found), spread, max(held, 1)))


def _shrunk(choice: Choice) -> float:
    """Return the gain that is expected of the finalist, if gains vary by `USUAL_GAIN`."""
    differences = choice.finalist.values - choice.baseline.values
    error = float(differences.var(ddof=1)) / len(differences) if len(differences) > 1 else math.inf
    return choice.gain * USUAL_GAIN**2 / (USUAL_GAIN**2 + error)


def fronts(measured: Sequence[Measured]) -> tuple[list[bool], list[bool]]:
    """Return for each recipe whether it is on the front of quality against cost, and of quality against seconds.

    A recipe whose seconds are unknown is not on the second front.
    """
    from partsong.bench.pareto import front

    by_price = front([(each.price, each.mean) for each in measured])
    durations = [each.duration for each in measured]
    points = [(np.inf if math.isnan(one) else one, each.mean) for one, each in zip(durations, measured, strict=True)]
    by_time = [on and math.isfinite(point[0]) for on, point in zip(front(points), points, strict=True)]
    return by_price, by_time
