"""The statistics of a search: what can be seen, the one test, the split, and what is worked out from a pool."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.bench.statistics.detectable import power_of, prompts_needed, smallest_difference
from partsong.bench.statistics.intervals import sign_test
from partsong.bench.statistics.paired import _statistic, paired_test, score_interval
from partsong.bench.task import Sample
from partsong.bench.tune.choosing import baseline_of, choose, fronts, ranking
from partsong.bench.tune.halving import rungs, survivors
from partsong.bench.tune.methods import Measured, Method, Stage, measure, methods_of
from partsong.bench.tune.pool import ABSTAINS, Drawn, Member, Orders, counts, pooled
from partsong.bench.tune.splitting import normalised, split


@pytest.mark.parametrize(("discordance", "prompts"), [(0.10, 306), (0.15, 463), (0.20, 620)])
def test_five_points_need_so_many_prompts(discordance: float, prompts: int) -> None:
    assert prompts_needed(0.05, discordance) == prompts


def test_so_many_prompts_show_so_many_points() -> None:
    found = [smallest_difference(prompts, 0.20) for prompts in (60, 300)]
    assert [round(each * 100) for each in found if each is not None] == [16, 7]
    assert smallest_difference(10, 0.10) is None  # ten prompts show nothing of the kind


@given(st.integers(20, 2000), st.floats(0.05, 0.6))
def test_more_prompts_show_smaller_differences(prompts: int, discordance: float) -> None:
    found, more = smallest_difference(prompts, discordance), smallest_difference(2 * prompts, discordance)
    if found is not None:
        assert more is not None
        assert more < found
        assert prompts_needed(found, discordance) <= prompts  # McNemar's spread is the larger one


def test_the_power_is_what_simulated_tests_reach() -> None:
    chance = np.random.default_rng(3)
    both, only_a, only_b = 0.5, 0.15, 0.05
    shown = 0
    for _ in range(400):
        kinds = chance.choice(4, 200, p=[both, only_a, only_b, 1 - both - only_a - only_b])
        shown += paired_test((kinds <= 1).astype(float), np.isin(kinds, (0, 2)).astype(float)).better
    expected = power_of(0.1, math.sqrt(0.2 - 0.01), 200)
    assert expected - 0.12 < shown / 400 < expected + 0.03  # the exact test is a little weaker than the z test


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_sentence_and_interval_never_contradict_each_other(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [float(one) for one, _ in pairs], [float(other) for _, other in pairs]
    found = paired_test(a, b)
    assert found.chance == sign_test(found.above, found.below)
    assert found.low <= found.mean + 1e-9
    assert found.mean <= found.high + 1e-9
    assert found.better == (found.chance <= 0.05 and found.low > 0)
    if found.chance > 0.05:
        assert found.low <= 0 <= found.high
    turned = paired_test(b, a)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@pytest.mark.parametrize(("above", "below", "count"), [(1, 0, 10), (9, 5, 30), (12, 3, 50)])
def test_the_score_interval_solves_its_equation(above: int, below: int, count: int) -> None:
    found = score_interval(above, below, count)
    assert _statistic(above, below, count, found[0]) == pytest.approx(1.96, abs=0.01)
    assert _statistic(above, below, count, found[1]) == pytest.approx(-1.96, abs=0.01)
    assert found[0] < (above - below) / count < found[1]


def test_the_score_interval_covers_the_truth() -> None:
    chance = np.random.default_rng(5)
    covered = 0
    for _ in range(1000):
        only_a, only_b, _ = chance.multinomial(40, [0.2, 0.1, 0.7])
        low, high = score_interval(int(only_a), int(only_b), 40)
        covered += low <= 0.1 <= high
    assert 930 <= covered <= 985


@pytest.mark.parametrize("count", [8, 30, 120])
def test_grades_without_a_difference_are_seldom_called_better(count: int) -> None:
    chance = np.random.default_rng(7)
    found = [
        paired_test(chance.integers(1, 11, count) / 10, chance.integers(1, 11, count) / 10, seed=n) for n in range(100)
    ]
    assert sum(each.better for each in found) <= 8
    for each in found:
        assert each.low <= each.mean <= each.high
        if each.chance > 0.05:
            assert each.low <= 0 <= each.high


def test_clear_grades_are_called_better() -> None:
    chance = np.random.default_rng(9)
    b = chance.uniform(0, 0.6, 40)
    found = paired_test(b + chance.uniform(0, 0.4, 40), b)
    assert found.better
    assert 0.1 < found.low < found.mean < found.high < 0.3


TEXTS = st.text("aB2 +-.,!?“”()\n", min_size=1, max_size=12).filter(lambda text: text.strip())


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.sampled_from("xyz")), min_size=1, max_size=60), st.integers(0, 5))
def test_a_split_loses_nothing_and_shares_nothing(prompts: list[tuple[str, str]], seed: int) -> None:
    samples = [Sample(str(n), (text,), labels={"category": of}) for n, (text, of) in enumerate(prompts)]
    parts = split(samples, seed)
    one, other = ({normalised(each) for each in part} for part in (parts.choose, parts.held))
    assert not one & other
    assert one | other == {normalised(each) for each in samples}
    assert len(one) + len(other) == len(parts.choose) + len(parts.held) == len(samples) - parts.repeated
    assert abs(len(one) - 0.4 * (len(one) + len(other))) <= 1
    # Neither the order of the file nor the ids decide; whichever of equal prompts comes first stands for all.
    plain = [Sample(each.id, each.turns) for each in samples]
    turned = split([Sample(f"other {each.id}", each.turns) for each in reversed(plain)], seed)
    assert turned.digest == split(plain, seed).digest


def test_duplicates_and_strata() -> None:
    samples = [Sample(f"{n}", (f"What is {n} + {n}?",), labels={"subject": "ab"[n % 4 == 0]}) for n in range(100)]
    again = [Sample(f"again {n}", (f"  what IS {n} + {n} ",)) for n in range(40)]
    parts = split([*samples, *again], 3)
    assert (len(parts.choose), len(parts.held), parts.repeated, parts.stratum) == (40, 60, 40, "subject")
    for part, share in ((parts.choose, 40), (parts.held, 60)):
        kinds = Counter(each.labels["subject"] for each in part)
        assert kinds == {"a": share * 3 // 4, "b": share // 4}
    assert split(samples, 4).digest != split(samples, 3).digest == parts.digest
    assert normalised(Sample("x", ("2 - 3?",))) != normalised(Sample("y", ("2 + 3?",)))
    assert normalised(Sample("x", ("7:30",))) != normalised(Sample("y", ("730",)))


def member(name: str, labels: list[list[int]], price: float = 1.0) -> Member:
    found = np.array(labels)
    prices = np.full(found.shape, price)
    return Member(name, name, 0.7, found, (found == 0).astype(float), prices, prices)


def run_by_hand(seats: list[int], agree: int, *, last: bool) -> tuple[float, int, bool]:
    """One layer, seat by seat: the grade, the number of calls, and whether the seats agree."""
    votes: Counter[int] = Counter()
    first: dict[int, int] = {}
    for place, label in enumerate(seats):
        if label != ABSTAINS:
            votes[label] += 1
            first.setdefault(label, place)
        order = sorted(votes, key=lambda each: (-votes[each], first[each]))
        if agree and order and votes[order[0]] >= agree:
            return float(order[0] == 0), place + 1, True
        left = len(seats) - place - 1
        if agree and last and order:
            # Try every way in which the open seats could vote, with one statement that nobody has made yet.
            options = [*votes, 99]
            winners = {winner([*seats[: place + 1], *more]) for more in itertools.product(options, repeat=left)}
            if len(winners) == 1:
                return float(order[0] == 0), place + 1, False
    return float(winner(seats) == 0), len(seats), False


def winner(seats: list[int] | tuple[int, ...]) -> int:
    stated = [label for label in seats if label != ABSTAINS]
    return max(stated, key=lambda label: (stated.count(label), -stated.index(label)), default=ABSTAINS)


SEATS = st.lists(st.integers(-1, 2), min_size=5, max_size=5)


@settings(deadline=None, max_examples=60)
@given(SEATS, st.sampled_from([0, 2, 3]))
def test_a_stage_does_what_a_run_does_seat_by_seat(labels: list[int], agree: int) -> None:
    alone = member("m", [labels])
    orders = Orders([alone], 1, 8)
    found = measure(Method("x", (Stage((("m", 5),), agree),)), [alone], orders)
    by_hand = [
        run_by_hand([labels[place] for place in order], agree, last=True) for order in orders.of(alone, 5).tolist()
    ]
    assert found.values[0] == pytest.approx(np.mean([each[0] for each in by_hand]))
    assert found.calls[0] == pytest.approx(np.mean([each[1] for each in by_hand]))
    assert found.prices[0] == found.calls[0]


@settings(deadline=None, max_examples=40)
@given(st.lists(SEATS, min_size=1, max_size=3), st.lists(SEATS, min_size=3, max_size=3))
def test_a_cascade_pays_for_the_second_model_only_without_agreement(
    cheap: list[list[int]], dear: list[list[int]]
) -> None:
    pool = [member("cheap", cheap), member("dear", dear[: len(cheap)], 10.0)]
    orders = Orders(pool, 2, 8)
    found = measure(Method("x", (Stage((("cheap", 3),), 2), Stage((("dear", 3),), 2))), pool, orders)
    for row, labels in enumerate(cheap):
        runs = []
        for one, other in zip(orders.of(pool[0], 3).tolist(), orders.of(pool[1], 3).tolist(), strict=True):
            value, calls, agreed = run_by_hand([labels[place] for place in one], 2, last=False)
            price = float(calls)
            if not agreed:
                value, more, _ = run_by_hand([dear[row][place] for place in other], 2, last=True)
                price += 10.0 * more
            runs.append((value, price))
        assert found.values[row] == pytest.approx(np.mean([each[0] for each in runs]))
        assert found.prices[row] == pytest.approx(np.mean([each[1] for each in runs]))


def test_votes_are_counted_after_each_step() -> None:
    after = counts(np.array([1, 0, 1, ABSTAINS]))
    assert after.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [2, 1, 2, 0], [2, 1, 2, 0]]


def test_an_early_stop_needs_at_most_half_the_answers_of_the_vote() -> None:
    """A pool of 200 prompts with 10 answers each, from a model of 70 %; averaged over 64 orders."""
    chance = np.random.default_rng(11)
    skill = chance.beta(1.4, 0.6, 200)  # mean 0.7, with many prompts near 1 and some near 0
    wrong = 1 + chance.geometric(0.6, (200, 10)).clip(max=4)
    labels = np.where(chance.random((200, 10)) < skill[:, None], 0, wrong)
    pool = [member("m", labels.tolist())]
    orders = Orders(pool, 1)
    vote = measure(Method("vote", (Stage((("m", 10),)),)), pool, orders)
    stop = measure(Method("stop", (Stage((("m", 10),), 3),)), pool, orders)
    assert stop.calls.mean() <= 0.5 * vote.calls.mean() == 5.0
    assert abs(stop.mean - vote.mean) < 0.02


def test_the_pool_compares_statements_between_models_and_counts_failures_as_wrong() -> None:
    drawn = {
        "a": [[Drawn("4", 1.0, 1.0), Drawn("5", 0.0, 1.0), Drawn("", 0.0, 1.0, failed=True)]],
        "b": [[Drawn("5", 0.0, 2.0), Drawn("well", 0.0, 2.0)]],
    }
    a, b = pooled(drawn, {"a": ("x:a", 0.7), "b": ("x:b", None)}, lambda text: None if text == "well" else text)
    assert (a.labels.tolist(), b.labels.tolist()) == ([[0, 1, ABSTAINS]], [[1, ABSTAINS]])
    assert a.values.tolist() == [[1.0, 0.0, 0.0]]
    assert [each.name for each in methods_of([a, b])] == ["a", "b", "vote of 3 × a"]


def scored(name: str, mean: float, price: float, prompts: int = 100, *, single: bool = False) -> Measured:
    values = np.zeros(prompts)
    values[: round(mean * prompts)] = 1.0
    prices = np.full(prompts, price)
    return Measured(name, values, np.zeros(prompts), prices, prices, np.ones(prompts), single)


def test_the_baseline_is_the_best_at_no_more_than_the_cost() -> None:
    one, cold, vote, dear = (
        scored("one", 0.5, 1, single=True), scored("cold", 0.55, 1, single=True), scored("vote", 0.6, 3),
        scored("dear", 0.9, 50, single=True),
    )  # fmt: skip
    mix = scored("mix", 0.7, 5)
    everything = [one, cold, vote, dear, mix]
    ranked = ranking(everything)
    assert baseline_of(mix, ranked).name == "vote"
    assert baseline_of(vote, ranked).name == "cold"
    assert baseline_of(scored("free", 0.5, 0.1), ranked).name == "dear"
    choice = choose(everything, 300)
    assert choice is not None
    assert (choice.finalist.name, choice.baseline.name) == ("mix", "vote")
    assert choose([one, cold, scored("vote", 0.5, 3)], 300) is None
    half = np.array([1.0, np.nan])
    partly = Measured("partly", half, half, half, half, half)
    assert not partly.complete
    by_price, by_time = fronts(everything)
    assert by_price == by_time == [False, True, True, True, True]


@given(st.integers(1, 500), st.integers(1, 12))
def test_a_race_ends_on_all_prompts_with_two_recipes_at_least(prompts: int, racers: int) -> None:
    ends = rungs(prompts, racers)
    assert ends[-1] == prompts
    assert ends == sorted(set(ends))
    left = [f"r{n}" for n in range(racers)]
    for end in ends[:-1]:
        left = survivors({name: [float(name[1:])] * end for name in left})
    assert len(left) >= min(2, racers)
    assert f"r{racers - 1}" in left
