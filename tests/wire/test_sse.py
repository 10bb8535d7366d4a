"""Server-sent events: whatever the bytes are cut into, the events are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partsong.errors import ModelError
from partsong.wire.sse import LONGEST_EVENT, Decoder


def decode(*reads: bytes) -> list[tuple[str, bytes]]:
    decoder = Decoder()
    return [event for read in reads for event in decoder.feed(read)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
        (b"data:a\n\n", [("", b"a")]),
        (b"data:  a \n\n", [("", b" a ")]),
        (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
        (b"data: a\ndata:\ndata\ndata: b\n\n", [("", b"a\n\n\nb")]),
        (b"data\n\n", [("", b"")]),
        (b"data:\n\n", [("", b"")]),
        (b"event: ping\n\n", []),
        (b"event: say\ndata: a\n\ndata: b\n\n", [("say", b"a"), ("", b"b")]),
        (b"data: a\nevent: say\n\n", [("say", b"a")]),
        (b"event: one\nevent: two\ndata: a\n\n", [("two", b"a")]),
        (b"event: one\ndata: a\n\nevent: two\ndata: b\n\n", [("one", b"a"), ("two", b"b")]),
        (b"event: one\ndata: \n\nevent: \ndata: b\n\n", [("one", b""), ("", b"b")]),
        (b"event: one\ndata:a\n\nevent:two\ndata: b\n\n", [("one", b"a"), ("two", b"b")]),
        (b"event: one\n data: a\n\nevent: data: b\n\n", []),
        (b"event: one\ndata: a\ndata: b\n\n", [("one", b"a\nb")]),
        (b": a comment\n\ndata: a\n\n", [("", b"a")]),
        (b"data: a\n: a comment\ndata: b\n\n", [("", b"a\nb")]),
        (b":\n\n:\n\n", []),
        (b"id: 7\nretry: 10\nunknown: x\ndata: a\n\n", [("", b"a")]),
        (b"datax: a\n\n data: a\n\n", []),
        (b"garbage\n\n\x00\xff\n\n", []),
        (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
        (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", [("", b"a"), ("", b"b"), ("", b"c")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("", b"a")]),
        (b"\xef\xbbdata: a\n\n", []),
        ('data: {"a": "ü€😀"}\n\n'.encode(), [("", '{"a": "ü€😀"}'.encode())]),
        (b"event: \xff\ndata: a\n\n", [("\ufffd", b"a")]),
        (b"data: a\n\ndata: never ends\n", [("", b"a")]),
        (b"", []),
    ],
)
def test_a_stream_has_these_events_whole_and_byte_by_byte(stream: bytes, events: list[tuple[str, bytes]]) -> None:
    assert decode(stream) == events
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == events
    assert decode(b"", *(piece for i in range(len(stream)) for piece in (stream[i : i + 1], b""))) == events


LINES = st.sampled_from(
    ["data: a", "data:", "data", "data: ü€😀", "event: say", ": note", "id: 1", "nonsense", "", "", "", "\ufeff"]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=25), st.booleans(), st.data())
def test_any_cut_gives_the_same_events(lines: list[tuple[str, str]], mark: bool, data: st.DataObject) -> None:
    stream = (("\ufeff" if mark else "") + "".join(line + end for line, end in lines)).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(*pieces) == decode(stream) == by_the_book(stream)


def by_the_book(stream: bytes) -> list[tuple[str, bytes]]:
    """The specification's own procedure, line by line, on the whole stream."""
    text = stream.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events, name, data = [], "", None
    for line in text.split("\n")[:-1]:
        if not line:
            if data is not None:
                events.append((name, data.encode()))
            name, data = "", None
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data = value if data is None else f"{data}\n{value}"
    return events


def test_what_stands_at_the_end_without_a_blank_line_is_kept_for_who_wants_it() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\n\nevent: say\ndata: [DO") == [("", b"a")]
    assert decoder.feed(b"NE]") == []
    assert decoder.end() == [("say", b"[DONE]")]
    assert Decoder().end() == []


@pytest.mark.parametrize("piece", [b"x" * 65536, b"x" * 65535 + b"\n", b"data: " + b"x" * 65529 + b"\n"])
def test_an_event_that_never_ends_is_an_error(piece: bytes) -> None:
    with pytest.raises(ModelError, match="event of more than 16,777,216 bytes") as caught:
        decode(*[piece] * (LONGEST_EVENT // len(piece) + 1))
    assert caught.value.cause == "server"


def test_a_long_event_is_no_error() -> None:
    data = b"x" * 3_000_000
    stream = b"data: " + data + b"\n\n"
    assert decode(*(stream[i : i + 65536] for i in range(0, len(stream), 65536))) == [("", data)]
