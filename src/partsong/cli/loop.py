"""One coroutine run to its end, with signals as cancellations: every call is closed before the process leaves.

Ctrl-C ends as 130, SIGTERM as 143, a closed terminal as 129, as shells expect of a program that a signal stopped. A
second Ctrl-C does not wait for anything.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Raises `KeyboardInterrupt` for Ctrl-C and `SystemExit` for the other signals."""
    stopped: list[int] = []

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            stopped.append(number)
            task.cancel()

        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            try:
                asyncio.get_running_loop().add_signal_handler(number, stop, number)
            except NotImplementedError:  # Windows has no such signals
                break
        return await coroutine

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        if stopped:
            raise SystemExit(128 + stopped[0]) from None
        raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
