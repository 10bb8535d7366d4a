"""A file that is locked while the weights beside it are fetched, so that one process at a time fetches them.

The lock belongs to the open file. The system therefore releases the lock of a process that dies, and the lock also
keeps two tasks of one process apart. The file stays after the release: if it were deleted, a third process could lock
another file of the same name.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOOK_AGAIN = 0.25  # seconds
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # what a file system without locks answers


@asynccontextmanager
async def locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock `path` until the block is left. `waiting` is called once if another process or task holds it.

    Raises `OSError` if the file cannot be made.
    """
    # Imported here, because most starts find the weights in their place and need no lock.
    from filelock import FileLock

    lock = FileLock(path, mode=0o644, thread_local=False, fallback_to_soft=False)
    try:
        told = False
        while not _take(lock):
            if not told:
                waiting()
                told = True
            await asyncio.sleep(LOOK_AGAIN)
        yield
    finally:
        lock.release()


def _take(lock: "BaseFileLock") -> bool:
    """Whether the lock is held now, or cannot be held in this file system."""
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as fault:
        if fault.errno not in WITHOUT_LOCKS:
            raise
        # Two processes may then fetch the same file, and each checks the hash of what it has fetched.
    return True
