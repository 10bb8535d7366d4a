"""Ask an agent's models in turn: its own first, and its fallbacks when the one before has failed.

One that has said nothing when its share of the time is over has failed, too: without that, a model that hangs would
leave its fallbacks nothing of the deadline. Once it has begun, it has all the time there is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from partsong.errors import ModelError
from partsong.model import Answer

Begun = Callable[[], None]


async def ask_in_turn(
    names: Sequence[str],
    ask: Callable[[str, float | None, Begun], Awaitable[Answer]],
    replace: Callable[[str, ModelError], Awaitable[None]],
    until: float | None,
) -> tuple[str, Answer]:
    """The name of the model that answered, and its answer. Raises the last one's `ModelError`.

    `ask` asks the model of a name, which must have begun at the time that it is given, and calls what it is given when
    the model has. `replace` hears which model
    comes next, and why; it raises the error if there must not be a next one. `until` is a time of the running loop.
    """
    clock = asyncio.get_running_loop().time
    for position, name in enumerate(names[:-1]):
        left = None if until is None else max(0.0, until - clock()) / (len(names) - position)
        share = None if left is None else clock() + left
        try:
            async with asyncio.timeout_at(share) as limit:
                return name, await ask(name, share, lambda limit=limit: limit.reschedule(None))  # type: ignore[misc]
        except ModelError as error:
            failure = error
        except TimeoutError:
            if not limit.expired():
                raise
            failure = ModelError(f"it said nothing for {left:.3g} s, its share of the time that was left", "timeout")
        await replace(names[position + 1], failure)
    return names[-1], await ask(names[-1], until, lambda: None)
