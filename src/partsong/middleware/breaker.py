"""A circuit breaker: while a provider keeps failing, calls to it fail at once and are not sent.

Only failures that mean that the provider is down count: a server error, a network error, or a timeout. They must come
in a row and over some seconds, because seats that fail together show one bad moment alone. After a rest, one trial call
is sent. If it succeeds, calls are sent again; if it fails, a longer rest begins.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from partsong.errors import Cause, ModelError
from partsong.model import Answer, Model, Request, Send

DOWN: frozenset[Cause] = frozenset({"server", "network", "timeout"})
FAILURES = 5  # failures in a row after which a provider rests
SPREAD = 10.0  # seconds that must lie between the first and the last of these failures
FIRST_REST = 30.0  # seconds; doubled after each trial call that fails
LONGEST_REST = 300.0  # seconds


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Health:
    """The recent failures of one provider, shared by all models of the provider. Times are by `clock`, in seconds.

    clock: returns the present time; the event loop's clock by default
    failures: failures in a row
    failing_since: time of the first of these failures
    last: message of the last failure
    resting_since: when the provider began to rest; `None` while calls are sent
    until: when a trial call may be sent
    rest: seconds of the present rest; 0.0 before the first rest
    trying: whether a trial call is under way
    """

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
        """Admit a call, and return whether it is the trial call after a rest.

        Raises `ModelError` with the cause "resting" while the provider rests or another trial call is under way.
        """
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
        """Note that the provider has answered: failures in a row and the rest are reset."""
        self.failures, self.resting_since, self.rest = 0, None, 0.0

    def fail(self, why: str, *, trial: bool) -> None:
        """Note a failure that means that the provider is down. A rest may begin.

        why: message of the failure
        trial: whether the trial call has failed
        """
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
        """Begin a rest, twice as long as the last one."""
        self.rest = min(self.rest * 2, LONGEST_REST) if self.rest else FIRST_REST
        self.until = now + self.rest


@dataclass(frozen=True, slots=True)
class Breaker:
    """A model whose calls fail at once while its provider rests. `health`: shared by all models of the provider."""

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
            if trial:  # a trial call that was cancelled or refused decides nothing, so the next call is a trial again
                health.trying = False
