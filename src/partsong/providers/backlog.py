"""Measures how late the event loop runs, and makes streams wait between two reads while it is late.

Processing one read costs about the same for one token as for ten. A loop that cannot keep up would delay the first
token of every call. So while the loop is late, streams that have begun are read less often. The delay is measured only
while streams are open.
"""

import asyncio

BEAT = 0.02  # seconds between two measurements
BEHIND = 0.01  # seconds of delay below which streams do not wait
GATHERED = 8  # a stream waits this many times the loop's delay
LONGEST = 0.2  # seconds that a stream waits at most: five updates a second still look like a stream
FADING = 0.95  # share of the delay that remains at the next measurement, so that one good measurement is no recovery


class Backlog:
    """The delay of one event loop. Enter it with `with` while a stream is open.

    pause: seconds that a stream should wait before its next read; 0.0 while the loop keeps up
    """

    __slots__ = ("_late", "_streams", "_timer", "pause")

    def __init__(self) -> None:
        self.pause = 0.0
        self._late = 0.0
        self._streams = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Count a stream as open until the `with` block ends."""
        self._streams += 1
        if self._timer is None:
            self._look_again()

    def __exit__(self, *_: object) -> None:
        self._streams -= 1

    def hear(self, late: float) -> None:
        """Update `pause` from a measured delay of the loop, in seconds."""
        self._late = max(late, self._late * FADING)
        self.pause = min(LONGEST, GATHERED * self._late) if self._late >= BEHIND else 0.0

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + BEAT  # by the loop's own clock, which tests replace
        self._timer = loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        self._timer = None
        if self._streams:
            self.hear(asyncio.get_running_loop().time() - due)
            self._look_again()
        else:
            self._late = self.pause = 0.0
