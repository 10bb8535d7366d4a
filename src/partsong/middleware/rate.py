"""How long a call must wait for a provider's rate limits: arithmetic, without a clock or a queue.

A provider tells how much of a quota remains. Calls under way may or may not be counted in that number. So the true
level is at most the told number, and at least the told number less what the open calls have reserved. Between the two,
our own count stands.
"""

from partsong.model import Request, Usage
from partsong.wire.rate_limit_headers import Quota, RateLimits
from partsong.wire.tokens import estimate_tokens

Cost = tuple[float, float, float, float]  # requests, tokens, input tokens, output tokens
FREE: Cost = (0.0, 0.0, 0.0, 0.0)
ONE_REQUEST: Cost = (1.0, 0.0, 0.0, 0.0)

MINUTE = 60.0  # what a limit is for, where nobody says
# The refill rate is computed from the missing amount and the time until the quota is full. If less than this share of
# the limit is missing, the result is the difference of two rounded numbers and tells little.
TRUSTED = 0.1
TYPICAL_OUTPUT = 1_000.0  # tokens, before a model has answered
NEWEST = 0.2  # the weight of the newest answer in what is typical
SLACK = 1e-6  # so that a wait that was just long enough does not end a rounding error too early


class Bucket:
    """The level of one quota. A bucket fills steadily, or all at once at the end of its window."""

    __slots__ = ("at", "capacity", "filling", "full_at", "level")

    def __init__(self, quota: Quota, now: float) -> None:
        self.at = now
        self.capacity = float(quota.limit or max(quota.remaining or 1, 1))
        self.level = self.capacity if quota.remaining is None else float(quota.remaining)
        self.filling = 0.0  # a second
        self.full_at: float | None = None
        self.hear(quota, now, 0.0)

    def hear(self, quota: Quota, now: float, under_way: float) -> None:
        """Take in what the provider told at `now`. `under_way` is what the open calls have reserved."""
        self.fill(now)
        remaining = quota.remaining
        if quota.limit is not None:
            self.capacity = float(quota.limit)
        elif remaining is not None:
            self.capacity = max(self.capacity, float(remaining))
        if remaining is not None:
            self.level = min(max(self.level, remaining - under_way), float(remaining))
        self.level = min(self.level, self.capacity)
        if quota.seconds is not None and not quota.steady and remaining is not None:
            self.full_at = now + quota.seconds
            self.filling = self.capacity / (quota.window or max(quota.seconds, MINUTE))  # from then on
            return
        self.full_at = None
        self.filling = self.capacity / (quota.window or MINUTE)
        if quota.seconds and remaining is not None and (missing := self.capacity - remaining) > 0:
            measured = missing / quota.seconds
            if measured > self.filling or missing >= self.capacity * TRUSTED:
                self.filling = measured

    def fill(self, now: float) -> None:
        """Bring the level up to `now`."""
        if self.full_at is None:
            self.level = min(self.capacity, self.level + self.filling * max(0.0, now - self.at))
        elif now >= self.full_at:
            self.level, self.full_at = self.capacity, None
        self.at = now

    def wait(self, need: float, now: float) -> float:
        """Seconds from `now` until the level reaches `need`, or the bucket is full if `need` exceeds its capacity."""
        self.fill(now)
        missing = min(need, self.capacity) - self.level
        if missing <= SLACK * self.capacity:
            return 0.0
        if self.full_at is not None:
            return self.full_at - now
        return missing / self.filling

    def take(self, amount: float) -> None:
        """Use `amount`; a negative amount is given back."""
        self.level = min(self.capacity, self.level - amount)


class Lane:
    """The limits of one model at its provider's gate.

    buckets: the quotas, by their index in a `Cost`
    under_way: what the open calls have reserved
    inside: number of open calls
    paused: when calls may begin again, by the loop's clock; `None` for now
    most: how many calls may be open at once, after the provider has said "too many"; `None` for no limit
    cut_at: number of the call that was admitted last when `most` was set
    typical: tokens of a typical answer
    """

    __slots__ = ("buckets", "cut_at", "inside", "most", "name", "paused", "typical", "under_way")

    def __init__(self, name: str) -> None:
        self.name = name
        self.buckets: dict[int, Bucket] = {}  # by their index in a cost
        self.under_way = FREE
        self.inside = 0
        self.paused: float | None = None
        # Calls at once after a "too many", where nothing better is known: half of what was too many, then more again.
        self.most: int | None = None
        self.cut_at = 0
        self.typical = TYPICAL_OUTPUT

    @property
    def limited(self) -> bool:
        """Whether a call may have to wait at all."""
        return bool(self.buckets) or self.most is not None or self.paused is not None

    @property
    def full(self) -> bool:
        """Whether an open call must end before another begins."""
        return self.most is not None and self.inside >= self.most

    def hear(self, allowance: RateLimits, now: float) -> None:
        """Take in the rate limits that the provider told."""
        told = (allowance.requests, allowance.tokens, allowance.input_tokens, allowance.output_tokens)
        for index, quota in enumerate(told):
            if quota is None:
                continue
            if index in self.buckets:
                self.buckets[index].hear(quota, now, self.under_way[index])
            else:
                self.buckets[index] = Bucket(quota, now)

    def hear_length(self, tokens: int) -> None:
        """Take in the length of an answer."""
        self.typical += NEWEST * (tokens - self.typical)

    def cost(self, request: Request) -> Cost:
        """An estimate of what a request will use, which errs high."""
        asked, said = float(estimate_tokens(request)), float(request.sampling.max_tokens or self.typical)
        return (1.0, asked + said, asked, said)

    def wait(self, cost: Cost, now: float) -> float:
        """Seconds until a call of this cost may begin."""
        wait = 0.0
        if self.paused is not None:
            if now < self.paused:
                wait = self.paused - now
            else:
                self.paused = None
        for index, bucket in self.buckets.items():
            wait = max(wait, bucket.wait(cost[index], now))
        return wait

    def wait_behind(self, ahead: Cost, cost: Cost, now: float) -> float:
        """Seconds until a call may begin after others, which will use `ahead`."""
        wait = self.wait(cost, now)
        for index, bucket in self.buckets.items():
            if bucket.full_at is None:
                wait = max(wait, (ahead[index] + min(cost[index], bucket.capacity) - bucket.level) / bucket.filling)
        return wait

    def take(self, cost: Cost) -> None:
        """Reserve this cost in every bucket."""
        for index, bucket in self.buckets.items():
            bucket.take(cost[index])


def used_by(usage: Usage) -> Cost:
    """The cost of a call that has ended. Providers do not count cached input, or count little of it."""
    asked = float(usage.input_tokens - usage.cached_input_tokens)
    return (1.0, asked + usage.output_tokens, asked, float(usage.output_tokens))


def total(one: Cost, other: Cost) -> Cost:
    """The sum of two costs."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def difference(one: Cost, other: Cost) -> Cost:
    """The first cost less the second."""
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])
