"""How messages, requests, answers and events become bytes: JSON, deflated where it is long.

Every back end stores the same bytes, so that a store can be copied from one back end to another. The bytes hold words
that models and users wrote, including characters that a column of text refuses (NUL and lone surrogates).
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from partsong.model import Answer, Message, Request, Terms
from partsong.store.earlier import with_calls
from partsong.store.runs import Timed

FAST, SMALL = 1, 6  # levels of zlib: for bytes on the way into the store, and for a run that has ended
LARGE = 1 << 20  # bytes of a text of which a sample is deflated first
SAMPLE = 1 << 16  # bytes of the sample, from the middle
WORTH = 0.7  # share of its size above which a sample is not worth the time; base64 of random bytes comes to 0.76

_lines = msgspec.json.Encoder(decimal_format="string")
_timed = msgspec.json.Decoder(Timed)
_answers = msgspec.json.Decoder(Answer)


def serialized(messages: tuple[Message, ...]) -> tuple[bytes, bytes]:
    """The messages as JSON, and the SHA-256 digest of the JSON.

    Equal messages are stored once. The digest finds them, so that most messages need not be deflated.
    """
    text = msgspec.json.encode(messages)
    return text, hashlib.sha256(text).digest()


def pack_messages(text: bytes) -> bytes:
    """The JSON of messages, deflated."""
    return _deflated(text)


def pack_request(request: Request) -> bytes:
    """The request without its messages, which are stored apart, and without the caller's terms."""
    return msgspec.json.encode(replace(request, messages=(), terms=Terms()))


def pack_answer(answer: Answer) -> bytes:
    """The answer, not deflated, because an answer that is found again is wanted soon."""
    return msgspec.json.encode(answer)


def unpack_answer(data: bytes) -> Answer | None:
    """The answer; `None` if another version wrote it in a form that this version cannot read."""
    try:
        return _answers.decode(data)
    except msgspec.DecodeError:
        return None


def pack_events(events: Sequence[Timed]) -> bytes:
    """Some events of a run as JSON Lines, deflated."""
    return _deflated(_lines.encode_lines(events))


def join_events(pieces: Iterable[bytes]) -> bytes:
    """One piece with the events of all pieces. It is smaller than the pieces, since prompts and answers repeat words.

    Raises `msgspec.DecodeError` if a piece is damaged.
    """
    return zlib.compress(_inflated(pieces), SMALL)


def unpack_events(pieces: Iterable[bytes]) -> list[Timed]:
    """The events of all pieces, with an event for each call even if an earlier version stored the run.

    Raises `msgspec.DecodeError` if this version cannot read the events.
    """
    return with_calls(_timed.decode_lines(_inflated(pieces)))


def _deflated(text: bytes) -> bytes:
    """The text, deflated fast. Pictures and files hardly shrink, and 24 MiB of them would take a second."""
    if len(text) > LARGE:
        middle = text[len(text) // 2 :][:SAMPLE]
        if len(zlib.compress(middle, FAST)) > len(middle) * WORTH:
            return zlib.compress(text, 0)
    return zlib.compress(text, FAST)


def _inflated(pieces: Iterable[bytes]) -> bytes:
    try:
        return b"".join(zlib.decompress(piece) for piece in pieces)
    except zlib.error as problem:
        raise msgspec.DecodeError(str(problem)) from None
