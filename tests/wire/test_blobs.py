"""Large files in bodies: what is sent in pieces is the JSON of the body with the base64 in it."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.model import PDF, Document, Image, Message, Request, Text, ToolResult
from partsong.wire import chat, messages
from partsong.wire.blobs import LEAST, PIECE, Blob, Encoded, blob_or_text

SIZES = st.sampled_from([0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 2, LEAST])
BLOBS = st.builds(
    lambda head, size, byte: Blob(head, bytes([byte]) * size), st.text(max_size=9), SIZES, st.integers(0, 255)
)
VALUES = st.recursive(
    BLOBS | st.text(max_size=9) | st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def spelled(value: Any) -> Any:
    """The value with the text of each blob in its place."""
    match value:
        case Blob(head=head, data=data):
            return head + base64.b64encode(data).decode()
        case list():
            return [spelled(each) for each in value]
        case dict():
            return {name: spelled(each) for name, each in value.items()}
        case _:
            return value


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_the_pieces_are_the_json_with_the_base64_in_it(body: dict[str, Any]) -> None:
    encoded = Encoded(body)
    size, pieces = encoded.size, list(encoded.pieces())
    assert b"".join(pieces) == msgspec.json.encode(spelled(body))
    assert sum(map(len, pieces)) == size
    assert max(map(len, pieces), default=0) <= LEAST


def test_a_body_can_be_sent_once_because_it_is_forgotten_on_the_way() -> None:
    encoded = Encoded({"a": "b"})
    assert list(encoded.pieces()) == [b'{"a":"b"}']
    assert list(encoded.pieces()) == []


def test_half_a_surrogate_pair_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        Encoded({"a": "\ud800", "b": Blob("", b"x")})


def test_small_files_are_text_and_large_ones_are_not_copied() -> None:
    assert blob_or_text("data:", b"abc") == "data:YWJj"
    data = bytes(LEAST)
    blob = blob_or_text("data:", data)
    assert isinstance(blob, Blob)
    assert blob.data is data
    assert repr(blob) == "Blob('data:', 65,536 bytes)"
    assert blob == Blob("data:", bytes(LEAST)) != Blob("", data)


@pytest.mark.parametrize("wire", [chat, messages])
@pytest.mark.parametrize("size", [10, LEAST + 1])
def test_bodies_of_both_apis_have_the_files_that_were_asked_for(wire: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    image, file = Image(data, "image/png"), Document(data, PDF, "a.pdf", "words", 1, 1)
    result = Message("tool", (ToolResult("1", (Text("seen"), image)),))
    request = Request((Message("user", (Text("look"), image, file)), result, Message("user", (Text("so?"),))))
    sent = b"".join(Encoded(wire.body(request, "m", stream=False)).pieces())
    assert sent.count(base64.b64encode(data)) == 3
    assert msgspec.json.decode(sent)["model"] == "m"
