"""Told to stop: the runs must hear of it at once, not only when every connection is closed.

ASGI servers say "shutdown" last of all, once every response is over; some kill what is left by then. So the signals
that stop a server are overheard here, in whichever server the application runs, and passed on to it.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Hear = Callable[[int, FrameType | None], object]


@contextmanager
def overhearing(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop`, in the running loop, whenever the process is told to stop by a signal that its server heeds."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not heard here: who runs a server in a thread stops it in another way
        return
    loop = asyncio.get_running_loop()

    def hear_and(pass_on: Hear) -> Hear:
        def hear(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(stop)
            pass_on(number, frame)

        return hear

    replaced: list[tuple[int, Hear, Hear]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            hear = hear_and(before)
            signal.signal(number, hear)
            replaced.append((number, before, hear))
    try:
        yield
    finally:
        for heard, before, hear in replaced:
            if signal.getsignal(heard) is hear:
                signal.signal(heard, before)
