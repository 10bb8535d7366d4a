"""Compares two contestants, prompt by prompt: which one is better, and how sure that is.

Both have answered the same prompts, so that easy and hard prompts cancel out. One is called better only if the interval
of the difference excludes zero. The intervals are not corrected for several comparisons: of twenty comparisons between
equals, one is expected to show a difference.
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

Attempt = tuple[str, int]  # a sample, and the index of the attempt at it


class Difference(Struct, frozen=True):
    """How much better `one` is than `other`.

    interval: mean difference, on the task's scale; from −1 to 1 for the preferences of a judge
    above, level, below: number of prompts on which `one` is better, equally good, and worse
    missing: number of attempts for which one of the two has no grade
    chance: probability of a split at least so uneven between equals, by the sign test
    enough: estimated number of prompts that would show a difference of this size
    """

    one: str
    other: str
    interval: Interval
    above: int
    level: int
    below: int
    missing: int
    chance: float
    enough: int | None

    @property
    def better(self) -> str | None:
        """The name of the better one; `None` if the interval includes zero."""
        if not self.interval.excludes_zero:
            return None
        return self.one if self.interval.mean > 0 else self.other

    def words(self) -> str:
        """The difference as a line of text, which calls one of the two better only if the interval excludes zero."""
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
    """The mean of one contestant's grades with its interval, which stays inside the scale.

    Grades that are all 0 or 1, one for each sample, are a share, with the interval of a share.
    """
    numbers, samples = list(values.values()), [sample for sample, _ in values]
    if set(numbers) <= {0.0, 1.0} and len(set(samples)) == len(samples):
        return proportion_interval(round(sum(numbers)), len(numbers))
    found = mean_interval(numbers, samples)
    return with_fields(found, low=max(found.low, scale[0]), high=min(found.high, scale[1]))


def values_of(grades: Iterable[Grade], contestant: str) -> dict[Attempt, float]:
    """The grades of one contestant, by sample and attempt."""
    return {(each.sample, each.attempt): each.value for each in grades if each.contestant == contestant}


def difference(
    one: str, other: str, a: Mapping[Attempt, float], b: Mapping[Attempt, float], seed: int = 0
) -> Difference | None:
    """Compare by grades; `None` if no prompt has a grade for both."""
    both = [attempt for attempt in a if attempt in b]
    missing = len({*a, *b}) - len(both)
    if not both:
        return None
    return _difference(one, other, both, [a[each] for each in both], [b[each] for each in both], missing, seed)


def preference(one: str, other: str, verdicts: Sequence[Verdict], missing: int, seed: int = 0) -> Difference | None:
    """Compare by the verdicts of a judge; `None` if there is no verdict."""
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
