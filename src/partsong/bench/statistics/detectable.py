"""Which difference between two contestants a number of prompts can show, before anything is paid.

The numbers are for paired right and wrong answers. Two contestants disagree on a share of the prompts, the discordance,
on which exactly one of them is right. The less they disagree, the smaller the difference that can be seen.
"""

import math
from statistics import NormalDist

DISCORDANCES = (0.10, 0.15, 0.20)  # shares of prompts on which two recipes of one kind usually disagree


def prompts_needed(difference: float, discordance: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """Return the number of prompts that show a difference with a probability of `power`.

    difference: true difference of the shares of right answers, above 0 and at most `discordance`
    discordance: share of the prompts on which exactly one contestant is right, at most 1
    power: 0.8 by default
    level: level of the two-sided interval; 0.95 by default

    This is the sample size of the paired z test, (z₁ + z₂)² (discordance − difference²) / difference², rounded. Raises
    `ValueError` for numbers out of range.
    """
    if not 0 < difference <= discordance <= 1:
        raise ValueError(f"a difference of {difference} is impossible with a discordance of {discordance}")
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)
    return max(1, round(z * z * (discordance - difference * difference) / (difference * difference)))


def smallest_difference(prompts: int, discordance: float, *, power: float = 0.8, level: float = 0.95) -> float | None:
    """Return the smallest difference that so many prompts show with a probability of `power`.

    Returns `None` if the prompts show not even the largest possible difference, which is the discordance itself. Other
    parameters are those of `prompts_needed`. McNemar's test takes the spread under the hypothesis that there is no
    difference, so that the result is a little larger than that of the paired z test (Connor 1987).
    """
    if prompts < 1 or not 0 < discordance <= 1:
        raise ValueError(
            f"{prompts} prompts with a discordance of {discordance}: neither may be 0, nor a share above 1"
        )
    normal = NormalDist()
    alpha, beta = normal.inv_cdf((1 + level) / 2), normal.inv_cdf(power)

    def shown(difference: float) -> bool:
        spread = max(0.0, discordance - difference * difference)
        return math.sqrt(prompts) * difference >= alpha * math.sqrt(discordance) + beta * math.sqrt(spread)

    if not shown(discordance):
        return None
    low, high = 0.0, discordance
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def power_of(difference: float, spread: float, prompts: int, *, level: float = 0.95) -> float:
    """Return the probability, from 0 to 1, that so many prompts show a difference.

    difference: true mean of the paired differences
    spread: standard deviation of a paired difference
    prompts: number of prompts, at least 1
    level: level of the two-sided interval; 0.95 by default
    """
    if spread <= 0:
        return float(difference > 0)
    normal = NormalDist()
    return normal.cdf(difference * math.sqrt(prompts) / spread - normal.inv_cdf((1 + level) / 2))
