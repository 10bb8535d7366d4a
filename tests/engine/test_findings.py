"""What an analyst wrote: entries whose quotes stand are kept whole, all others are left out and counted."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.analysis import HEADINGS, SCHEMA, Analysis, as_text
from partsong.engine.findings import LONGEST, MOST_ENTRIES, UnusableError, read_analysis
from tests.grammar import quoted

PROPOSALS = {
    0: "The landing was in July 1969. It took eight days in all.",
    2: "Apollo 11 landed in July 1969, I think. It took nine days in all. Three men flew.",
    5: "They landed in 1970, and it took eight days in all.",
}
WORDS = {1: ["in July 1969", "eight days in all"], 2: ["July 1969", "nine days in all"], 3: ["They landed in 1970"]}


def claim(*quotes: tuple[Any, str], statement: str = "They say so.") -> dict[str, Any]:
    return {"statement": statement, "quotes": [{"proposal": number, "quote": words} for number, words in quotes]}


AGREEMENT = claim((1, "in July 1969"), (2, "landed in July 1969"))
CONTRADICTION = {"topic": "how long", "positions": [claim((1, "eight days in all")), claim((2, "nine days in all"))]}
SINGLE = claim((2, "Three men flew."))
WHOLE = {"agreements": [AGREEMENT], "contradictions": [CONTRADICTION], "single": [SINGLE], "gaps": ["where"]}


def read(**lists: Any) -> Analysis:
    return read_analysis(json.dumps({"gaps": ["a gap"], **lists}), PROPOSALS)


def test_an_analysis_is_read_with_the_seats_that_its_numbers_stand_for() -> None:
    analysis = read_analysis(json.dumps(WHOLE), PROPOSALS)
    assert [sorted(each.seats) for each in analysis.agreements] == [[0, 2]]
    assert [[sorted(side.seats) for side in each.positions] for each in analysis.contradictions] == [[[0], [2]]]
    assert [sorted(each.seats) for each in analysis.single] == [[2]]
    assert (analysis.gaps, analysis.dropped, analysis.quoted) == (("where",), 0, 3)
    for entry in (*analysis.agreements, *analysis.single):
        for quote in entry.quotes:
            assert PROPOSALS[quote.seat][quote.start : quote.end] == quote.text
    assert as_text(analysis, lambda seat: f"P{seat}").splitlines() == [
        "They agree:",
        '- They say so. (P0 "in July 1969"; P2 "landed in July 1969")',
        "They contradict each other:",
        "- how long:",
        '  - They say so. (P0 "eight days in all")',
        '  - They say so. (P2 "nine days in all")',
        "Only one says:",
        '- They say so. (P2 "Three men flew")',
        "All leave out (the analyst's opinion):",
        "- where",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        claim((1, "in July 1969")),  # one seat
        claim((1, "in July 1969"), (1, "eight days in all")),  # twice the same seat
        claim((1, "in July 1969"), (2, "in June 1969")),  # not there
        claim((1, "in July 1969"), (3, "in July 1969")),  # there, but in another proposal
        claim((1, "in July 1969"), (2, "landed in July 1969"), (3, "in July 1969")),  # one of three
        claim((1, "in July 1969"), (4, "landed in July 1969")),  # no such proposal
        claim((1, "in July 1969"), (0, "landed in July 1969")),
        claim((1, "in July 1969"), (True, "landed in July 1969")),
        claim((1, "in July 1969"), (None, "landed in July 1969")),
        claim((1, "it"), (2, "It")),  # says nothing
        claim((1, "in July 1969"), (2, "landed in July 1969"), statement=" "),
        claim((1, "in July 1969"), (2, "landed in July 1969"), statement="so " * 2000),
        {"statement": "They say so."},
        {"statement": "They say so.", "quotes": []},
        {"statement": "They say so.", "quotes": ["in July 1969"]},
        "They say so.",
        7,
        [],
    ],
)
def test_an_agreement_without_two_quotes_that_stand_is_left_out_and_counted(entry: Any) -> None:
    analysis = read(agreements=[AGREEMENT, entry])
    assert (len(analysis.agreements), analysis.dropped) == (1, 1)


@pytest.mark.parametrize(
    "entry",
    [
        {"topic": "how long", "positions": [claim((1, "eight days in all"))]},
        {"topic": "how long", "positions": [claim((1, "eight days in all")), claim((1, "in July 1969"))]},
        {"topic": "how long", "positions": [claim((1, "eight days in all")), claim((2, "ten days in all"))]},
        {"topic": "", "positions": CONTRADICTION["positions"]},
        {"positions": CONTRADICTION["positions"]},
        {"topic": "how long", "positions": [*CONTRADICTION["positions"], claim((3, "ten days in all"))]},
    ],
)
def test_a_contradiction_without_a_quote_for_each_side_is_left_out_and_counted(entry: Any) -> None:
    analysis = read(contradictions=[entry, CONTRADICTION])
    assert (len(analysis.contradictions), analysis.dropped) == (1, 1)


def test_what_only_one_says_quotes_only_one() -> None:
    analysis = read(single=[SINGLE, claim((1, "in July 1969"), (2, "July 1969")), claim((1, "Three men flew."))])
    assert (len(analysis.single), analysis.dropped) == (1, 2)


def test_what_is_said_twice_or_too_often_counts_once() -> None:
    analysis = read(agreements=[AGREEMENT] * 3, gaps=[f"gap {number}" for number in range(MOST_ENTRIES + 5)])
    assert (len(analysis.agreements), len(analysis.gaps), analysis.dropped) == (1, MOST_ENTRIES, 2 + 5)


PLAIN = json.dumps(WHOLE)


@pytest.mark.parametrize(
    "words",
    [
        f"Here it is:\n```json\n{json.dumps(WHOLE, indent=2)}\n```\nI hope that it helps.",
        f"<think>Is {{this}} one? {{}} no</think>{PLAIN}",
        PLAIN.replace('"proposal": 1', '"proposal": "1"').replace('"proposal": 2', '"proposal": "Proposal 2"'),
        PLAIN.replace("]", ",]").replace("}", ",\n}"),
        PLAIN[:-1],
        PLAIN.replace('"They say so."', '"They\nsay so."'),
        json.dumps(WHOLE | {"single": {"statement": "one", "proposal": 2, "quote": "Three men flew."}}),
        json.dumps(WHOLE | {"thoughts": "more", "gaps": [{"statement": "where"}]}),
    ],
)
def test_json_is_read_whatever_stands_around_it(words: str) -> None:
    analysis = read_analysis(words, PROPOSALS)
    assert (analysis.quoted, analysis.gaps, analysis.dropped) == (3, ("where",), 0)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "I cannot compare them.",
        "{}",
        "[1, 2]",
        '{"answer": 42}',
        '"agreements"',
        "{" * 5000,
        '{"agreements":' + "[" * 50_000,
        '{"agreements": [' + json.dumps(claim((1, "in July 1969"), (2, "in June 1969"))) + '], "gaps": ["a gap"]}',
        " " * LONGEST + PLAIN,
    ],
)
def test_what_is_no_analysis_or_stands_nowhere_is_refused(words: str) -> None:
    with pytest.raises(UnusableError):
        read_analysis(words, PROPOSALS)


def test_an_analysis_that_finds_nothing_is_one() -> None:
    nothing = read_analysis('{"agreements": [], "contradictions": [], "single": [], "gaps": []}', PROPOSALS)
    assert nothing == Analysis()
    assert as_text(nothing, str) == ""


@given(st.integers(0, len(PLAIN)))
def test_json_that_breaks_off_is_read_as_far_as_its_entries_are_whole(length: int) -> None:
    try:
        analysis = read_analysis(PLAIN[:length], PROPOSALS)
    except UnusableError:
        return
    whole = read_analysis(PLAIN, PROPOSALS)
    assert set(analysis.agreements) <= set(whole.agreements)
    assert set(analysis.contradictions) <= set(whole.contradictions)
    assert set(analysis.single) <= set(whole.single)
    quoted(analysis)


QUOTES = st.one_of(
    st.sampled_from([(number, words, True) for number, each in WORDS.items() for words in each]),
    st.sampled_from([(2, "eight days in all", False), (1, "nine days", False), (3, "in 1969", False), (9, "x", False)]),
)


@settings(deadline=None)
@given(st.lists(st.lists(QUOTES, min_size=1, max_size=4), max_size=8))
def test_an_entry_is_kept_exactly_if_all_its_quotes_stand(entries: list[list[tuple[int, str, bool]]]) -> None:
    written = [
        claim(*((number, words) for number, words, _ in quotes), statement=f"Claim {place}.")
        for place, quotes in enumerate(entries)
    ]
    kept = {
        f"Claim {place}."
        for place, quotes in enumerate(entries)
        if all(stands for *_, stands in quotes) and len({number for number, *_ in quotes}) > 1
    }
    if entries and not kept:
        with pytest.raises(UnusableError, match=f"none of the {len(entries)} entries"):
            read(agreements=written)
        return
    analysis = read(agreements=written)
    assert {entry.statement for entry in analysis.agreements} == kept
    assert analysis.dropped == len(entries) - len(kept)
    quoted(analysis)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["in July 1969", "1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "agreements",
                    "contradictions",
                    "single",
                    "gaps",
                    "statement",
                    "topic",
                    "positions",
                    "quotes",
                    "proposal",
                    "quote",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(JSON | st.text(max_size=100))
def test_whatever_is_written_is_an_analysis_or_none(value: Any) -> None:
    words = value if isinstance(value, str) else json.dumps(value)
    try:
        analysis = read_analysis(words, PROPOSALS)
    except UnusableError:
        return
    quoted(analysis)
    assert len(as_text(analysis, str)) <= len(words) + len(HEADINGS)


def test_the_schema_is_one_that_providers_take_as_strict() -> None:
    def check(schema: dict[str, Any]) -> None:
        if schema["type"] == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for each in schema["properties"].values():
                check(each)
        elif schema["type"] == "array":
            check(schema["items"])

    check(json.loads(SCHEMA))
