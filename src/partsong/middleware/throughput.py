"""The recent speed of a model, from which the time of its next answer is estimated.

Means and deviations are weighted towards recent calls, as TCP estimates round trips, so only two numbers are kept of
each measure. Estimates err high, because they are used to leave enough time. The time of a slow listener does not
count.
"""

import asyncio
from dataclasses import dataclass

from partsong.model import Answer, Delta, Model, Request, Send

NEWEST = 0.2  # the weight of the newest in a mean
SPREAD = 0.25  # and in a deviation


class Recent:
    """A moving mean and a moving deviation; `None` before the first value."""

    __slots__ = ("deviation", "mean")

    def __init__(self, seed: float | None = None) -> None:
        self.mean, self.deviation = seed, (seed or 0.0) / 2

    def hear(self, value: float) -> None:
        if self.mean is None:
            self.mean, self.deviation = value, value / 2
            return
        self.deviation += SPREAD * (abs(value - self.mean) - self.deviation)
        self.mean += NEWEST * (value - self.mean)

    @property
    def high(self) -> float | None:
        return None if self.mean is None else self.mean + self.deviation


class Speed:
    """The speed of one model, shared by all its callers.

    first: seconds to the first token
    each: seconds for each later token
    typical: tokens of a typical answer

    Values of earlier processes can be given as seeds.
    """

    def __init__(self, first: float | None = None, each: float | None = None, typical: float | None = None) -> None:
        self.first, self.each, self.typical = Recent(first), Recent(each), Recent(typical)
        self.whole = Recent()  # seconds of calls that came in one piece, however long

    def seconds(self, tokens: int | None) -> float | None:
        """Seconds that an answer of `tokens` takes (`None`: of typical length); `None` before the first answer."""
        typical, times = self.typical.high, []
        length = typical if tokens is None else tokens
        if length is None:
            return None
        if (first := self.first.high) is not None and (each := self.each.high) is not None:
            times.append(first + each * max(0.0, length - 1))
        if (whole := self.whole.high) is not None:
            # Waiting and writing cannot be told apart here, so shorter answers are assumed to take as long.
            times.append(whole * max(1.0, length / max(1.0, self.typical.mean or 1.0)))
        return max(times, default=None)

    def hear(self, first: float | None, total: float, tokens: int) -> None:
        """Learn from a call: seconds to its first token, if that was seen apart from the rest, and to its end."""
        if first is None or tokens < 2:
            self.whole.hear(total)
        else:
            self.first.hear(first)
            self.each.hear((total - first) / (tokens - 1))
        self.typical.hear(float(tokens))


@dataclass(frozen=True, slots=True)
class Throughput:
    """A model whose calls are timed. Failed calls are not counted."""

    model: Model
    speed: Speed

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        clock = asyncio.get_running_loop().time
        began = clock()
        first: float | None = None
        pieces, listening = 0, 0.0

        async def send_and_time(delta: Delta) -> None:
            nonlocal first, pieces, listening
            now = clock()
            pieces += 1
            if first is None:
                first = now - began
            if send is not None:
                await send(delta)
                listening += clock() - now

        answer = await self.model(request, send and send_and_time)
        total = clock() - began - listening
        self.speed.hear(first if pieces > 1 else None, total, answer.usage.output_tokens)
        return answer
