"""The one test of a search: is A better than B on prompts that no choice has seen?

Right and wrong answers are tested with McNemar's exact test, and the difference has Tango's score interval (1998).
Grades are tested with a randomisation test, which draws the sign of each difference. Their interval is a bootstrap over
prompts or, for few prompts, the interval that the randomisation test does not reject. An interval contains 0 whenever
the test does not reject, so that sentence and interval never contradict each other.
"""

import math
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from partsong.bench.statistics.intervals import paired_interval, sign_test

Numbers = NDArray[np.float64]

FEW = 50  # prompts below which a bootstrap interval is too narrow to be trusted
FLIPS = 4000  # random draws of all signs; another seed moves a p value of 0.05 by about 0.003
EXACT = 13  # prompts with a difference up to which all signs are tried


class Tested(Struct, frozen=True):
    """The result of a test of A against B.

    mean: mean difference, A − B
    low, high: ends of its 95 % interval
    n: number of prompts
    above, below: number of prompts on which A is better, and on which B is better
    chance: p value of the two-sided test
    better: whether A is shown to be better, at 5 %
    how: the test and the interval in words
    """

    mean: float
    low: float
    high: float
    n: int
    above: int
    below: int
    chance: float
    better: bool
    how: str


def paired_test(a: ArrayLike, b: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Tested:
    """Test whether A is better than B.

    a, b: grade of each prompt, as one-dimensional arrays of the same length; a failed answer has the lowest grade
    level: level of the interval, so that the test is at 1 − `level`; 0.95 by default
    seed: seed of the random draws; 0 by default

    Raises `ValueError` without values, for values that are not finite, or if lengths differ.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"pairs are needed, but there are {first.shape} and {second.shape} values")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("every value must be a finite number")
    differences = first - second
    above, below = int((differences > 0).sum()), int((differences < 0).sum())
    mean = float(differences.mean())
    if set(np.unique(np.concatenate([first, second]))) <= {0.0, 1.0}:
        chance, how = sign_test(above, below), "McNemar's exact test, score interval"
        low, high = score_interval(above, below, len(differences), level=level)
    else:
        signs = _signs(int((differences != 0).sum()), seed)
        chance = _randomised(differences[differences != 0], signs)
        if len(differences) < FEW:
            how = "randomisation test and interval"
            low, high = _not_rejected(differences, _signs(len(differences), seed), level)
        else:
            how = "randomisation test, bootstrap interval"
            spread = paired_interval(first, second, level=level, seed=seed)
            low, high = spread.low, spread.high
    rejected = chance <= 1 - level + 1e-12
    if not rejected:
        low, high = min(low, 0.0), max(high, 0.0)
    better = rejected and mean > 0 and low > 0
    return Tested(mean, low, high, len(differences), above, below, chance, better, how)


def score_interval(above: int, below: int, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of Tango's score interval for the difference of two paired shares.

    above: number of prompts on which only A is right
    below: number of prompts on which only B is right
    count: number of prompts
    level: 0.95 by default
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    mean = (above - below) / count
    low = -1.0 if mean == -1 else _end(above, below, count, z, -1.0, mean)
    high = 1.0 if mean == 1 else -_end(below, above, count, z, -1.0, -mean)
    return low, high


def _end(above: int, below: int, count: int, z: float, low: float, high: float) -> float:
    """Return the difference between `low` and the observed `high` at which Tango's statistic is `z`, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _statistic(above, below, count, middle) > z else (low, middle)
    return low


def _statistic(above: int, below: int, count: int, difference: float) -> float:
    """Return Tango's statistic for a supposed difference: the distance of the observed one in standard errors."""
    a, c = 2 * count, -below * difference * (1 - difference)
    b = -above - below + (2 * count - above + below) * difference
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    spread = count * (2 * share + difference * (1 - difference))
    distance = above - below - count * difference
    return distance / math.sqrt(spread) if spread > 0 else math.copysign(math.inf, distance) if distance else 0.0


def _signs(count: int, seed: int) -> Numbers:
    """Return signs for `count` differences, a row for each draw: all combinations of few, else `FLIPS` random rows."""
    if count <= EXACT:
        rows = np.arange(2**count)[:, None] >> np.arange(count)[None, :] & 1
        return np.asarray(1.0 - 2.0 * rows)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(FLIPS, count))
    return np.asarray(1.0 - 2.0 * drawn)


def _randomised(differences: Numbers, signs: Numbers) -> float:
    """Return the p value: how often the mean is at least as far from 0 if the signs are drawn."""
    if not len(differences):
        return 1.0
    reached = int((np.abs(signs @ differences) >= abs(float(differences.sum())) * (1 - 1e-12)).sum())
    # Of random draws, the observed signs count as one more.
    return reached / len(signs) if len(differences) <= EXACT else (reached + 1) / (len(signs) + 1)


def _not_rejected(differences: Numbers, signs: Numbers, level: float) -> tuple[float, float]:
    """Return the range of supposed differences that the randomisation test does not reject."""
    mean, reach = float(differences.mean()), float(np.ptp(differences)) + abs(float(differences.mean())) + 1.0
    ends = []
    for far in (mean - 2 * reach, mean + 2 * reach):
        near = mean
        for _ in range(40):
            middle = (near + far) / 2
            rejected = _randomised(differences - middle, signs) <= 1 - level
            near, far = (near, middle) if rejected else (middle, far)
        ends.append(near)
    return ends[0], ends[1]
