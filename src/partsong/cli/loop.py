"""Runs one coroutine to its end. A signal cancels the coroutine, so that every call is closed before the process ends.

A shell expects the exit code 128 + N from a program that signal N has stopped: 130 after Ctrl-C, 143 after SIGTERM, and
129 after the terminal was closed. A second Ctrl-C ends the process at once.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine in a new event loop, and return its result.

    Raises `KeyboardInterrupt` after Ctrl-C, and `SystemExit` with 128 + N after SIGTERM or SIGHUP (signal N).
    """
    stopped: list[int] = []
    try:
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            return runner.run(_cancelled_by_signals(coroutine, stopped))
    except asyncio.CancelledError:
        if stopped:
            raise SystemExit(128 + stopped[0]) from None
        raise


async def _cancelled_by_signals(coroutine: Coroutine[Any, Any, T], stopped: list[int]) -> T:
    """Await the coroutine, and cancel it on SIGTERM and SIGHUP. The number of the signal is appended to `stopped`."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        try:
            asyncio.get_running_loop().add_signal_handler(number, partial(_stop, task, stopped, number))
        except NotImplementedError:  # Windows has no such signals
            break
    return await coroutine


def _stop(task: asyncio.Task[Any], stopped: list[int], number: int) -> None:
    stopped.append(number)
    task.cancel()


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of uvloop's faster event loop if uvloop is installed; else `None`, for asyncio's loop."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
