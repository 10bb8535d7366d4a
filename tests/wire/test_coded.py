"""Base64 that is read piece by piece is read as a whole would be."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.wire import coded

ALPHABET = "AZaz09+/=-_ \n!é"


def whole(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def in_pieces(text: str) -> bytes | None:
    try:
        return coded.decoded(text)
    except (binascii.Error, ValueError):
        return None


@given(st.text(ALPHABET, max_size=40) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()))
def test_pieces_are_the_whole(text: str) -> None:
    before = coded.PIECE
    coded.PIECE = 8
    try:
        assert in_pieces(text) == whole(text)
    finally:
        coded.PIECE = before


@pytest.mark.parametrize("size", [0, 1, 3, 786_431, 786_432, 786_433, 2_000_000])
def test_large_texts(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert coded.decoded(base64.b64encode(data[:size]).decode()) == data[:size]
