"""A decoder of server-sent events, fed with the bytes of network reads.

The decoder follows the WHATWG specification: any line end, comments, data over several lines, a byte order mark, and
cuts at any byte. It works on bytes, so that half a character is whole again before it is decoded. A stream of plain
`data:` blocks, which is what models send, is split in a few steps however many events it holds.
"""

import re

from partsong.errors import ModelError

LONGEST_EVENT = 16 * 1024 * 1024  # bytes: longer than any event that was meant, short enough to be held in memory
# What some servers send to keep a connection open. Anything else that is no JSON may be words that were lost.
PING = re.compile(rb"\W*(ping|pong|keep[-_]?alive|heart[-_]?beat)\W*", re.IGNORECASE)
PINGS = frozenset({"ping", "pong", "heartbeat", "keepalive", "keep-alive"})
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Decoder:
    """Reads one stream. `feed` takes what a read brought and returns the events that it completed."""

    __slots__ = ("_after_return", "_held", "_size", "_start")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the event that is still to end, in the pieces in which it came
        self._size = 0
        self._start: bytes | None = b""  # until it is known whether the stream begins with a byte order mark
        self._after_return = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes, as (name, data); the name is empty where none was given.

        Raises `ModelError` for an event that does not end.
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
            self._hold(data)  # no event ends here: nothing is copied, so that a long one costs what it weighs
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
        """What stood at the stream's end without the blank line that should end an event: it may be whole, or not."""
        return _events(b"".join(self._held))

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size > LONGEST_EVENT:
            self._held = []
            raise ModelError(f"the stream has an event of more than {LONGEST_EVENT:,} bytes", "server")

    def _with_newlines(self, data: bytes) -> bytes:
        """The data with every line end as a newline. One that ends a read may be the first half of `\\r\\n`."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        if data.endswith(b"\r"):
            self._after_return = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _events(whole: bytes) -> list[tuple[str, bytes]]:
    """The events in `whole`, which ends where an event ends."""
    if whole.startswith(b"data: "):
        datas = whole[6:].split(b"\n\ndata: ")
        if whole.count(b"\n") == 2 * (len(datas) - 1):  # there is nothing else in it
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
            elif field == b"error":  # no field of the specification, but one that some servers write
                name, data = "error", value
        if data is not None:
            events.append((name, data))
    return events


def is_ping(name: str, data: bytes) -> bool:
    """Whether an event only keeps the connection open."""
    return name.lower() in PINGS or PING.fullmatch(data) is not None
