"""Reads the bodies of requests, and bounds the memory of all bodies that the process reads or answers at once.

Every byte counts when it arrives, before anything is decoded. So a request that announces a large body and sends
nothing takes nothing from the others. A body counts until its request is answered, since the run keeps its contents.
The bodies of one key have a share, so that one key cannot leave the others without room.
"""

import asyncio
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from partsong.bounds import Bounds
from partsong.keys import Key
from partsong.server.problems import ProblemError
from partsong.server.response import Receive
from partsong.wire.extent import Extent, ExtentError
from partsong.wire.reply import Problem

MIB = 1024 * 1024
SLICE = 8192  # bytes that are measured until other requests have a turn
AGAIN = 2.0  # seconds after which a request that found no room may ask again
CHARSETS = frozenset(["", "utf-8", "utf8", "us-ascii", "ascii"])


class Bodies:
    """The bytes of all bodies that this process reads or answers.

    whole: most bytes of all bodies
    share: most bytes of the bodies of one key
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.whole, self.share = bounds.bodies_megabytes * MIB, bounds.key_bodies_megabytes * MIB
        self.total = 0
        self.of_key: dict[str, int] = {}

    @contextmanager
    def holding(self, key: Key | None) -> Iterator["Body"]:
        """Count the body of a request until the block is left."""
        body = Body(self, key)
        try:
            yield body
        finally:
            body.release()


@dataclass(slots=True, eq=False)
class Body:
    """What one body counts so far. `size` is its number of bytes; `key` is that of the request."""

    bodies: Bodies
    key: Key | None
    size: int = 0

    @property
    def largest(self) -> int:
        """The most bytes that this body may ever have."""
        most = min(self.bodies.bounds.body_megabytes * MIB, self.bodies.whole)
        return most if self.key is None else min(most, self.bodies.share)

    def check(self, more: int) -> None:
        """Raise `ProblemError` if there is no room for so many more bytes now."""
        bodies, key = self.bodies, self.key
        if key is not None and bodies.of_key.get(key.owner, 0) + more > bodies.share:
            message = (
                f'the requests of the key "{key.name}" that are under way have {bodies.share // MIB} MiB already, '
                "which is its share; ask again when some have ended"
            )
            raise ProblemError(Problem(429, "rate_limit", message, code="bodies", retry_after=AGAIN))
        if bodies.total + more > bodies.whole:
            message = f"the requests that are under way have {bodies.whole // MIB} MiB already; ask again soon"
            raise ProblemError(Problem(503, "overloaded", message, code="bodies", retry_after=AGAIN))

    def grow(self, more: int) -> None:
        """Count so many more bytes. Raises `ProblemError` if there is no room for them."""
        self.check(more)
        self.size += more
        self.bodies.total += more
        if self.key is not None:
            owner = self.key.owner
            self.bodies.of_key[owner] = self.bodies.of_key.get(owner, 0) + more

    def release(self) -> None:
        """Count nothing from now on."""
        self.bodies.total -= self.size
        if self.key is not None and self.size:
            owner = self.key.owner
            self.bodies.of_key[owner] -= self.size
            if not self.bodies.of_key[owner]:
                del self.bodies.of_key[owner]
        self.size = 0


async def read_body(
    headers: Mapping[str, str], receive: Receive, body: Body, slowest: float, largest: int | None = None
) -> bytes:
    """The whole body, which counts in `body`.

    slowest: seconds until the whole body must be there; `body_seconds` of the bounds, if that is shorter
    largest: most bytes, where the request needs no more than these; `None` (default) for those of the bounds

    Raises `ProblemError` if the body is not declared as JSON in UTF-8, is not UTF-8, is too large or too deep, takes
    too long, breaks off, or finds no room.
    """
    _check_declared(headers)
    bounds = body.bodies.bounds
    most = body.largest if largest is None else min(largest, body.largest)
    too_large = ProblemError(Problem(413, "too_large", f"the body has more than {_shown(most)}"))
    length = headers.get("content-length", "")
    if length.isdecimal():
        if len(length) > 15 or int(length) > most:
            raise too_large
        body.check(int(length))
    seconds = min(slowest, bounds.body_seconds)
    try:
        async with asyncio.timeout(seconds):
            return await _pieces(receive, body, most, too_large)
    except TimeoutError:
        late = f"the body was not there after {seconds:g} seconds"
        raise ProblemError(Problem(408, "invalid_request", late)) from None
    except ExtentError as error:
        raise _refusal(error, bounds) from None
    except UnicodeDecodeError as error:
        message = f"the body is no JSON that can be read: it is not UTF-8 ({error.reason})"
        raise ProblemError(Problem(400, "invalid_request", message)) from None


async def _pieces(receive: Receive, body: Body, most: int, too_large: ProblemError) -> bytes:
    """The whole body.

    Raises `ExtentError`, `UnicodeDecodeError` if the body is not UTF-8, and `ProblemError` if the body is too large,
    breaks off or finds no room. A body with too many values is received to its end, and not kept: a client that is
    still sending reads no answer.
    """
    extent = Extent(body.bodies.bounds.body_values, body.bodies.bounds.body_nesting)
    # What a decoder keeps as raw JSON, such as the arguments of a tool call, it does not check.
    text = getincrementaldecoder("utf-8")()
    fault: ExtentError | UnicodeDecodeError | None = None
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The client has left, or its chunks are malformed: servers report both in the same way.
            broken = "the body ended before it was complete, or its chunks are malformed"
            raise ProblemError(Problem(400, "invalid_request", broken))
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise too_large
        if fault is None:
            body.grow(len(piece))
            pieces.append(piece)
            try:
                await _measure(extent, text, piece)
                if not message.get("more_body", False):
                    text.decode(b"", final=True)
            except (ExtentError, UnicodeDecodeError) as error:
                fault = error
                pieces.clear()
                body.release()
        if not message.get("more_body", False):
            if fault is not None:
                raise fault
            return b"".join(pieces)


async def _measure(extent: Extent, text: IncrementalDecoder, piece: bytes) -> None:
    """Measure a piece, and let other requests have a turn in between.

    Raises `ExtentError`, or `UnicodeDecodeError` if the piece is not UTF-8.
    """
    for start in range(0, len(piece), SLICE):
        if start:
            await asyncio.sleep(0)
        part = piece[start : start + SLICE]
        extent.feed(part)
        text.decode(part)


def _check_declared(headers: Mapping[str, str]) -> None:
    """Raise `ProblemError` if the headers declare anything but JSON in UTF-8."""
    media, _, parameters = headers.get("content-type", "").partition(";")
    if media.strip().lower() != "application/json":
        raise ProblemError(Problem(400, "invalid_request", "the body must be sent as Content-Type: application/json"))
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in CHARSETS:
            message = f"the body must be JSON in UTF-8, not in the charset {value.strip()[:40]}"
            raise ProblemError(Problem(415, "invalid_request", message))
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        message = f"the body must be sent as it is, without Content-Encoding: {coding[:40]}"
        raise ProblemError(Problem(415, "invalid_request", message))


def _refusal(error: ExtentError, bounds: Bounds) -> ProblemError:
    if error.what == "values":
        message = f"the body has more than {bounds.body_values:,} names and values"
        return ProblemError(Problem(413, "too_large", message))
    message = f"the body is no JSON, or its lists and objects are nested deeper than {bounds.body_nesting} levels"
    return ProblemError(Problem(400, "invalid_request", message))


def _shown(size: int) -> str:
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size:,} bytes"
