"""One process at a time: a file that is locked while weights are fetched. The system lets go of it if we die.

The lock belongs to the open file, so it also keeps two tasks of one process apart. The file itself stays: deleting it
would let a third process lock another file of the same name.
"""

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

LOOK_AGAIN = 0.25  # seconds


@asynccontextmanager
async def locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock `path`; `waiting` is called once if somebody else has it. Raises `OSError` if it cannot be made."""
    # Written to, because Windows locks bytes, not files; and without truncating what another holds.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        said = False
        while not _take(descriptor):
            if not said:
                waiting()
                said = True
            await asyncio.sleep(LOOK_AGAIN)
        yield
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                return True  # a file system without locks: better unguarded than not at all
            if fault.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            return False
        return True
