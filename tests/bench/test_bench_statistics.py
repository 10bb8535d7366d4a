"""The statistics of the bench: known values, and simulated studies in which the truth is known."""

import math
from typing import Any

import numpy as np
import pytest

from partsong.bench.statistics.intervals import (
    mean_interval,
    needed,
    paired_interval,
    proportion_interval,
    sign_test,
)

STUDIES = 500


def test_a_mean_has_students_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.mean, found.n) == (3.0, 5)
    assert found.standard_error == pytest.approx(math.sqrt(2.5 / 5))
    assert found.high - found.mean == pytest.approx(2.7764451 * math.sqrt(0.5))  # t(0.975, 4) from a printed table
    assert found.low == pytest.approx(6 - found.high)


def test_repeated_attempts_make_nothing_surer() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    once = mean_interval(values)
    thrice = mean_interval(np.repeat(values, 3), [prompt for prompt in "abcdef" for _ in range(3)])
    assert (thrice.mean, thrice.n) == (once.mean, once.n)
    assert thrice.low == pytest.approx(once.low)
    assert mean_interval(np.repeat(values, 3)).standard_error < 0.6 * once.standard_error
    paired = (
        paired_interval(values, np.zeros(6)),
        paired_interval(np.repeat(values, 3), np.zeros(18), [prompt for prompt in range(6) for _ in range(3)]),
    )
    assert paired[1].low == pytest.approx(paired[0].low)
    assert paired[1].standard_error == pytest.approx(paired[0].standard_error)


def test_the_same_data_give_the_same_interval_in_any_chunks() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    found = paired_interval(values, np.zeros(1000), resamples=5000)
    assert found == paired_interval(values, np.zeros(1000), resamples=5000)
    assert found.low == pytest.approx(mean_interval(values).low, abs=0.005)
    assert found.high == pytest.approx(mean_interval(values).high, abs=0.005)


def test_few_prompts_show_nothing_however_equal_their_differences() -> None:
    assert not paired_interval([1.0] * 5, [0.0] * 5).excludes_zero
    assert not paired_interval([1.0] * 5 + [0.0] * 20, [0.0] * 25).excludes_zero
    assert paired_interval([1.0] * 6, [0.0] * 6).excludes_zero
    alone = paired_interval([1.0], [0.0])
    assert (alone.low, alone.high) == (-math.inf, math.inf)
    assert not mean_interval([5.0]).excludes_zero


def test_what_is_no_pair_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values and 1"):
        paired_interval([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="could not be graded"):
        mean_interval([1.0, math.nan])
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
    with pytest.raises(ValueError, match="1 clusters"):
        mean_interval([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="no share"):
        proportion_interval(3, 2)


@pytest.mark.parametrize(
    ("shape", "prompts"),
    [("normal", 20), ("clustered", 20), ("normal", 100), ("right or wrong", 100), ("skewed", 100), ("clustered", 100)],
)
def test_intervals_cover_the_truth_as_often_as_they_say(shape: str, prompts: int) -> None:
    generator = np.random.default_rng(20)
    covered, zero_inside, of_means = 0, 0, 0
    for study in range(STUDIES):
        skill = generator.normal(size=prompts)
        clusters = None
        truth = 0.0
        a: np.ndarray[Any, Any]
        b: np.ndarray[Any, Any]
        if shape == "normal":
            a, b = skill + generator.normal(size=prompts), skill + generator.normal(size=prompts)
        elif shape == "right or wrong":
            a, b = (
                (skill + generator.normal(size=prompts) > 0) * 1.0,
                (skill + generator.normal(size=prompts) > 0) * 1.0,
            )
        elif shape == "skewed":
            a, b, truth = skill + generator.exponential(size=prompts), skill, 1.0
        else:
            clusters = [prompt for prompt in range(prompts) for _ in range(3)]
            effect = np.repeat(generator.normal(size=prompts), 3)
            a, b = effect + generator.normal(size=3 * prompts), np.zeros(3 * prompts)
        found = paired_interval(a, b, clusters, resamples=1000, seed=study)
        covered += found.low <= truth <= found.high
        zero_inside += not found.excludes_zero
        mean = mean_interval(a - b, clusters)
        of_means += mean.low <= truth <= mean.high
    assert covered / STUDIES == pytest.approx(0.95, abs=0.02)
    assert of_means / STUDIES == pytest.approx(0.95, abs=0.02)
    if truth:
        assert zero_inside < 0.05 * STUDIES  # an effect of that size is always found
    else:
        assert zero_inside / STUDIES == pytest.approx(0.95, abs=0.02)


def test_shares() -> None:
    found = proportion_interval(15, 50)
    assert [found.low, found.high] == pytest.approx([0.19104, 0.43751], abs=1e-5)
    assert proportion_interval(0, 10).low == 0.0
    assert proportion_interval(10, 10).high == 1.0


def test_the_sign_test_is_exact() -> None:
    assert sign_test(6, 0) == pytest.approx(2 / 64)
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(9, 1) == pytest.approx(22 / 1024)
    assert sign_test(4, 4) == sign_test(0, 0) == 1.0
    assert sign_test(1200, 1000) == pytest.approx(2.2e-5, rel=0.1)


def test_as_many_prompts_as_needed_are_enough() -> None:
    generator = np.random.default_rng(7)
    pilot = generator.normal(size=40)
    pilot = (pilot - pilot.mean()) / pilot.std(ddof=1) + 0.4
    count = needed(pilot)
    assert count in {51, 52}  # 0.4 standard deviations at 80 %: 51.0 in tables of the t test
    found = sum(mean_interval(generator.normal(0.4, 1, count)).excludes_zero for _ in range(STUDIES)) / STUDIES
    assert found == pytest.approx(0.8, abs=0.05)
    assert needed([1.0, -1.0]) is None
    assert needed([0.5]) is None
    assert needed([1.0, 1.0, 1.0]) == 6
    assert needed(-pilot) == count
