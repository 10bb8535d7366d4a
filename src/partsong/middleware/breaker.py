"""A circuit breaker: calls to a provider that keeps failing fail at once for a while, instead of one after another.

Only failures that show that the provider is down count: it is broken, not reached, or silent. They must come in a row
and over some time, because a burst of seats that fail together is one bad moment. After the rest, one call is let
through, and its outcome decides.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from partsong.errors import Cause, ModelError
from partsong.model import Answer, Model, Request, Send

DOWN: frozenset[Cause] = frozenset({"server", "network", "timeout"})
FAILURES = 5  # in a row
SPREAD = 10.0  # seconds from the first of them to the last, at least
FIRST_REST = 30.0  # seconds; doubled each time
LONGEST_REST = 300.0


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Health:
    """The recent failures of one provider. All models of the provider share them."""

    def __init__(self, provider: str, clock: Callable[[], float] = _loop_time) -> None:
        self.provider, self.clock = provider, clock
        self.failures = 0
        self.failing_since = 0.0
        self.last = ""
        self.resting_since: float | None = None
        self.until = 0.0
        self.rest = 0.0
        self.trying = False

    def begin(self) -> bool:
        """Whether a call that begins now is the trial call. Raises `ModelError` while the provider rests."""
        if self.resting_since is None:
            return False
        now = self.clock()
        if now >= self.until and not self.trying:
            self.trying = True
            return True
        left = max(0.0, self.until - now)
        still = f"for {left:.0f} s more" if left else "until the call that tries it out has ended"
        raise ModelError(
            f"{self.provider} has failed too often, so it has been left to rest for {now - self.resting_since:.0f} s "
            f"and will be {still}; the last time: {self.last}",
            "resting",
            retry_after=left,
        )

    def succeed(self) -> None:
        """The provider has answered: earlier failures are forgotten."""
        self.failures, self.resting_since, self.rest = 0, None, 0.0

    def fail(self, why: str, *, trial: bool) -> None:
        """The provider was broken, not reached, or silent."""
        now, self.last = self.clock(), why
        if self.resting_since is not None:
            if trial:
                self.lie_down(now)
            return
        if not self.failures:
            self.failing_since = now
        self.failures += 1
        if self.failures >= FAILURES and now - self.failing_since >= SPREAD:
            self.resting_since = now
            self.lie_down(now)

    def lie_down(self, now: float) -> None:
        self.rest = min(self.rest * 2, LONGEST_REST) if self.rest else FIRST_REST
        self.until = now + self.rest


@dataclass(frozen=True, slots=True)
class Breaker:
    """A model that is called only if the health of its provider allows it."""

    model: Model
    health: Health

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        health = self.health
        trial = health.begin()
        try:
            answer = await self.model(request, send)
            health.succeed()
            return answer
        except ModelError as error:
            if error.cause in DOWN:
                health.fail(str(error), trial=trial)
            raise
        finally:
            if trial:  # where it told nothing (it was cancelled, or refused), the next call tries again
                health.trying = False
