"""Means, differences and shares with their intervals, and the number of prompts that would be enough.

The prompts are a random sample. Several attempts at one prompt form a cluster, because their values are similar.
Counting the values one by one would make every interval too narrow (Miller, "Adding Error Bars to Evals", arXiv
2411.00640). Every value weighs the same, so a cluster weighs as much as it has values. Every interval is two-sided.

Values are one-dimensional. `clusters` names the prompt of each value; without `clusters`, each value is a prompt of its
own. Functions of values raise `ValueError` if there are no values, if a value is not finite, or if lengths differ.
"""

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Numbers = NDArray[np.float64]

RESAMPLES = 5000  # bootstrap samples; another seed then moves the ends of an interval by about 1 % of its length
CHUNK = 4_000_000  # indices drawn at the same time, which need 32 MB


class Interval(Struct, frozen=True):
    """A mean with its interval, in the unit of the values.

    mean: mean of all values
    low, high: ends of the interval; infinite if there is only one prompt
    standard_error: standard error of the mean; NaN if there is only one prompt
    n: number of prompts (clusters), not of values
    """

    mean: float
    low: float
    high: float
    standard_error: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is above zero or below zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: ArrayLike, clusters: Sequence[Hashable] | None = None, *, level: float = 0.95) -> Interval:
    """Return the mean of the values with Student's t interval, from a standard error that is clustered by prompt.

    values: one-dimensional array
    clusters: the prompt of each value; by default each value is a prompt of its own
    level: probability that the interval covers the true mean; 0.95 by default

    Without clusters the standard error is the standard deviation divided by √n, with n − 1 degrees of freedom. With G
    clusters, it is the cluster-robust standard error with the factor G / (G − 1) (Liang and Zeger 1986), with G − 1
    degrees of freedom.
    """
    totals, sizes = _by_cluster(_numbers(values), clusters)
    mean, error = _mean_and_error(totals, sizes)
    if len(totals) < 2:
        return Interval(mean, -math.inf, math.inf, math.nan, len(totals))
    reach = float(stdtrit(len(totals) - 1, (1 + level) / 2)) * error
    return Interval(mean, mean - reach, mean + reach, error, len(totals))


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of the differences `a − b` with their bootstrap interval over prompts.

    a, b: one-dimensional arrays of the same length; the values at the same index are a pair
    clusters: the prompt of each pair; by default each pair is a prompt of its own
    level: probability that the interval covers the true mean difference; 0.95 by default
    resamples: number of bootstrap samples; 5000 by default
    seed: seed of the bootstrap; 0 by default

    The ends are percentiles that are moved outwards a little, because plain percentiles are too narrow for few prompts.
    This is the expanded percentile interval (Hesterberg, "What Teachers Should Know About the Bootstrap", arXiv
    1411.5279).
    The interval always includes zero if fewer prompts have a difference than a sign test needs (six at 95 %).
    Otherwise three equal differences would give an interval of length zero.
    """
    first, second = _numbers(a), _numbers(b)
    if first.shape != second.shape:
        raise ValueError(f"pairs are needed, but there are {len(first)} values and {len(second)}")
    totals, sizes = _by_cluster(first - second, clusters)
    mean, error = _mean_and_error(totals, sizes)
    count = len(totals)
    if count < 2:
        return Interval(mean, -math.inf, math.inf, math.nan, count)
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + level) / 2)))
    low, high = np.quantile(_resampled_means(totals, sizes, resamples, seed), (tail, 1 - tail))
    if 2.0 ** (1 - np.count_nonzero(totals)) > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Interval(mean, float(low), float(high), error, count)


def proportion_interval(hits: int, count: int, *, level: float = 0.95) -> Interval:
    """Return the share `hits / count` with Wilson's score interval (1927).

    level: probability that the interval covers the true share; 0.95 by default

    The interval stays inside 0 to 1, and is reliable for shares near 0 and 1 too. Raises `ValueError` unless
    0 ≤ `hits` ≤ `count` and `count` > 0.
    """
    return score_interval(_share(hits, count), count, level=level)


def score_interval(share: float, count: int, *, level: float = 0.95) -> Interval:
    """Return a mean of values from 0 to 1 with Wilson's score interval, as if each value were 0 or 1.

    share: mean of the values
    count: number of values, at least 1
    level: probability that the interval covers the true mean; 0.95 by default

    No values between 0 and 1 vary more than values of 0 and 1 with the same mean, so the interval is never too narrow
    for that reason. Raises `ValueError` unless 0 ≤ `share` ≤ 1 and `count` > 0.
    """
    if not 0 <= share <= 1 or count < 1:
        raise ValueError(f"the mean {share} of {count} values is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if share == 0 else middle - reach
    high = 1.0 if share == 1 else middle + reach
    return Interval(share, low, high, math.sqrt(share * (1 - share) / count), count)


def sign_test(above: int, below: int) -> float:
    """Return the p value of the two-sided exact sign test, from 0 to 1.

    above: number of prompts on which A is better than B
    below: number of prompts on which B is better than A; ties are in neither number

    The p value is the probability of a split at least as uneven if wins and losses are equally likely. It is 1 if both
    numbers are 0. For right and wrong answers this is McNemar's exact test: `above` counts the prompts that only A got
    right, and `below` the prompts that only B got right.
    """
    count, fewer = above + below, min(above, below)
    likely: float = 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    return min(1.0, likely)


def needed(differences: ArrayLike, *, power: float = 0.8, level: float = 0.95) -> int | None:
    """Estimate how many prompts a study needs, so that its interval excludes zero with a probability of `power`.

    differences: the observed difference for each prompt, as a one-dimensional array
    power: 0.8 by default
    level: level of the interval; 0.95 by default

    Returns `None` if the mean difference is 0, or with fewer than two differences. The estimate is the sample size of
    the paired t test with Guenther's correction (1981). The observed mean and spread stand for the true mean and
    spread. So the estimate is rough, and too low if the observed mean is too high by chance.
    """
    values = _numbers(differences)
    mean = float(values.mean())
    if len(values) < 2 or mean == 0:
        return None
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    enough = ((z + normal.inv_cdf(power)) * float(values.std(ddof=1)) / mean) ** 2 + z * z / 2
    least = math.ceil(1 - math.log2(1 - level))  # what a sign test of equal differences would need
    return max(least, math.ceil(enough)) if math.isfinite(enough) else None


def _numbers(values: ArrayLike) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError("a list of numbers is needed, and at least one")
    if not np.isfinite(numbers).all():
        raise ValueError("every value must be a number; leave out what could not be graded, with its pair")
    return numbers


def _share(hits: int, count: int) -> float:
    if not 0 <= hits <= count or not count:
        raise ValueError(f"{hits} of {count} is no share")
    return hits / count


def _by_cluster(values: Numbers, clusters: Sequence[Hashable] | None) -> tuple[Numbers, Numbers]:
    """Return two arrays with one entry for each cluster: the sum of its values, and their number."""
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values have {len(clusters)} clusters")
    indices: dict[Hashable, int] = {}
    owner = [indices.setdefault(cluster, len(indices)) for cluster in clusters]
    return np.bincount(owner, weights=values).astype(np.float64), np.bincount(owner).astype(np.float64)


def _mean_and_error(totals: Numbers, sizes: Numbers) -> tuple[float, float]:
    """Return the mean of all values and its cluster-robust standard error, from the output of `_by_cluster`."""
    mean, count = float(totals.sum() / sizes.sum()), len(totals)
    if count < 2:
        return mean, math.nan
    spread = float(((totals - mean * sizes) ** 2).sum())
    return mean, math.sqrt(spread * count / (count - 1)) / float(sizes.sum())


def _resampled_means(totals: Numbers, sizes: Numbers, resamples: int, seed: int) -> Numbers:
    """Return the mean of each bootstrap sample, which draws whole clusters with replacement: shape (resamples,)."""
    generator, count = np.random.default_rng(seed), len(totals)
    step = max(1, CHUNK // count)
    means = []
    for start in range(0, resamples, step):
        drawn = generator.integers(0, count, size=(min(step, resamples - start), count))
        means.append(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
