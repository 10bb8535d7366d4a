"""Keeps track of whether the database behind a store works, and tells listeners when this changes.

Reads and writes fail independently: a full disk can still be read, and a damaged page may never be written. A write
that succeeds does not end a failure of writes, because a short run may still fit on a full disk. Only the store's probe
ends the failure, so that failure and recovery are not reported again and again.
"""

import asyncio
from collections.abc import Callable

from partsong.errors import StoreError
from partsong.store.backend import UnstorableError

REST = 30.0  # seconds without reads after a read has failed
Listener = Callable[[StoreError | None], object]


class Health:
    """The health of one store.

    problem: the first failure, or one value that could not be stored; `None` if there was none
    stopped: called whenever writes begin to fail, also while reads fail already
    """

    def __init__(self, stopped: Callable[[], object] = lambda: None) -> None:
        self.problem: StoreError | None = None
        self._stopped = stopped
        self._writes: StoreError | None = None
        self._reads: tuple[float, StoreError] | None = None  # until when nothing is read
        self._listeners: list[Listener] = []
        self._tripped: asyncio.Future[None] | None = None

    @property
    def failing(self) -> StoreError | None:
        """The current failure of writes or reads; `None` while the database works."""
        return self._writes or (None if self._reads is None else self._reads[1])

    @property
    def writes(self) -> StoreError | None:
        """The failure because of which no write is tried; `None` while writes work."""
        return self._writes

    @property
    def reads(self) -> StoreError | None:
        """The failure because of which no read is tried; `None` while reads work, and 30 seconds after the failure."""
        resting = self._reads is not None and asyncio.get_running_loop().time() < self._reads[0]
        return self._reads[1] if resting and self._reads is not None else None

    def listen(self, hear: Listener) -> None:
        """Call `hear` with the failure when the database begins to fail, and with `None` when it works again.

        If the database fails already, `hear` is called at once.
        """
        self._listeners.append(hear)
        if self.failing is not None:
            hear(self.failing)

    def failed(self, problem: StoreError, *, writing: bool) -> None:
        """Note a failure of a write (`writing`) or a read. A value that cannot be stored does not count as failing."""
        self.problem = self.problem or problem
        if isinstance(problem, UnstorableError):
            return
        before = self.failing
        if writing and self._writes is None:
            self._writes = problem
            self._stopped()
        elif not writing:
            self._reads = asyncio.get_running_loop().time() + REST, problem
        if self._tripped is not None and not self._tripped.done():
            self._tripped.set_result(None)
        self._tell(before)

    def wrote(self) -> None:
        """Note that a probe has written successfully, so that writes work again."""
        before, self._writes = self.failing, None
        self._tell(before)

    def read(self) -> None:
        """Note a successful read."""
        if self._reads is not None:
            before, self._reads = self.failing, None
            self._tell(before)

    def next_failure(self) -> "asyncio.Future[None]":
        """A future that is done at the next failure of a read or a write."""
        if self._tripped is None or self._tripped.done():
            self._tripped = asyncio.get_running_loop().create_future()
        return self._tripped

    def _tell(self, before: StoreError | None) -> None:
        if (before is None) != (self.failing is None):
            for hear in self._listeners:
                hear(self.failing)
