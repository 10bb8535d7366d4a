"""Wait for the seats of a layer: until all are done, the quorum's grace is over, or a deadline has come.

Seats are tasks in `asyncio.wait`, not in a task group. A quorum cannot be had with a task group, and a model that does
not stop when it is cancelled must not hold up the answer.
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
    """A task was not done in time."""


class Waited(Protocol):
    """A seat that is waited for: whether it has `ended`, and the `answer` if it has one."""

    ended: bool
    answer: Answer | None


def end_of(layer: Layer, until: float | None) -> tuple[float | None, ModelError]:
    """When the layer must be done, and the error of a seat that is not done then.

    The layer's own deadline counts, or `until`, the run's, if that is earlier.
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
    """Wait until every seat is done, or until the time is up. Return the indexes of the seats to cut off, and why."""
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
    """Cancel the tasks that still run. A task that does not stop soon is left behind."""
    if running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=STOPPING)
    for task in tasks:
        task.add_done_callback(look_at)


async def result_by(task: asyncio.Task[T], until: float | None) -> T:
    """What the task returns. Raises `TooLateError` if the task is not done by `until`.

    The task is ended in any case, also if the caller is cancelled.
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
