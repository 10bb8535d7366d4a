"""Lines of a stream, each within a bound. Of a longer line only the beginning is kept."""

from collections.abc import Iterator

from mcp.client._transport import TransportStreams as Streams

BEGINNING = 200  # bytes that are kept of a line that is too long

__all__ = ["Incoming", "Streams"]


class Incoming:
    """Splits a stream of bytes into lines.

    endless: whether a line is so long that the stream should be given up
    """

    def __init__(self, largest: int, most_passed_over: int) -> None:
        self._largest, self._most = largest, most_passed_over
        self._line = bytearray()
        self._length = 0
        self.endless = False

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take in the next bytes, and yield each line that ends in them, and whether the line is whole.

        A line with more than the largest number of bytes is not whole: only its beginning is yielded.
        """
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._take(chunk[start:end])
            if line := bytes(self._line):
                yield line, self._length <= self._largest
            self._line.clear()
            self._length, start = 0, end + 1
        self._take(chunk[start:])

    def _take(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length <= self._largest:
            self._line += piece
        else:
            del self._line[BEGINNING:]
            self._line += piece[: BEGINNING - len(self._line)]
        self.endless = self._length > self._most
