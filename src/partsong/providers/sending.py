"""Bounds the memory of large requests to models: the bytes of all bodies that the process is sending at the same time.

Each seat of a run sends the whole conversation, so 256 seats with 8 MiB of text would be 2 GiB. A large body is made
when there is room for it, and counts until its last byte has been handed over. One host can take half of the room, so
that a server that reads slowly does not keep the requests to others waiting. Small bodies do not count and never wait.
Large answers that are not streamed have a room of the same kind.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from partsong.wire.blobs import Encoded

MIB = 1 << 20


class Sending:
    """The large bodies that are being sent.

    whole: most bytes of all of them; a body that is larger is sent when no other is
    """

    def __init__(self, megabytes: int) -> None:
        self.whole = megabytes * MIB
        self.of_host = Counter[str]()
        self._waiting: list[Place] = []

    def place(self, host: str, size: int) -> "Place":
        """A place for a body to this host. Entering it waits for room; leaving it ends the waiting, or makes room."""
        return Place(self, host, size)

    def has_room(self, host: str, size: int) -> bool:
        total, own = self.of_host.total(), self.of_host[host]
        return (not total or total + size <= self.whole) and (not own or own + size <= self.whole // 2)

    def admit(self) -> None:
        """Let those in that wait and have room, in their order."""
        for place in list(self._waiting):
            if place.entered is not None and not place.entered.done() and self.has_room(place.host, place.size):
                self._waiting.remove(place)
                place.take()
                place.entered.set_result(None)

    async def wait(self, place: "Place") -> None:
        """Wait until the place has room."""
        if not any(other.host == place.host for other in self._waiting) and self.has_room(place.host, place.size):
            place.take()
            return
        place.entered = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place.entered
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            place.release()
            raise


@dataclass(slots=True, eq=False)
class Place:
    """The place of one body. `taken`: whether it counts now."""

    sending: Sending
    host: str
    size: int
    entered: asyncio.Future[None] | None = None
    taken: bool = False

    async def __aenter__(self) -> Self:
        if self.size:
            await self.sending.wait(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def enlarge(self, size: int) -> None:
        """Wait for room for so many bytes, because what had no size before turns out to be large."""
        if not self.taken:
            self.size = size
            await self.sending.wait(self)

    def take(self) -> None:
        self.taken = True
        self.sending.of_host[self.host] += self.size

    def release(self) -> None:
        """Count no more, since the body is sent, or is not sent. Further calls have no effect."""
        if not self.taken:
            return
        self.taken = False
        self.sending.of_host[self.host] -= self.size
        if not self.sending.of_host[self.host]:
            del self.sending.of_host[self.host]
        self.sending.admit()


async def pieces_of(body: Encoded, place: Place) -> AsyncIterator[bytes]:
    """The body in pieces, with a turn for others after each. The place is free after the last one."""
    try:
        for piece in body.pieces():
            yield piece
            await asyncio.sleep(0)
    finally:
        place.release()
