"""Several workers that share an iterator of work."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def together(count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Await `count` coroutines that `work` makes. If one of them fails, the others are cancelled."""
    tasks = [asyncio.create_task(work()) for _ in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
