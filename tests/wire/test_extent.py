"""The extent of JSON is measured exactly, in whatever pieces it comes, and hostile JSON ends the measuring."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partsong.wire.extent import Extent, ExtentError, check_extent

TEXTS = st.text(st.sampled_from('ab"\\[]{},: \n\té€1-'), max_size=90)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def number_of(value: Any) -> int:
    """The names and values in a value of JSON, itself included."""
    if isinstance(value, dict):
        return 1 + sum(1 + number_of(each) for each in value.values())
    return 1 + sum(map(number_of, value)) if isinstance(value, list) else 1


def depth_of(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if parts is None else 1 + max(map(depth_of, parts), default=0)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_names_values_and_nesting_are_counted(value: Any, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    number, depth = number_of(value), depth_of(value)
    check_extent(data, number, depth)
    with pytest.raises(ExtentError, match="values"):
        check_extent(data, number - 1, depth)
    if depth:
        with pytest.raises(ExtentError, match="nesting"):
            check_extent(data, number, depth - 1)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(VALUES, st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_pieces_of_any_length_give_the_same_extent(value: Any, lengths: list[int]) -> None:
    data = json.dumps(value).encode()
    extent, at = Extent(2 * number_of(value) + len(data), depth_of(value)), 0
    while at < len(data):
        length = lengths[at % len(lengths)]
        extent.feed(data[at : at + length])
        at += length
    extent.feed(b"")
    with pytest.raises(ExtentError):  # every bracket and every string was closed, so one more bracket closes nothing
        extent.feed(b"]")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[" * 1_000_000, "nesting"),
        (b'{"a":' * 1_000_000, "nesting"),
        (b"]" * 1_000_000, "nesting"),
        (b"[" + b"[]," * 1_000_000, "values"),
        (b"[" + b"1," * 1_000_000, "values"),
        (b'["' + b'","' * 1_000_000, "values"),
        (b'"' + b'\\"' * 1_000_000 + b'"' + b'"",' * 1_000_000, "values"),
    ],
)
def test_hostile_json_ends_the_measuring(data: bytes, what: str) -> None:
    with pytest.raises(ExtentError, match=what):
        check_extent(data, 1000, 100)


def test_a_picture_is_one_value() -> None:
    check_extent(b'{"url": "data:image/png;base64,' + b"QUJD" * 2_000_000 + b'"}', 3, 1)
