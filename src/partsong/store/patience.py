"""How long one request waits for the store in all, however often it writes.

Each write of a request may wait for a lock, and a process that takes the lock again and again delays each of them anew.
So a request has one patience for all its writes together. It holds for the task in which it was made, and for all tasks
that are made there, since a run asks its models in tasks of its own.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Patience:
    """The seconds for which one request may still wait. Waits at the same time count once."""

    def __init__(self, seconds: float) -> None:
        self._left, self._waiting, self._began = seconds, 0, 0.0

    def left(self) -> float:
        """The seconds that are left now."""
        waited = asyncio.get_running_loop().time() - self._began if self._waiting else 0.0
        return max(0.0, self._left - waited)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block."""
        if not self._waiting:
            self._began = asyncio.get_running_loop().time()
        self._waiting += 1
        try:
            yield
        finally:
            if self._waiting == 1:
                self._left = self.left()
            self._waiting -= 1


OF_THIS_REQUEST: ContextVar[Patience | None] = ContextVar("partsong_patience", default=None)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let the block, and all tasks that are made in it, wait for the store for so many seconds in all."""
    before = OF_THIS_REQUEST.set(Patience(seconds))
    try:
        yield
    finally:
        OF_THIS_REQUEST.reset(before)
