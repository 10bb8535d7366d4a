"""What is read as a statement, and above all which statements are never counted as one."""

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.engine.stated import LONGEST, read, same, stated

# Statements in each list mean the same. Statements of two lists never do.
MEANINGS: list[list[str]] = [
    ["5", "5.", "5.0", "+5", "**5**", "$5$", r"\(5\)", "`5`", '"5"', r"\text{5}", "05.0"[1:]],
    ["-5", "−5", "-5.00"],
    ["1000", "1,000", "1,000.0", r"1{,}000", r"1\,000"],
    ["0.5", ".5", "0.50"],
    ["1/2", r"\frac{1}{2}", r"\dfrac{1}{2}", r"\frac12"],
    ["2/4"],
    ["1,5"],
    ["1.5"],
    ["15"],
    ["50%", "50 %", r"50\%", "50 percent"],
    ["50"],
    ["7:30"],
    ["7:45"],
    ["7:30 pm"],
    ["x^2+1", "x^2 + 1", "$x^2+1$"],
    ["x^2-1", "x^2−1", "x^2 - 1"],
    ["[1,2]", "[1, 2]"],
    ["[1,3]"],
    ["(1,2)"],
    ["(1,2]"],
    ["{1,2}"],
    ["not 6"],
    ["6"],
    ["6!"],
    ["6 or 7"],
    ["6-7"],
    ["6x"],
    ["6 million"],
    ["6th"],
    ["6m"],
    ["6k"],
    ["60"],
    ["007"],
    ["7"],
    ["3.14"],
    ["3.14..."],
    ["A", "a", "(A)", "A)", "A.", "**A**", "(a)", "Option A", r"\text{A}", "**(A)**"],
    ["B"],
    ["A and B"],
    ["A or B"],
    ["yes", "Yes", "YES", "Yes.", "Yes!"],
    ["no", "No", "NO."],
    ["Paris", "paris", "PARIS", "**Paris**."],
    ["London"],
    ["CO"],
    ["Co"],
    ["Mr. Smith"],
    ["Mr. Jones"],
    ["12 March 2001"],
    ["3 December 2001"],
    ["2001-03-12"],
    ["valid"],
    ["invalid"],
    ["5 mW"],
    ["5 MW"],
    ["<5"],
    [">5"],
    ["5 < x"],
    ["x = 5"],
    ["y = 5"],
    ["1 2"],
    ["12"],
    ["(5)"],
    ["10^5"],
    ["105"],
    ["1e5"],
    ["3 hours 5 minutes"],
    ["3 hours 6 minutes"],
    ["$5 and $7"],
    ["x²"],
    ["x2"],
]
UNITS = ["5 km", "5 m", "5 apples", "5 oranges", "$5", "5 €", "5 hours", "5 minutes", "5°", "5 kg", "5 miles per hour"]
FORMS = [
    "{}",
    "Let us see. So the answer is {}",
    "I count.\n\nThe final answer is: {}",
    "**Answer:** {}",
    "Work.\nAnswer: {}",
    "Long work with 99 steps.\n\nTherefore, the correct answer is **{}**.",
    "Work.\n\nTherefore, the answer is:\n\nThe answer is {}",
    "So the answer is: The answer is: {}",
    "Answer: The final answer is **{}**.",
    r"First 99, and then \boxed{{{}}}.",
    r"So $\boxed{{{}}}$ is the answer.",
    "Work.\n#### {}",
]
PAIRS = [(one, other) for one, other in itertools.combinations(MEANINGS, 2)]


@pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning[0])
def test_ways_to_write_one_thing_are_the_same(meaning: list[str]) -> None:
    for one, other in itertools.product(meaning, meaning):
        first, second = read(one), read(other)
        assert first is not None, one
        assert second is not None, other
        assert same(first, second), (one, other)


@pytest.mark.parametrize("form", FORMS)
def test_a_statement_is_found_in_every_form(form: str) -> None:
    for words in ("5", "A", "yes", "7:30", "x^2+1", "1,000"):
        found = stated(form.format(words))
        expected = read(words)
        assert found is not None, form.format(words)
        assert expected is not None
        assert same(found, expected), (form, words, found)


@settings(max_examples=1000, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    forms=st.tuples(*[st.sampled_from(FORMS)] * 2),
    choice=st.randoms(use_true_random=False),
)
def test_different_things_are_never_the_same(
    pair: tuple[list[str], list[str]], forms: tuple[str, str], choice: random.Random
) -> None:
    one, other = (stated(form.format(choice.choice(words))) for form, words in zip(forms, pair, strict=True))
    assert one is None or other is None or not same(one, other), (one, other)


def test_different_things_are_never_the_same_in_a_box_or_alone() -> None:
    for (some, others), form in itertools.product(PAIRS, ("{}", r"\boxed{{{}}}")):
        for one, other in itertools.product(some, others):
            first, second = stated(form.format(one)), stated(form.format(other))
            assert first is None or second is None or not same(first, second), (form, one, other)


def test_a_unit_may_be_left_out_but_not_exchanged() -> None:
    bare = read("5")
    assert bare is not None
    known = [read(words) for words in UNITS]
    for one, other in itertools.combinations(known, 2):
        assert one is not None
        assert other is not None
        assert not same(one, other), (one, other)
    joined = [one for one in known if one is not None and same(one, bare)]
    assert {one.unit for one in joined} == {
        "km",
        "apple",
        "orange",
        "dollar",
        "€",
        "hour",
        "minute",
        "degree",
        "kg",
        "euro",
    } - {"€"}
    for words in ("5 dollars", "$5.00", "5 USD", r"\$5", r"5\text{ dollars}"):
        dollars, five = read(words), read("$5")
        assert dollars is not None
        assert five is not None
        assert same(dollars, five), words


@settings(max_examples=500, deadline=None)
@given(one=st.decimals(-(10**9), 10**9, places=3), other=st.decimals(-(10**9), 10**9, places=3))
def test_numbers_are_the_same_exactly_if_their_values_are(one: object, other: object) -> None:
    first, second = read(str(one)), read(f"{other:,}")
    assert first is not None
    assert second is not None
    assert same(first, second) == (one == other)


def test_long_numbers_are_not_rounded() -> None:
    one, other = read("1" * 60 + "1"), read("1" * 60 + "2")
    assert one is not None
    assert other is not None
    assert not same(one, other)


SILENT = [
    "The answer is 3.\n\nThe answer is: The answer is 4.",
    "The answer is: the answer is unknown.",
    "The answer is 4. The answer is: The wrong answer is 4.",
    "",
    " \n",
    "The answer is not known.",
    "The answer is not 5.",
    "The answer isn't 5",
    "The answer is never 5.",
    "I don't know.",
    "I am not sure",
    "Sorry, I cannot help.",
    "unknown",
    "If the answer is 5, we are done.",
    "The wrong answer is 5, of course it is.",
    "Bob's answer is 5. Mine is another one, as you see here.",
    "What is the answer?",
    r"\boxed{5} or \boxed{6}",
    r"a) \boxed{3} b) \boxed{7}",
    r"\boxed{5}. Wait, the answer is 6.",
    r"\boxed{5",
    r"\boxed{}",
    r"-\boxed{5}",
    r"The answer is not \boxed{5}.",
    r"$x \neq \boxed{5}$",
    r"\boxed{5}x",
    r"\boxed{5}\%",
    "Part one, answer: 3.\n\nPart two, answer: 7.",
    "#### 3\n#### 7",
    "#### Conclusion\nWe must all work together, as the years have shown us.",
    'print("answer: ", i) and that is the whole of the program',
    "It is a long story, and nobody knows how it began. It ends well.",
    "one\ntwo",
    "The answer is that we must all work together, in every country, for a world that is worth it.",
    f"The answer is {'5' * (LONGEST + 1)}",
]


@pytest.mark.parametrize("text", SILENT, ids=lambda text: text[:30] or "nothing")
def test_what_states_nothing_abstains(text: str) -> None:
    assert stated(text) is None, stated(text)


ESSAYS = [
    "The sea is wide. It has many shores.\n\nIn the end, what counts is to sail.",
    "A hill is high. It has many paths.\n\nIn the end, what counts is to sail.",
    "# Sailing\n\nThe sea is wide.\n\n#### Conclusion\n\nWhat counts is to sail.",
    "# Hills\n\nA hill is high.\n\n#### Conclusion\n\nWhat counts is to sail.",
]


def test_essays_that_end_alike_are_not_counted() -> None:
    assert [stated(essay) for essay in ESSAYS] == [None] * len(ESSAYS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Answer: x = 1\ny = 2", "Answer: x = 1\ny = 3"),
        ("Answer: Paris\nLondon", "Answer: Paris\nRome"),
        ("Answer: 1. Paris 2. London", "Answer: 1. Paris 2. Rome"),
        (r"\boxed{\frac{1}{2}}", r"\boxed{\frac{1}{3}}"),
        (r"\boxed{\{1, 2\}}", r"\boxed{\{1, 3\}}"),
        (r"\boxed{x^{2}}", r"\boxed{x^{3}}"),
        ("The answer is 5.", "The answer is 5 or 6."),
        ("The answer is 5.", "The answer is about 5."),
        ("The answer is Mr. Smith.", "The answer is Mr. Jones."),
        ("The answer is St. Louis.", "The answer is St. Petersburg."),
    ],
)
def test_what_begins_alike_is_not_the_same(one: str, other: str) -> None:
    first, second = stated(one), stated(other)
    assert first is None or second is None or not same(first, second)


@pytest.mark.parametrize(
    "piece", [r"\boxed{", "answer is ", "the answer: 5\n\n", "#### 5\n", "{" * 50, "**", " ", "5,000 ", "\\text{"]
)
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    small, large = (piece * (length // len(piece)) for length in (20_000, 200_000))
    times = []
    for text in (small, large):
        began = time.process_time()
        stated(text)
        times.append(time.process_time() - began)
    assert times[1] < 60 * max(times[0], 0.02), "ten times the text takes far more than ten times as long"


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=300) | st.text(r"\boxed{}answer is:#5.*$", max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    found = stated(text)
    assert found is None or same(found, found)
