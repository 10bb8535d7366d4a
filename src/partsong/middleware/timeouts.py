"""Give up on a model that does not begin, or falls silent: what has hung is not waited for until the deadline."""

import asyncio
from dataclasses import dataclass

from partsong.errors import ModelError
from partsong.model import Answer, Delta, Model, Request, Send


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A model that must say its first token within `first` seconds, and go on within `silence` seconds of the last.

    `None` is no limit. To see the tokens, it asks for a stream even where nobody listens. The time that a listener
    takes does not count.
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
                    spoke = True
                    if send is not None:
                        limit.reschedule(None)
                        await send(delta)
                    limit.reschedule(None if self.silence is None else clock() + self.silence)

                return await self.model(request, send_and_wait_again)
        except TimeoutError:
            if not limit.expired():
                raise
            if spoke:
                raise ModelError(f"it was silent for {self.silence:g} s", "timeout") from None
            raise ModelError(f"it said nothing for {self.first:g} s", "timeout") from None
