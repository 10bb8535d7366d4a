"""Compares two contestants, prompt by prompt: which contestant is better, and how sure the difference is.

Both contestants have answered the same prompts, so that easy and hard prompts cancel out. A contestant is called better
only if the interval of the difference excludes zero. The intervals are not corrected for several comparisons: of twenty
comparisons between equals, one is expected to show a difference.
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

Attempt = tuple[str, int]  # id of a sample, and index of the attempt at the sample


class Difference(Struct, frozen=True):
    """How much better contestant `one` is than contestant `other`.

    one, other: names of the contestants
    interval: mean difference of the grades with its 95 % interval, on the task's scale; from −1 to 1 for preferences
    above, level, below: number of prompts on which `one` is better, equally good, and worse
    missing: number of attempts that could not be compared, because a grade or a verdict is missing
    chance: p value of the sign test, from 0 to 1: probability of a split at least as uneven between equals
    enough: estimated number of prompts that a study needs to show this difference; `None` if there is no estimate
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
        """Name of the better contestant; `None` if the interval includes zero."""
        if not self.interval.excludes_zero:
            return None
        return self.one if self.interval.mean > 0 else self.other

    def words(self) -> str:
        """Return the difference as one line of text. No contestant is called better if the interval includes zero."""
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
    """Return the mean of one contestant's grades with its 95 % interval over prompts.

    values: grade of each attempt, from `values_of`; at least one
    scale: lowest and highest grade, which the interval does not exceed; by default there is no limit

    If all grades are 0 or 1, with one attempt at each sample, the mean is a share and has Wilson's interval.
    """
    numbers, samples = list(values.values()), [sample for sample, _ in values]
    if set(numbers) <= {0.0, 1.0} and len(set(samples)) == len(samples):
        return proportion_interval(round(sum(numbers)), len(numbers))
    found = mean_interval(numbers, samples)
    return with_fields(found, low=max(found.low, scale[0]), high=min(found.high, scale[1]))


def values_of(grades: Iterable[Grade], contestant: str) -> dict[Attempt, float]:
    """Return the grades of one contestant, by sample id and index of the attempt."""
    return {(each.sample, each.attempt): each.value for each in grades if each.contestant == contestant}


def difference(
    one: str, other: str, a: Mapping[Attempt, float], b: Mapping[Attempt, float], seed: int = 0
) -> Difference | None:
    """Compare two contestants by their grades; `None` if no attempt has a grade of both.

    one, other: names of the contestants
    a, b: grades of `one` and of `other`, from `values_of`
    seed: seed of the bootstrap of the interval; 0 by default
    """
    both = [attempt for attempt in a if attempt in b]
    missing = len({*a, *b}) - len(both)
    if not both:
        return None
    return _difference(one, other, both, [a[each] for each in both], [b[each] for each in both], missing, seed)


def preference(one: str, other: str, verdicts: Sequence[Verdict], missing: int, seed: int = 0) -> Difference | None:
    """Compare two contestants by the verdicts of a judge; `None` if there is no verdict.

    one, other: names of the contestants
    verdicts: verdicts about `one` and `other`, in this order
    missing: number of attempts without a verdict
    seed: seed of the bootstrap of the interval; 0 by default
    """
    if not verdicts:
        return None
    both = [(each.sample, each.attempt) for each in verdicts]
    values = [each.value for each in verdicts]
    return _difference(one, other, both, values, [1 - value for value in values], missing, seed)


def _difference(
    one: str, other: str, both: Sequence[Attempt], a: Sequence[float], b: Sequence[float], missing: int, seed: int
) -> Difference:
    """Compare the values `a` and `b` of the attempts `both`, where values at the same index are of the same attempt."""
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
