"""Spearman's rho within each question, averaged over the questions.

The questions are the random sample, so the interval is over questions. A question in which one of the two variables
does not vary has no rho. Such questions are left out of the mean, and counted.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.stats import rankdata

from partsong.bench.statistics.intervals import paired_interval

Numbers = NDArray[np.float64]


class Rho(Struct, frozen=True):
    """The mean rho over `n` questions, with its 95 % bootstrap interval; `without` questions have no rho."""

    mean: float
    low: float
    high: float
    n: int
    without: int


def mean_rho(
    one: Sequence[Numbers], other: Sequence[Numbers], beside: Sequence[Numbers] | None = None, *, seed: int = 0
) -> Rho | None:
    """The mean of Spearman's rho between `one` and `other` over the questions; `None` if no question has a rho.

    With `beside`, it is the partial rho, with that third variable held constant.
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
    """Spearman's rho, where equal values share a rank; `None` if one variable does not vary."""
    if len(a) < 2:
        return None
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else None


def partial(a: Numbers, b: Numbers, beside: Numbers) -> float | None:
    """Spearman's partial rho of `a` and `b`, with `beside` held constant.

    `None` for fewer than four values, because the partial rho of three values is always 1 or -1.
    """
    ab, ac, bc = spearman(a, b), spearman(a, beside), spearman(b, beside)
    if ab is None or len(a) < 4:
        return None
    if ac is None or bc is None:
        return ab
    rest = (1 - ac * ac) * (1 - bc * bc)
    return (ab - ac * bc) / float(np.sqrt(rest)) if rest > 1e-12 else None
