"""Is one better than the other, and is it sure? Paired by prompt: both answered the same, so prompts cancel out.

“Better” is said only where the interval of the difference excludes zero. Each interval stands for itself: of twenty
comparisons of equals, one is expected to look like a difference.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace as with_fields

from partsong.bench.statistics.intervals import (
    Interval,
    mean_interval,
    needed,
    paired_interval,
    proportion_interval,
    sign_test,
)
from partsong.bench.task import Grade, Verdict

Attempt = tuple[str, int]  # a sample, and the how-manieth time that it was asked


class Difference(Struct, frozen=True):
    """How much better `one` is than `other`, on the task's scale; of a judge's preferences, from −1 to 1.

    `above`, `level` and `below` count the prompts on which it is better, as good and worse; `missing` are attempts that
    one of them has no grade for. `enough` is about how many prompts would show such a difference.
    """

    one: str
    other: str
    interval: Interval
    above: int
    level: int
    below: int
    missing: int
    chance: float  # of a split at least so uneven between equals, by the sign test
    enough: int | None

    @property
    def better(self) -> str | None:
        """Who is better, if that is sure."""
        if not self.interval.excludes_zero:
            return None
        return self.one if self.interval.mean > 0 else self.other

    def words(self) -> str:
        """What may be said of it, and no more."""
        interval = self.interval
        figures = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}], n = {interval.n:,}"
        split = f"{self.above:,} better, {self.level:,} level, {self.below:,} worse"
        if self.better == self.one:
            return f"{self.one} is better than {self.other}: {figures} ({split})"
        if self.better == self.other:
            return f"{self.other} is better than {self.one}: {self.one} has {figures} ({split})"
        more = "" if self.enough is None else f", needs about {self.enough:,} prompts"
        return f"no difference shown between {self.one} and {self.other}{more}: {figures} ({split})"


def quality(values: Mapping[Attempt, float], scale: tuple[float, float] = (-math.inf, math.inf)) -> Interval:
    """The mean of one contestant's grades. Of right and wrong answers, a share, whose interval stays inside 0 to 1.

    Any other interval ends where the scale does: no mean can lie beyond.
    """
    numbers, samples = list(values.values()), [sample for sample, _ in values]
    if set(numbers) <= {0.0, 1.0} and len(set(samples)) == len(samples):
        return proportion_interval(round(sum(numbers)), len(numbers))
    found = mean_interval(numbers, samples)
    return with_fields(found, low=max(found.low, scale[0]), high=min(found.high, scale[1]))


def values_of(grades: Iterable[Grade], contestant: str) -> dict[Attempt, float]:
    """The grades of one contestant that could be made, by what was asked."""
    return {(each.sample, each.attempt): each.value for each in grades if each.contestant == contestant}


def difference(
    one: str, other: str, a: Mapping[Attempt, float], b: Mapping[Attempt, float], seed: int = 0
) -> Difference | None:
    """How the grades of one differ from those of the other; `None` where no prompt has both."""
    both = [attempt for attempt in a if attempt in b]
    missing = len({*a, *b}) - len(both)
    if not both:
        return None
    return _difference(one, other, both, [a[each] for each in both], [b[each] for each in both], missing, seed)


def preference(one: str, other: str, verdicts: Sequence[Verdict], missing: int, seed: int = 0) -> Difference | None:
    """How a judge's preferences between two differ from none; `None` where there is no verdict."""
    if not verdicts:
        return None
    both = [(each.sample, each.attempt) for each in verdicts]
    values = [each.value for each in verdicts]
    return _difference(one, other, both, values, [1 - value for value in values], missing, seed)


def _difference(
    one: str, other: str, both: Sequence[Attempt], a: Sequence[float], b: Sequence[float], missing: int, seed: int
) -> Difference:
    samples = [sample for sample, _ in both]
    by_prompt: dict[str, list[float]] = {}
    for sample, first, second in zip(samples, a, b, strict=True):
        by_prompt.setdefault(sample, []).append(first - second)
    means = [sum(each) / len(each) for each in by_prompt.values()]
    above, below = sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)
    return Difference(
        one,
        other,
        paired_interval(a, b, samples, seed=seed),
        above,
        len(means) - above - below,
        below,
        missing,
        sign_test(above, below),
        needed(means),
    )
