"""Waits for the seats of a layer until all are done, the grace after the quorum is over, or a deadline passes.

Seats are tasks in `asyncio.wait` and not in a task group, because a task group waits for all its tasks. A quorum does
not need all, and a model that ignores its cancellation must not hold up the answer.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

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


async def wait(
    tasks: list[asyncio.Task[None]],
    seats: Sequence[Waited],
    layer: Layer,
    until: float | None,
    too_late: ModelError,
) -> dict[int, ModelError]:
    """Wait for the seats of a layer. Return the error of each seat that must be cut off, by the index of the seat.

    tasks: the tasks that fill the seats, in seat order
    seats: the seats, in the same order
    until: when the layer must end, by the running loop's clock; `None` for no limit
    too_late: the error of a seat that is not done by `until`

    An exception of a task is raised.
    """
    clock = asyncio.get_running_loop().time
    quorum, pending = layer.quorum, set(tasks)
    while pending:
        left = None if until is None else max(0.0, until - clock())
        how = asyncio.FIRST_EXCEPTION if quorum is None else asyncio.FIRST_COMPLETED
        done, pending = await asyncio.wait(pending, timeout=left, return_when=how)
        for task in done:
            task.result()  # what is raised here ends the run
        if pending and until is not None and clock() >= until:
            return {index: too_late for index, seat in enumerate(seats) if not seat.ended}
        if quorum is not None and sum(seat.answer is not None for seat in seats) >= quorum:
            grace, quorum = layer.grace or 0.0, None
            if until is None or clock() + grace < until:
                until = clock() + grace
                too_late = ModelError(f"{layer.quorum} had answered, and the grace of {grace:g} s was over", "cut_off")
    return {}


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
        done, _ = await asyncio.wait([task], timeout=None if until is None else max(0.0, until - clock()))
        if not done:
            raise TooLateError
    finally:
        await end([task])
    return task.result()


def look_at(task: asyncio.Task[T]) -> None:
    """Retrieve the task's exception, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()
