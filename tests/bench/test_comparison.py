"""What `compare` says of grades: better only where it is sure, in 500 simulated studies as often as it should."""

import numpy as np
import pytest

from partsong.bench.baselines import baselines, family, related, singles
from partsong.bench.comparison import Difference, difference, preference, quality
from partsong.bench.contestant import reseeded, voted
from partsong.bench.diagnosis import copied, diagnose, order_bias
from partsong.bench.task import Grade, Output, Sample, Verdict
from partsong.bench.tasks.exact import Exact
from partsong.recipe import Agent, Aggregator, Layer, Recipe, single

STUDIES, PROMPTS = 500, 60


def studies(skill: float, other: float) -> list[Difference]:
    """Simulated studies of two contestants with these chances of a right answer, on prompts hard and easy."""
    chance = np.random.default_rng(1)
    found = []
    for number in range(STUDIES):
        ease = chance.normal(0, 0.2, PROMPTS)
        a = (chance.random(PROMPTS) < np.clip(skill + ease, 0, 1)).astype(float)
        b = (chance.random(PROMPTS) < np.clip(other + ease, 0, 1)).astype(float)
        one = {(str(place), 0): value for place, value in enumerate(a)}
        two = {(str(place), 0): value for place, value in enumerate(b)}
        each = difference("a", "b", one, two, seed=number)
        assert each is not None
        found.append(each)
    return found


def test_between_equals_a_difference_is_said_as_seldom_as_it_should() -> None:
    found = studies(0.6, 0.6)
    wrong = sum(each.better is not None for each in found)
    assert 0.03 <= wrong / STUDIES <= 0.07
    assert sum("no difference shown" in each.words() for each in found) == STUDIES - wrong


def test_a_real_difference_is_found_and_never_the_wrong_way_round() -> None:
    found = studies(0.75, 0.45)
    assert sum(each.better == "a" for each in found) / STUDIES > 0.9
    assert not any(each.better == "b" for each in found)
    assert abs(np.mean([each.interval.mean for each in found]) - 0.3) < 0.02


def test_what_is_said() -> None:
    a = {(str(number), 0): 1.0 for number in range(20)}
    b = {(str(number), 0): float(number % 2) for number in range(30)}
    found = difference("a", "b", a, b)
    assert found is not None
    assert (found.above, found.level, found.below, found.missing) == (10, 10, 0, 10)
    assert found.words().startswith("a is better than b: +0.500 [+0.")
    turned = difference("b", "a", b, a)
    assert turned is not None
    assert turned.words().startswith("a is better than b: b has -0.500 [-0.")
    few = difference("a", "b", dict(list(a.items())[:4]), b)
    assert few is not None
    assert few.words().startswith("no difference shown between a and b, needs about ")
    assert difference("a", "b", a, {}) is None


def test_attempts_at_one_prompt_are_one_prompt() -> None:
    a = {("only", attempt): 1.0 for attempt in range(50)}
    b = {("only", attempt): 0.0 for attempt in range(50)}
    found = difference("a", "b", a, b)
    assert found is not None
    assert found.better is None
    assert found.interval.n == 1


def test_preferences_are_between_minus_one_and_one() -> None:
    verdicts = [Verdict("a", "b", str(number), 1.0, parts={"first": 1.0, "second": 1.0}) for number in range(12)]
    found = preference("a", "b", verdicts, missing=1)
    assert found is not None
    assert (found.better, found.interval.mean, found.missing) == ("a", 1.0, 1)


def test_right_answers_all_are_not_certain() -> None:
    assert quality({("x", 0): 1.0, ("y", 0): 1.0}).low < 0.5


def test_a_judge_that_likes_the_first_is_found_out() -> None:
    bias = order_bias([Verdict("a", "b", str(n), 0.5, parts={"first": 1.0, "second": 0.0}) for n in range(4)])
    assert bias is not None
    assert (bias.n, bias.first, bias.turned) == (4, 1.0, 1.0)


MIXED = Recipe(
    "mixed",
    (Layer((Agent("lab:one", temperature=0.0, system="Be brief."), Agent("lab:two", samples=2))),),
    Aggregator("lab:three", max_tokens=50),
)


def test_baselines_cost_what_the_mixture_does() -> None:
    alone = singles([MIXED, single("lab:one")])
    assert {name: list(mine) for name, mine in alone.items()} == {
        "mixed": ["lab:three", "lab:two", "lab:one"],
        "lab:one": [],
    }
    assert alone["mixed"]["lab:one"].recipe.aggregator.system == "Be brief."
    best = MIXED.layers[0].agents[0]
    prices = {"lab:one": 2.0, "lab:two": 1.0, "lab:three": 4.0}
    found = baselines(MIXED, best, 12.0, prices, votes=True)
    vote, itself = found.values()
    assert (next(iter(found)), vote.samples) == ("lab:one × 6, majority", 6)
    assert vote.recipe.aggregator.temperature == 0.7  # at 0, six answers would be one
    (layer,) = itself.recipe.layers
    assert [(agent.model, agent.samples, agent.temperature) for agent in layer.agents] == [("lab:one", 2, 0.7)]
    assert itself.recipe.aggregator == MIXED.aggregator
    judged = baselines(MIXED, best, 12.0, prices, votes=False)
    # Reading a proposal costs the aggregator about two thirds of what it costs to write one alone.
    assert next(iter(judged)) == "best of lab:one × 4"


def test_every_run_of_a_study_draws_for_itself() -> None:
    seeded = Recipe("r", (Layer((Agent("a:a", seed=3), Agent("a:b"))),), Aggregator("a:c"))
    first, again = (reseeded(seeded, 0, "r", "x", attempt, anew=attempt > 0) for attempt in (0, 1))
    assert first.layers[0].agents[0].seed == 3
    assert again.layers[0].agents[0].seed is None
    other = reseeded(seeded, 0, "other", "x", 0, anew=False)
    assert len({first.seed, again.seed, other.seed}) == 3
    assert reseeded(seeded, 0, "r", "x", 0, anew=False) == first


def test_a_vote_counts_what_answers_come_to() -> None:
    def voted_for(*answers: str, kind: str = "", reference: tuple[str, ...] = ("1",)) -> int:
        sample = Sample("s", ("?",), reference=reference, labels={"kind": kind})
        return voted(sample, [Output("c", "s", (answer,)) for answer in answers])

    assert voted_for("Answer: 2", "Answer: 0.5", "It is \\boxed{\\frac12}\n#### 1/2") == 1
    assert voted_for("Answer: A", "Answer: (B)", "Answer: B", kind="choice") == 1


async def test_what_becomes_of_the_proposals() -> None:
    samples = [Sample(name, ("?",), reference=("7",)) for name in ("lost", "kept", "found")]

    def output(name: str, answer: int, *proposals: int) -> Output:
        return Output(
            "c", name, (f"Answer: {answer}",), proposals=tuple(("m", f"Answer: {each}") for each in proposals)
        )

    outputs = [output("lost", 8, 7, 7, 1), output("kept", 7, 7, 7, 7), output("found", 7, 1, 2, 7)]
    grades = [Grade("c", each.sample, float(each.sample != "lost")) for each in outputs]
    found = await diagnose(Exact("t", samples), samples, outputs, grades)
    assert found is not None
    assert (found.n, found.oracle) == (3, 1.0)
    assert found.proposals == pytest.approx(2 / 3)
    assert found.closed == pytest.approx(0.0)
    assert found.lost == pytest.approx(1 / 3)
    assert found.found == pytest.approx(1 / 3)
    assert found.copied == pytest.approx(2 / 3)
    assert await diagnose(Exact("t", samples), samples, [Output("c", "lost", ("7",))], []) is None


def test_a_copy_is_one_but_for_a_few_letters() -> None:
    text = "The sky is blue because air scatters short waves of light more than long ones."
    assert copied(Output("c", "s", (text + " ",), proposals=(("m", "No."), ("m", text[:-1] + "!"))))
    assert not copied(Output("c", "s", (text,), proposals=(("m", text[:40]), ("m", ""))))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("openai:gpt-6.1-sol", "openrouter:openai/o3-mini", True),
        ("local:qwen2.5-coder-0.5b", "together:Qwen/Qwen1.5-110B-Chat", True),
        ("anthropic:claude-opus-4", "openai:gpt-4o", False),
        ("lab:alpha-1", "lab:alpha-2", True),
    ],
)
def test_families(one: str, other: str, same: bool) -> None:
    assert (family(one) == family(other)) is same
    assert related(one, [single(other)]) == ([other] if same else [])


def test_no_mean_lies_beyond_the_scale() -> None:
    grades = {(f"s{number}", 0): value for number, value in enumerate((10.0, 10.0, 10.0, 9.0))}
    assert quality(grades).high > 10
    held = quality(grades, (1.0, 10.0))
    assert (held.mean, held.high) == (9.75, 10.0)
