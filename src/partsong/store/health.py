"""Whether the database behind a store works: the first failure, the failure that lasts, and who hears of a change.

Reads and writes fail apart: a full disk can still be read, and a damaged page can be one that nobody writes. A write
that works by chance does not end a failure of writes, because a short run may still fit on a full disk. Only the
store's probe ends one, so that failure and recovery are not told again and again.
"""

import asyncio
from collections.abc import Callable

from partsong.errors import StoreError
from partsong.store.backend import UnstorableError

REST = 30.0  # seconds for which nothing is read after a read has failed
Listener = Callable[[StoreError | None], object]


class Health:
    """The health of one store.

    problem: the first failure, or one value that could not be stored; `None` if there was none
    """

    def __init__(self) -> None:
        self.problem: StoreError | None = None
        self._writes: StoreError | None = None
        self._reads: tuple[float, StoreError] | None = None  # until when nothing is read
        self._listeners: list[Listener] = []
        self._tripped: asyncio.Future[None] | None = None

    @property
    def failing(self) -> StoreError | None:
        """The failure that lasts; `None` while the database works."""
        return self._writes or (None if self._reads is None else self._reads[1])

    @property
    def writes(self) -> StoreError | None:
        """Why nothing is written now."""
        return self._writes

    @property
    def reads(self) -> StoreError | None:
        """Why nothing is read now. After a while a read is tried again."""
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
        """Note a failure."""
        self.problem = self.problem or problem
        if isinstance(problem, UnstorableError):
            return
        before = self.failing
        if writing:
            self._writes = self._writes or problem
        else:
            self._reads = asyncio.get_running_loop().time() + REST, problem
        if self._tripped is not None and not self._tripped.done():
            self._tripped.set_result(None)
        self._tell(before)

    def wrote(self) -> None:
        """Note that the probe could write."""
        before, self._writes = self.failing, None
        self._tell(before)

    def read(self) -> None:
        """Note that something could be read."""
        if self._reads is not None:
            before, self._reads = self.failing, None
            self._tell(before)

    def next_failure(self) -> "asyncio.Future[None]":
        """Is done when the database fails next."""
        if self._tripped is None or self._tripped.done():
            self._tripped = asyncio.get_running_loop().create_future()
        return self._tripped

    def _tell(self, before: StoreError | None) -> None:
        if (before is None) != (self.failing is None):
            for hear in self._listeners:
                hear(self.failing)
