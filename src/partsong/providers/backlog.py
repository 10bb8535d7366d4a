"""How far the event loop has fallen behind, and how long streams wait between two reads because of that.

Passing on one read costs the same for one word as for ten. An event loop that cannot keep up would delay the first
words of all calls. So while the loop is late, streams that have begun are read less often. The delay is measured only
while streams are open.
"""

import asyncio
import time

BEAT = 0.02  # seconds between two looks
BEHIND = 0.01  # seconds that a look may be late before anything is done about it
GATHERED = 8  # times as long as the loop is late
LONGEST = 0.2  # seconds: words that come five times a second still read like a stream
FADING = 0.95  # of what was late stays in mind at the next look: a moment's rest is no recovery


class Backlog:
    """`pause` is the time in seconds that a stream waits before its next read; 0 if the loop keeps up."""

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
        """Take in a delay of the loop, in seconds."""
        self._late = max(late, self._late * FADING)
        self.pause = min(LONGEST, GATHERED * self._late) if self._late >= BEHIND else 0.0

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._look, time.monotonic() + BEAT)

    def _look(self, due: float) -> None:
        self._timer = None
        if self._streams:
            self.hear(time.monotonic() - due)
            self._look_again()
        else:
            self._late = self.pause = 0.0
