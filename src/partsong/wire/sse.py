"""A decoder of server-sent events, fed with the bytes of network reads.

The decoder follows the WHATWG specification: any line end, comments, data over several lines, a byte order mark, and
reads that end at any byte. Bytes are joined before they are decoded, so that no character is cut in two. A read with
plain `data:` blocks alone, which models mostly send, is split in a few steps for any number of events.
"""

import re

from partsong.errors import ModelError

LONGEST_EVENT = 16 * 1024 * 1024  # bytes: longer than any event of a model, short enough to be held in memory
# Data that some servers send to keep a connection open. Other data that is no JSON may be lost text, and is an error.
PING = re.compile(rb"\W*(ping|pong|keep[-_]?alive|heart[-_]?beat)\W*", re.IGNORECASE)
PINGS = frozenset({"ping", "pong", "heartbeat", "keepalive", "keep-alive"})
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Decoder:
    """Decodes one stream: `feed` takes the bytes of a network read and returns the events that these bytes complete."""

    __slots__ = ("_after_return", "_held", "_size", "_start")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the pieces of an event that has not ended
        self._size = 0  # bytes in `_held`
        self._start: bytes | None = b""  # the stream's first bytes, while they may be half a byte order mark
        self._after_return = False  # whether the last read ended in \r, the possible first half of \r\n

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Return the events that `data` completes, as (name, data); the name is "" for an event without a name.

        Raises `ModelError` if an event has more than `LONGEST_EVENT` bytes.
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
        if end < 0 and not (self._held and data.startswith(b"\n") and self._held[-1].endswith(b"\n")):
            self._hold(data)  # no event ends here; nothing is joined yet, so that a long event is copied once
            return []
        if self._held:
            whole = b"".join((*self._held, data))
            end = whole.rfind(b"\n\n")
            self._held, self._size = [], 0
        else:
            whole = data
        if rest := whole[end + 2 :]:
            self._hold(rest)
        return _events(whole[:end])

    def end(self) -> list[tuple[str, bytes]]:
        """Return the events at the stream's end that no blank line has ended; the last one may be cut off."""
        return _events(b"".join(self._held))

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size > LONGEST_EVENT:
            self._held = []
            raise ModelError(f"the stream has an event of more than {LONGEST_EVENT:,} bytes", "server")

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
        if block.startswith(b"event: ") and block.count(b"\n") == 1:
            head, found, rest = block.partition(b"\ndata: ")
            if found:
                events.append((head[7:].decode("utf-8", "replace"), rest))
                continue
        name, data = "", None
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data = value if data is None else data + b"\n" + value
            elif field == b"event":
                name = value.decode("utf-8", "replace")
            elif field == b"error":  # some servers write this field, which the specification does not have
                name, data = "error", value
        if data is not None:
            events.append((name, data))
    return events


def is_ping(name: str, data: bytes) -> bool:
    """Return whether an event, by its name or its data, only keeps the connection open."""
    return name.lower() in PINGS or PING.fullmatch(data) is not None
