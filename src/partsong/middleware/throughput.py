"""Measures the recent speed of a model, and estimates the time of its next answer.

Means and deviations are exponentially weighted, as in TCP's estimate of round-trip times, so each measure needs two
numbers. Estimates err high, because they are used to leave enough time. Time that a listener takes is not counted.
"""

import asyncio
from dataclasses import dataclass

from partsong.model import Answer, Delta, Model, Request, Send

NEWEST = 0.2  # weight of the newest value in the mean
SPREAD = 0.25  # weight of the newest value in the deviation


class Recent:
    """Moving mean and moving mean deviation of a measure. The mean is `None` before the first value."""

    __slots__ = ("deviation", "mean")

    def __init__(self, seed: float | None = None) -> None:
        """Start with `seed` as the mean; without a value by default."""
        self.mean, self.deviation = seed, (seed or 0.0) / 2

    def hear(self, value: float) -> None:
        """Add a value."""
        if self.mean is None:
            self.mean, self.deviation = value, value / 2
            return
        self.deviation += SPREAD * (abs(value - self.mean) - self.deviation)
        self.mean += NEWEST * (value - self.mean)

    @property
    def high(self) -> float | None:
        """The mean plus the deviation; `None` before the first value."""
        return None if self.mean is None else self.mean + self.deviation


class Speed:
    """The measured speed of one model, shared by all its callers.

    first: seconds to the first token
    each: seconds for each later token
    typical: output tokens of an answer
    whole: seconds of calls whose first token was not seen apart from the rest
    """

    def __init__(self, first: float | None = None, each: float | None = None, typical: float | None = None) -> None:
        """Start with values that an earlier process has measured; without values by default."""
        self.first, self.each, self.typical = Recent(first), Recent(each), Recent(typical)
        self.whole = Recent()

    def seconds(self, tokens: int | None) -> float | None:
        """Return the estimated seconds of an answer; `None` before the first answer. The estimate errs high.

        tokens: output tokens of the answer; `None` for a typical answer
        """
        typical, times = self.typical.high, []
        length = typical if tokens is None else tokens
        if length is None:
            return None
        if (first := self.first.high) is not None and (each := self.each.high) is not None:
            times.append(first + each * max(0.0, length - 1))
        if (whole := self.whole.high) is not None:
            # The time to the first token is unknown, so a short answer is assumed to take as long as a typical one.
            times.append(whole * max(1.0, length / max(1.0, self.typical.mean or 1.0)))
        return max(times, default=None)

    def hear(self, first: float | None, total: float, tokens: int) -> None:
        """Add a call.

        first: seconds to the first token; `None` if the answer came in one piece
        total: seconds to the end
        tokens: output tokens
        """
        if first is None or tokens < 2:
            self.whole.hear(total)
        else:
            self.first.hear(first)
            self.each.hear((total - first) / (tokens - 1))
        self.typical.hear(float(tokens))


@dataclass(frozen=True, slots=True)
class Throughput:
    """A model whose successful calls are measured in `speed`."""

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
