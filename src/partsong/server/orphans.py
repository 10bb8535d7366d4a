"""Ends a worker whose main process is gone: nobody would stop the worker, and the worker would keep the port."""

import multiprocessing
import os
import signal
import time
from threading import Thread

PAUSE = 1.0  # seconds between two looks at the main process
CLOSING = 10  # seconds that a worker has to flush the store after its runs have ended


def end_with_parent(drain: float) -> None:
    """Stop this process soon after its parent has died, as a signal to stop does; does nothing in a main process.

    drain: seconds in which the runs under way may end; a process that still exists 10 s later is killed
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None and hasattr(signal, "SIGKILL"):
        Thread(target=_watch, args=(parent.pid, drain), name="parent", daemon=True).start()


def _watch(parent: int, drain: float) -> None:
    while os.getppid() == parent:
        time.sleep(PAUSE)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain + CLOSING)
    os.kill(os.getpid(), signal.SIGKILL)
