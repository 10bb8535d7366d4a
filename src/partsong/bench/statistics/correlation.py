"""Spearman's rank correlation (rho) within each question, averaged over the questions.

The questions are the random sample, so the interval is over questions. A question in which one of the two variables
has equal values only has no rho. Such questions are left out of the mean, and counted.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.stats import rankdata

from partsong.bench.statistics.intervals import paired_interval

Numbers = NDArray[np.float64]


class Rho(Struct, frozen=True):
    """The mean of Spearman's rho over questions, with its 95 % bootstrap interval. Every rho is from -1 to 1.

    mean: mean rho
    low, high: ends of the interval
    n: number of questions that have a rho
    without: number of questions that have no rho, and are left out
    """

    mean: float
    low: float
    high: float
    n: int
    without: int


def mean_rho(
    one: Sequence[Numbers], other: Sequence[Numbers], beside: Sequence[Numbers] | None = None, *, seed: int = 0
) -> Rho | None:
    """Return the mean over questions of Spearman's rho between `one` and `other`; `None` if no question has a rho.

    one, other: two variables, each as one array for each question; both arrays of a question have the same length
    beside: third variable in the same form; if given, the partial rho is computed with `beside` held constant
    seed: seed of the bootstrap of the interval; 0 by default

    Raises `ValueError` if `one` and `other` have different numbers of questions.
    """
    rhos = []
    for index, (a, b) in enumerate(zip(one, other, strict=True)):
        rho = spearman(a, b) if beside is None else partial(a, b, beside[index])
        if rho is not None:
            rhos.append(rho)
    if not rhos:
        return None
    spread = paired_interval(rhos, np.zeros(len(rhos)), seed=seed)
    return Rho(spread.mean, spread.low, spread.high, len(rhos), len(one) - len(rhos))


def spearman(a: Numbers, b: Numbers) -> float | None:
    """Return Spearman's rho of two arrays of the same length, from -1 to 1. Equal values share their mean rank.

    Returns `None` if either array has fewer than two different values.
    """
    if len(a) < 2:
        return None
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else None


def partial(a: Numbers, b: Numbers, beside: Numbers) -> float | None:
    """Return Spearman's partial rho of `a` and `b` with `beside` held constant, from -1 to 1.

    a, b, beside: arrays of the same length; if all values of `beside` are equal, the plain rho is returned

    Returns `None` for fewer than four values, because the partial rho of three values is always 1 or -1. Returns
    `None` too if all values of `a` or of `b` are equal, or if `a` or `b` has a rho of 1 or -1 with `beside`.
    """
    ab, ac, bc = spearman(a, b), spearman(a, beside), spearman(b, beside)
    if ab is None or len(a) < 4:
        return None
    if ac is None or bc is None:
        return ab
    rest = (1 - ac * ac) * (1 - bc * bc)
    return (ab - ac * bc) / float(np.sqrt(rest)) if rest > 1e-12 else None
