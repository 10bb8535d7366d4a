"""A decoder of server-sent events, fed with the bytes of network reads.

The decoder follows the WHATWG specification: any line end, comments, data over several lines, a byte order mark, and
reads that end at any byte. Bytes are joined before they are decoded, so that no character is cut in two. A read with
plain `data:` blocks alone, which models mostly send, is split in a few steps for any number of events.
"""

import re

from partsong.bounds import Bounds
from partsong.errors import ModelError

LONGEST_EVENT = Bounds().answer_megabytes << 20  # bytes: an event may hold a whole answer
MOST_LINES = 10_000  # lines of one event: data over several lines, fields, and comments without a blank line after them
LONGEST_PING = 64  # bytes of data that may be a ping
# Data that some servers send to keep a connection open. Other data that is no JSON may be lost text, and is an error.
PING = re.compile(rb"\W*(ping|pong|keep[-_]?alive|heart[-_]?beat)\W*", re.IGNORECASE)
PINGS = frozenset({"ping", "pong", "heartbeat", "keepalive", "keep-alive"})
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Decoder:
    """Decodes one stream: `feed` takes the bytes of a network read and returns the events that these bytes complete."""

    __slots__ = ("_after_return", "_held", "_lines", "_longest", "_start")

    def __init__(self, longest: int = LONGEST_EVENT) -> None:
        """Start a stream. `longest`: most bytes of one event."""
        self._longest = longest
        self._held = bytearray()  # the start of an event that has not ended
        self._lines = 0  # line ends in `_held`
        self._start: bytes | None = b""  # the stream's first bytes, while they may be half a byte order mark
        self._after_return = False  # whether the last read ended in \r, the possible first half of \r\n

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Return the events that `data` completes, as (name, data); the name is "" for an event without a name.

        Raises `ModelError` if an event has too many bytes, or more than `MOST_LINES` lines.
        """
        if self._start is not None:
            data = self._start + data
            if len(data) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(data):
                self._start = data
                return []
            self._start = None
            data = data.removeprefix(BYTE_ORDER_MARK)
        if self._after_return or b"\r" in data:
            data = self._with_newlines(data)
        if not data:
            return []
        end = data.rfind(b"\n\n")
        if end < 0 and not (data.startswith(b"\n") and self._held.endswith(b"\n")):
            self._hold(data)  # no event ends here, so a long event is copied once
            return []
        whole = data
        if self._held:
            self._held += data
            whole = bytes(self._held)
            end = whole.rfind(b"\n\n")
            self._held, self._lines = bytearray(), 0
        if rest := whole[end + 2 :]:
            self._hold(rest)
        return _events(whole[:end])

    def end(self) -> list[tuple[str, bytes]]:
        """Return the events at the stream's end that no blank line has ended; the last one may be cut off."""
        return _events(bytes(self._held))

    def _hold(self, data: bytes) -> None:
        self._held += data
        self._lines += data.count(b"\n")
        too_long, too_many = len(self._held) > self._longest, self._lines > MOST_LINES
        if too_long or too_many:
            self._held = bytearray()
            what = f"{self._longest:,} bytes" if too_long else f"{MOST_LINES:,} lines"
            raise ModelError(f"the stream has an event of more than {what}", "server", again=False)

    def _with_newlines(self, data: bytes) -> bytes:
        """Return the data with every line end as a newline; a `\\r\\n` may be divided between two reads."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        if data.endswith(b"\r"):
            self._after_return = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(whole: bytes) -> list[tuple[str, bytes]]:
    """Return the events in `whole`, as (name, data). `whole` must end where an event ends."""
    if whole.startswith(b"data: "):
        datas = whole[6:].split(b"\n\ndata: ")
        if whole.count(b"\n") == 2 * (len(datas) - 1):  # there are no other lines
            return [("", data) for data in datas]
    events = []
    for block in whole.split(b"\n\n"):
        if not block:
            continue
        if block.startswith(b"event: ") and block.count(b"\n") == 1:
            head, found, rest = block.partition(b"\ndata: ")
            if found:
                events.append((head[7:].decode("utf-8", "replace"), rest))
                continue
        name, datas = "", []
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                datas.append(value)
            elif field == b"event":
                name = value.decode("utf-8", "replace")
            elif field == b"error":  # some servers write this field, which the specification does not have
                name, datas = "error", [value]
        if datas:
            events.append((name, b"\n".join(datas)))
    return events


def is_ping(name: str, data: bytes) -> bool:
    """Return whether an event, by its name or its data, only keeps the connection open."""
    return name.lower() in PINGS or (len(data) <= LONGEST_PING and PING.fullmatch(data) is not None)
