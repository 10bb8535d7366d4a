"""Citations of sources: those that nobody has read are removed, while the answer is streamed as in the whole answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.engine.citations import Citations, as_list, listed
from partsong.events import ToolUsed
from partsong.sources import Source, sources_of


def cleaned(text: str, count: int = 2, step: int = 10_000) -> tuple[str, set[int]]:
    citations = Citations(count)
    made = "".join(citations.take(text[start : start + step]) for start in range(0, len(text), step))
    return made + citations.rest(), citations.removed


@pytest.mark.parametrize(
    ("text", "left", "removed"),
    [
        ("It is blue [1].", "It is blue [1].", set()),
        ("It is blue [3].", "It is blue.", {3}),
        ("It is blue[3].", "It is blue.", {3}),
        ("It is blue [1, 3].", "It is blue [1].", {3}),
        ("It is blue [2,1].", "It is blue [2,1].", set()),
        ("It is blue [0].", "It is blue.", {0}),
        ("See [3](https://example.org).", "See [3](https://example.org).", set()),
        ("[3]: https://example.org", "[3]: https://example.org", set()),
        ("Use `a[3]` here [3].", "Use `a[3]` here.", {3}),
        ("```\na[3]\n```\nIt is [3]", "```\na[3]\n```\nIt is", {3}),
        ("A stray ` and\nthen [3].", "A stray ` and\nthen.", {3}),
        ("[not a number] and [12345678]", "[not a number] and [12345678]", set()),
        ("It ends [", "It ends [", set()),
        ("It ends [1", "It ends [1", set()),
    ],
)
def test_a_citation_that_nobody_has_read_is_removed(text: str, left: str, removed: set[int]) -> None:
    for step in (1, 2, 3, 10_000):
        assert cleaned(text, step=step) == (left, removed)


@given(st.text(alphabet="a[]123, `\n(:", max_size=60), st.integers(1, 7))
def test_a_stream_is_cleaned_like_the_whole_text(text: str, step: int) -> None:
    assert cleaned(text, step=step) == cleaned(text)


def used(layer: int, seat: int, started: float, *sources: str) -> ToolUsed:
    return ToolUsed(layer, seat, "m:a", "web", "fetch", "{}", started, 0.1, 5, sources=sources)


def test_sources_are_numbered_by_their_seats_and_not_by_the_time() -> None:
    uses = [used(1, 0, 1.0, "d"), used(0, 1, 0.1, "b", "a"), used(0, 0, 0.9, "a"), used(2, 0, 0.0, "z", "a")]
    assert sources_of(uses, 2) == (
        Source("a", ((0, 0), (0, 1), (2, 0))),
        Source("b", ((0, 1),)),
        Source("d", ((1, 0),)),
        Source("z", ((2, 0),)),
    )


def test_the_list_of_sources_has_a_bound() -> None:
    many = tuple(Source(f"https://example.org/{number:0100}", ((0, 0),)) for number in range(1000))
    assert 0 < len(listed(many)) <= 50
    assert listed((Source("x" * 301, ((0, 0),)), Source("y", ((0, 0),)))) == ()
    assert as_list((Source("https://a", ()), Source("file:b\n2. c", ()))) == "1. https://a\n2. file:b 2. c"
