"""Begins the seats of a layer and waits for them, until all are done, a decision, the end of a grace, or a deadline.

Seats are tasks in `asyncio.wait` and not in a task group, because a task group waits for all its tasks. A quorum does
not need all, and a model that ignores its cancellation must not hold up the answer.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from partsong.engine.tracebacks import let_go
from partsong.errors import ModelError
from partsong.model import Answer
from partsong.recipe import Layer

T = TypeVar("T")
# Seconds that a cancelled task may take to stop before it is left behind. Closing a connection takes a few turns of the
# loop; a longer wait would take time from the aggregator.
STOPPING = 0.005


class TooLateError(Exception):
    """Raised by `result_by` if a task was not done in time."""


class Waited(Protocol):
    """A seat to wait for.

    ended: whether the seat has its answer, is lost, or is cut off
    answer: the answer of the seat; `None` if it has none
    """

    ended: bool
    answer: Answer | None


def end_of(layer: Layer, until: float | None) -> tuple[float | None, ModelError]:
    """When a layer that begins now must end, by the running loop's clock, and the error of a seat that is late.

    until: end of the layer by the run's deadline; `None` for no limit. The earlier of `until` and the layer's own
        deadline counts.
    """
    clock = asyncio.get_running_loop().time
    if layer.deadline is not None and (until is None or clock() + layer.deadline < until):
        return clock() + layer.deadline, ModelError(f"the layer's deadline of {layer.deadline:g} s was over", "timeout")
    return until, ModelError("the run's deadline leaves proposals no more time", "timeout")


@dataclass(frozen=True, slots=True)
class Ended:
    """How the waiting for a layer has ended.

    late: the error of the seats that are not done and are lost; `None` if no seat is lost
    spares: whether seats are spared: those that have not begun and, without `late`, those that are open
    """

    late: ModelError | None
    spares: bool


def begin(seat: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Return a task that performs a seat. What the seat has heard is let go of when the task ends, however it ends."""
    task = asyncio.create_task(seat)
    task.add_done_callback(let_go)
    return task


class Asking(Protocol):
    """A layer while its seats are asked.

    tasks: the tasks that fill the seats that have begun, in seat order
    seats: these seats, in the same order
    counts: whether a decision may end the layer, so that `is_decided` is asked after each seat
    """

    tasks: list[asyncio.Task[None]]
    counts: bool

    @property
    def seats(self) -> Sequence[Waited]: ...

    async def begin(self) -> bool:
        """Begin the next seat. `False` if every seat has begun."""

    def is_decided(self) -> bool:
        """Whether no open seat is needed any more."""


async def wait(asking: Asking, layer: Layer, until: float | None, too_late: ModelError) -> Ended:
    """Begin and await the seats of a layer, `layer.at_once` at a time, and return how the layer ended.

    until: when the layer must end, by the running loop's clock; `None` for no limit
    too_late: the error of a seat that is not done by `until`

    An exception of a task is raised. A decision goes before a quorum. Once a quorum is met, no further seat begins.
    """
    clock = asyncio.get_running_loop().time
    quorum, pending, more, spares = layer.quorum, set[asyncio.Task[None]](), True, False
    looks = quorum is not None or layer.at_once is not None or asking.counts
    while True:
        while more and (layer.at_once is None or _may_begin(layer.at_once, len(pending), until)):
            if more := await asking.begin():
                pending.add(asking.tasks[-1])
        if not pending:
            return Ended(too_late if more else None, spares)
        left = None if until is None else max(0.0, until - clock())
        how = asyncio.FIRST_COMPLETED if looks else asyncio.FIRST_EXCEPTION
        done, pending = await asyncio.wait(pending, timeout=left, return_when=how)
        for task in done:
            task.result()  # what is raised here ends the run
        if asking.counts and asking.is_decided():
            return Ended(None, True)
        met = quorum is not None and sum(seat.answer is not None for seat in asking.seats) >= quorum
        if (pending or more) and until is not None and clock() >= until:
            return Ended(too_late, spares or met)
        if met:
            grace, quorum, more, spares = layer.grace or 0.0, None, False, True
            if until is None or clock() + grace < until:
                until = clock() + grace
                too_late = ModelError(f"{layer.quorum} had answered, and the grace of {grace:g} s was over", "cut_off")


def _may_begin(at_once: int, pending: int, until: float | None) -> bool:
    return pending < at_once and (until is None or asyncio.get_running_loop().time() < until)


async def end(tasks: list[asyncio.Task[T]]) -> None:
    """Cancel the tasks that still run. A task that has not stopped after 5 ms is left behind."""
    if running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=STOPPING)
    for task in tasks:
        task.add_done_callback(look_at)


async def result_by(task: asyncio.Task[T], until: float | None) -> T:
    """Wait for the task, and return its result. Raises `TooLateError` if the task is not done by `until`.

    until: a time of the running loop's clock; `None` for no limit

    The task is cancelled if it is late, and also if the caller is cancelled.
    """
    clock = asyncio.get_running_loop().time
    try:
        await asyncio.wait([task], timeout=None if until is None else max(0.0, until - clock()))
        if not task.done():
            raise TooLateError
    finally:
        await end([task])
    return task.result()


def look_at(task: asyncio.Task[T]) -> None:
    """Retrieve the task's exception, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()
