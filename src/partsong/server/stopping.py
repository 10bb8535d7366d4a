"""Intercepts the signals that stop the process (SIGTERM, SIGINT), so that the service can drain its runs at once.

An ASGI server ends the lifespan after every response, and some servers kill the remaining responses before that. The
lifespan is therefore too late to drain. The intercepted signals are passed on to the server.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@dataclass(frozen=True, slots=True, eq=False)
class _Intercepting:
    """A signal handler that calls `stop` in the loop, and then the handler of the ASGI server."""

    stop: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    number: int
    before: Handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.loop.call_soon_threadsafe(self.stop)
        self.before(number, frame)


@contextmanager
def overhearing(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the running loop whenever the process gets a signal to stop, until the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only; a server in a thread is stopped by its program
        return
    loop = asyncio.get_running_loop()
    replaced: list[_Intercepting] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            handler = _Intercepting(stop, loop, number, before)
            signal.signal(number, handler)
            replaced.append(handler)
    try:
        yield
    finally:
        for each in replaced:
            ours = signal.getsignal(each.number) is each
            if ours:  # and not replaced by somebody else in the meantime
                signal.signal(each.number, each.before)
