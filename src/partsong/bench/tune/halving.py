"""A race by successive halving: all recipes run on a few prompts, and only the better half runs on more of them.

The order of the prompts is random, so the first part of them is a fair sample. Recipes of one rung have run on the same
prompts, so that easy and hard prompts cancel out.
"""

from collections.abc import Mapping, Sequence

FIRST = 0.25  # share of the prompts of the first rung
LEAST = 8  # prompts of the first rung, if there are as many


def rungs(prompts: int, racers: int) -> list[int]:
    """Return the number of prompts at the end of each rung; the last one is `prompts`.

    racers: number of recipes at the start

    The number doubles from rung to rung, while the number of recipes halves. Two recipes or fewer run on all prompts.
    """
    if racers <= 2 or prompts <= LEAST:
        return [prompts]
    ends = [max(LEAST, round(FIRST * prompts))]
    while ends[-1] < prompts:
        ends.append(min(prompts, 2 * ends[-1]))
    return ends


def survivors(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the better half of the recipes, rounded up, and two at least; the best one first.

    values: grades by name of the recipe, on the same prompts; of equal means, the earlier name stays
    """
    means = {name: sum(graded) / len(graded) if graded else 0.0 for name, graded in values.items()}
    order = sorted(means, key=lambda name: -means[name])
    return order[: max(2, -(-len(order) // 2))]
