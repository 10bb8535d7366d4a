"""Parts of a batch as tasks of a Ray cluster (https://docs.ray.io).

Ray places the parts on the nodes, and starts a part again on another node if its process or its node dies. What a part
has kept outlives both: the answers in its `.partial` file, and the calls in the shared store. Ray keeps nothing.

Each part is a task, and not an actor or a stage of Ray Data. A task has a process and an event loop for itself until it
ends, so models and store are opened and closed in one loop. The rows of a pipeline of Ray Data outlive a killed driver
only in whole blocks, and calls not at all.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as version_of
from typing import Any

from msgspec import Struct

from partsong.batch.answers import InUseError
from partsong.batch.work import End
from partsong.errors import InputError, PartsongError

RETRIES = 20  # starts of a part after its process or its node has died
PAUSE = 1.0  # seconds between two looks at the parts
LOCKED = 180.0  # seconds that a part waits for the process before it, which a node that died may seem to hold


class Node(Struct, frozen=True):
    """A living node of the cluster. `machine`: name of its host. `cpus`: CPUs that Ray may use."""

    machine: str
    cpus: int


@contextmanager
def connected() -> Iterator[Any]:
    """Connect to the cluster that `RAY_ADDRESS` names, or to the one on this machine. Returns the module `ray`.

    Raises `InputError` if Ray is not installed or no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--on ray needs the extra `ray`: pip install 'partsong[ray]'") from None
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as problem:
        first = str(problem).strip().split("\n", 1)[0]
        raise InputError(
            f"no Ray cluster can be reached ({first}); start one with `ray start --head`, or name its address in the "
            "variable RAY_ADDRESS"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def nodes(ray: Any) -> list[Node]:
    """The nodes that live."""
    return [
        Node(each["NodeManagerHostname"], int(each["Resources"].get("CPU", 0))) for each in ray.nodes() if each["Alive"]
    ]


async def performed(
    ray: Any, parts: Sequence[int], count: int, at_once: int, work: Callable[[int, int], End]
) -> AsyncIterator[tuple[int, End]]:
    """Perform the parts, in their order. Yields each part with its end.

    count: number of all parts of the batch
    at_once: number of parts that Ray is given at the same time; it performs as many as it has CPUs
    work: performs a part, from its index and `count`, in the process of a node, where partsong must be installed
        (the function is found by its name)

    After a part that has stopped, no other part is given to Ray. The parts under way come to their end.
    """
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_on_node)
    left = deque(parts)
    under_way: dict[Any, int] = {}
    while left or under_way:
        while left and len(under_way) < at_once:
            part = left.popleft()
            under_way[task.options(name=f"partsong part {part}").remote(work, part, count, version_of("partsong"))] = (
                part
            )
        done, _ = await asyncio.to_thread(ray.wait, list(under_way), timeout=PAUSE)
        for each in done:
            part = under_way.pop(each)
            try:
                end: End = await asyncio.to_thread(ray.get, each)
            except ray.exceptions.RayError as problem:
                last = str(problem).strip().rsplit("\n", 1)[-1]
                end = End(stopped=f"Ray could not perform part {part}: {last}", dollars=None)
            if end.stopped:
                left.clear()
            yield part, end


def _on_node(work: Callable[[int, int], End], part: int, count: int, version: str) -> End:
    """Perform a part in the process of a node."""
    if version != (here := version_of("partsong")):
        return End(stopped=f"a node has partsong {here}, but the batch was begun by partsong {version}")
    until = time.monotonic() + LOCKED
    while True:
        try:
            return work(part, count)
        except InUseError as problem:
            if time.monotonic() > until:
                return End(stopped=str(problem))
            time.sleep(PAUSE)
        except (PartsongError, OSError) as problem:
            return End(stopped=str(problem))
