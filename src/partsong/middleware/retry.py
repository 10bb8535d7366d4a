"""Retries of failed calls after growing pauses, unless a delta was already sent or the deadline is too close."""

import asyncio
import random
from dataclasses import dataclass

from msgspec.structs import replace

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Model, Request, Send, Usage

ATTEMPTS = 3  # of a call, the first one included
FIRST_PAUSE = 0.5  # seconds; doubled each time
LONGEST_PAUSE = 30.0  # seconds; if a provider asks for a longer pause, the call is not retried


@dataclass(frozen=True, slots=True)
class Retry:
    """A model whose calls are retried after failures that may pass, such as a timeout.

    model: the model to call; includes `Price`, because some prices depend on the length of the prompt of each attempt
    attempts: attempts at most, the first one included; 3 by default

    The usage of failed attempts is added to the usage of the answer or of the error.
    """

    model: Model
    attempts: int = ATTEMPTS

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
                # After a delta was sent, another attempt could give the listener a different text.
                if spoke or attempt == self.attempts - 1 or not _worth_it(error, request, again):
                    error.usage = _at_the_end(used, error)
                    raise
                used = _together(used, error.usage)
            await asyncio.sleep(again)
        raise AssertionError("unreachable")


def pause(attempt: int, retry_after: float | None) -> float:
    """Return the seconds to wait before the next attempt, with jitter.

    attempt: index of the attempt that has failed, from 0
    retry_after: seconds that the provider asks the client to wait; `None` if not given, for a growing pause

    Because of the jitter, seats that failed together do not try again at the same time.
    """
    wanted = retry_after if retry_after is not None else min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    return wanted + random.uniform(0, FIRST_PAUSE * 2**attempt)


def _worth_it(error: ModelError, request: Request, again: float) -> bool:
    """Return whether a failed call may be retried. `again`: seconds from now to the next attempt."""
    terms = request.terms
    if not error.passing or (error.retry_after or 0) > LONGEST_PAUSE:
        return False
    if terms.once and not error.unpaid:
        return False  # the provider may have done its work, and charge for it
    return terms.until is None or asyncio.get_running_loop().time() + again < terms.until


def _at_the_end(used: Usage | None, error: ModelError) -> Usage | None:
    """Return the usage of all attempts, of which the last one failed with `error`; `None` if it is unknown.

    used: usage of the attempts before

    If the last attempt may have cost money and nobody says how much, the whole is no known amount: it is marked as
    estimated or, if the attempts before were free, unknown.
    """
    if used is None or error.usage is not None or error.unpaid:
        return _together(used, error.usage)
    return None if used.dollars == 0 else replace(used, estimated=True)


def _together(one: Usage | None, other: Usage | None) -> Usage | None:
    return other if one is None else one if other is None else one + other
