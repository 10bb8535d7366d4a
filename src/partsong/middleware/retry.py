"""Retries with growing pauses, as long as the listener has heard nothing and the deadline allows another attempt."""

import asyncio
import random
from dataclasses import dataclass

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Model, Request, Send, Usage

FIRST_PAUSE = 0.5  # seconds; doubled each time
LONGEST_PAUSE = 30.0  # seconds: a provider that asks for more is not coming back within this question


@dataclass(frozen=True, slots=True)
class Retry:
    """A model that is called up to `attempts` times if its failures can pass.

    The usage of failed attempts is part of the usage of the answer, or of the error. `Price` belongs inside, because
    prices that depend on the size of a call differ for two calls added up.
    """

    model: Model
    attempts: int = 3

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        spoke = False
        used: Usage | None = None

        async def send_and_note(delta: Delta) -> None:
            nonlocal spoke
            spoke = True
            if send is not None:
                await send(delta)

        for attempt in range(self.attempts):
            try:
                answer = await self.model(request, send and send_and_note)
                return answer if used is None else replace(answer, usage=used + answer.usage)
            except ModelError as error:
                again = pause(attempt, error.retry_after)
                # Once the listener has heard words, a second start would contradict them.
                if spoke or attempt == self.attempts - 1 or not _worth_it(error, request, again):
                    error.usage = _together(used, error.usage)
                    raise
                used = _together(used, error.usage)
            await asyncio.sleep(again)
        raise AssertionError("unreachable")


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after a failure (`attempt` counts from 0): the provider's wish, or a growing time.

    The jitter keeps the seats of a layer, which failed together, from coming back together.
    """
    wanted = retry_after if retry_after is not None else min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    return wanted + random.uniform(0, FIRST_PAUSE * 2**attempt)


def _worth_it(error: ModelError, request: Request, again: float) -> bool:
    """Whether the call may be made again, `again` seconds from now."""
    terms = request.terms
    if not error.passing or (error.retry_after or 0) > LONGEST_PAUSE:
        return False
    if terms.once and not error.unpaid:
        return False  # the provider may have done its work, and charge for it
    return terms.until is None or asyncio.get_running_loop().time() + again < terms.until


def _together(one: Usage | None, other: Usage | None) -> Usage | None:
    return other if one is None else one if other is None else one + other
