"""A file lock, so that one process or task at a time fetches a file of weights.

The lock belongs to the open file. So the operating system releases the lock of a process that dies, and the lock also
works between two tasks of one process. The lock file is not deleted after the release: a third process could otherwise
lock a new file of the same name.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOOK_AGAIN = 0.25  # seconds between two attempts to take the lock
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # errors of a file system without locks


@asynccontextmanager
async def locked(path: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Wait for the lock on the file `path`, and hold it until the `async with` block ends.

    waiting: called once if another process or task holds the lock

    Raises `OSError` if the file cannot be created.
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
    """Try to take the lock; return False if another process or task holds it.

    Returns True as well on a file system without locks.
    """
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
