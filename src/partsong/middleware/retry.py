"""Try again, with growing pauses, while nothing has been said yet."""

import asyncio
import random
from dataclasses import dataclass

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Model, Request, Send

FIRST_PAUSE = 0.5  # seconds; doubled each time
LONGEST_PAUSE = 30.0  # seconds: a provider that asks for more is not coming back within this question


@dataclass(frozen=True, slots=True)
class Retry:
    """A model that is asked up to `attempts` times, for causes that can pass."""

    model: Model
    attempts: int = 3

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        spoke = False

        async def send_and_note(delta: Delta) -> None:
            nonlocal spoke
            spoke = True
            if send is not None:
                await send(delta)

        for attempt in range(self.attempts):
            try:
                return await self.model(request, send and send_and_note)
            except ModelError as error:
                last = attempt == self.attempts - 1
                # Once the listener has heard words, a second start would contradict them.
                if spoke or last or not error.passing or (error.retry_after or 0) > LONGEST_PAUSE:
                    raise
                await asyncio.sleep(pause(attempt, error.retry_after))
        raise AssertionError("unreachable")


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after the `attempt`-th failure (counted from 0): what the provider asked for, or a growing time.

    The jitter keeps the seats of a layer, which failed together, from coming back together.
    """
    wanted = retry_after if retry_after is not None else min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    return wanted + random.uniform(0, FIRST_PAUSE * 2**attempt)
