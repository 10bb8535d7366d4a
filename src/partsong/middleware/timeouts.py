"""Ends calls to models that do not begin to answer or fall silent. A hung call then does not last to the deadline."""

import asyncio
from dataclasses import dataclass

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Model, Request, Send
from partsong.wire.deltas import is_progress


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A model whose calls fail if it does not answer in time.

    first: seconds to the first delta; `None` for no limit
    silence: seconds between two deltas; `None` for no limit

    Calls are streamed even without a listener, so that deltas can be timed. Time that a listener takes is not counted.
    A delta of white space alone counts as silence, because servers can send white space without end.
    """

    model: Model
    first: float | None
    silence: float | None

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        clock = asyncio.get_running_loop().time
        spoke = False
        try:
            async with asyncio.timeout(self.first) as limit:

                async def send_and_wait_again(delta: Delta) -> None:
                    nonlocal spoke
                    due, began = limit.when(), clock()
                    progress = is_progress(delta)
                    spoke = spoke or progress
                    if send is not None:
                        limit.reschedule(None)
                        await send(delta)
                    if progress:
                        due, began = None if self.silence is None else clock() + self.silence, clock()
                    limit.reschedule(None if due is None else due + clock() - began)

                return await self.model(request, send_and_wait_again)
        except TimeoutError:
            if not limit.expired():
                raise
            if spoke:
                raise ModelError(f"it was silent for {self.silence:g} s", "timeout") from None
            raise ModelError(f"it said nothing for {self.first:g} s", "timeout") from None
