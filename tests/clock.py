"""An event loop whose time jumps to the next timer, so that a test may wait for hours and take none.

    @jumping                        # this test runs on such a loop, which begins at 1,000
    async def test_it_rests() -> None:
        await asyncio.sleep(300)

    @jumping(settle=0.005)          # with real sockets or threads: time jumps when nothing came for so many seconds

A busy machine delivers bytes later, so `settle` grows with the load: a test must not depend on the machine's speed.

Time jumps only while no callback is ready and no socket has anything to read, so what really happens comes first.
"""

import asyncio
import functools
import os
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, overload

START = 1_000.0  # not 0: what takes a time for false would not be noticed
HUNG = 20.0  # real seconds without a timer, a callback or a byte after which a test hangs for good

AsyncTest = Callable[..., Awaitable[None]]
Test = Callable[..., None]


class JumpingLoop(asyncio.SelectorEventLoop):
    """The loop. `now` is its time; `settle` is how many real seconds it listens to sockets before it jumps."""

    def __init__(self, settle: float = 0.0) -> None:
        self.now = START
        super().__init__(_Selector(self, settle))

    def time(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop, settle: float) -> None:
        super().__init__()
        self.loop, self.settle = loop, settle
        if settle:
            self.settle *= max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(HUNG)
            if not ready:
                raise RuntimeError(f"the test hangs: no timer is set, and nothing happened for {HUNG:g} s")
            return ready
        ready = super().select(min(self.settle, timeout))
        if not ready:
            self.loop.now += timeout
        return ready


@overload
def jumping(test: AsyncTest) -> Test: ...
@overload
def jumping(*, settle: float) -> Callable[[AsyncTest], Test]: ...
def jumping(test: AsyncTest | None = None, *, settle: float = 0.0) -> Test | Callable[[AsyncTest], Test]:
    """Run a test on a `JumpingLoop`, and see that it leaves no task behind."""

    def decorate(test: AsyncTest) -> Test:
        @functools.wraps(test)
        def run(*values: Any, **named: Any) -> None:
            with asyncio.Runner(loop_factory=lambda: JumpingLoop(settle)) as runner:
                runner.run(_watched(test(*values, **named)))

        return run

    return decorate if test is None else decorate(test)


async def _watched(test: Awaitable[None]) -> None:
    await test
    for _ in range(10):  # what was cancelled needs a few turns of the loop to end
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"the test left tasks running: {', '.join(str(task.get_coro()) for task in left)}"
