"""Computes how long a call must wait for a provider's rate limits. There is no clock and no queue here.

A response reports how much of a quota remains, and this number may or may not include the open calls. So the true level
is at most the reported number, and at least the reported number minus the reservations of open calls. Within these
bounds, our own count is used.

Times are in seconds by the event loop's clock; the caller passes the present time as `now`.
"""

from partsong.model import Request, Usage
from partsong.wire.rate_limit_headers import Quota, RateLimits
from partsong.wire.tokens import estimate_tokens

Cost = tuple[float, float, float, float]  # requests, tokens, input tokens, output tokens
FREE: Cost = (0.0, 0.0, 0.0, 0.0)
ONE_REQUEST: Cost = (1.0, 0.0, 0.0, 0.0)

MINUTE = 60.0  # seconds; the window of a limit whose header names none
# The refill rate is computed from the missing amount and the time until the quota is full. If less than this share of
# the limit is missing, the result is the difference of two rounded numbers and tells little.
TRUSTED = 0.1
TYPICAL_OUTPUT = 1_000.0  # tokens of a typical answer, before a model has answered
NEWEST = 0.2  # weight of the newest answer in the moving mean of answer lengths
SLACK = 1e-6  # share of the capacity that may be missing, so that rounding errors do not prolong a wait


class Bucket:
    """What remains of one quota, in requests or tokens. It refills continuously, or all at once at the end of a window.

    at: time at which `level` was computed
    capacity: the quota's limit
    level: requests or tokens that may be used now
    filling: requests or tokens that refill in a second
    full_at: time at which the quota refills all at once; `None` if it refills continuously
    """

    __slots__ = ("at", "capacity", "filling", "full_at", "level")

    def __init__(self, quota: Quota, now: float) -> None:
        self.at = now
        self.capacity = float(quota.limit or max(quota.remaining or 1, 1))
        self.level = self.capacity if quota.remaining is None else float(quota.remaining)
        self.filling = 0.0
        self.full_at: float | None = None
        self.hear(quota, now, 0.0)

    def hear(self, quota: Quota, now: float, under_way: float) -> None:
        """Update the bucket from the quota in a response. `under_way`: requests or tokens reserved by open calls."""
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
            self.filling = self.capacity / (quota.window or max(quota.seconds, MINUTE))  # used after `full_at`
            return
        self.full_at = None
        self.filling = self.capacity / (quota.window or MINUTE)
        if quota.seconds and remaining is not None and (missing := self.capacity - remaining) > 0:
            measured = missing / quota.seconds
            if measured > self.filling or missing >= self.capacity * TRUSTED:
                self.filling = measured

    def fill(self, now: float) -> None:
        """Add to the level what has refilled up to `now`."""
        if self.full_at is None:
            self.level = min(self.capacity, self.level + self.filling * max(0.0, now - self.at))
        elif now >= self.full_at:
            self.level, self.full_at = self.capacity, None
        self.at = now

    def wait(self, need: float, now: float) -> float:
        """Return the seconds until the level reaches `need`, or the capacity if `need` exceeds the capacity."""
        self.fill(now)
        missing = min(need, self.capacity) - self.level
        if missing <= SLACK * self.capacity:
            return 0.0
        if self.full_at is not None:
            return self.full_at - now
        return missing / self.filling

    def take(self, amount: float) -> None:
        """Subtract `amount` from the level; a negative amount is added."""
        self.level = min(self.capacity, self.level - amount)


class Lane:
    """The limits of one model.

    name: the model's name at the provider
    buckets: the known quotas, by their index in a `Cost`
    under_way: sum of the costs that open calls have reserved
    inside: number of open calls
    paused: when calls may begin again; `None` if they may begin now
    most: calls that may be open at once after the provider has refused one for its rate limit; `None` for no limit
    cut_at: last number that the gate had given to a call when `most` was set
    typical: moving mean of the tokens of an answer
    """

    __slots__ = ("buckets", "cut_at", "inside", "most", "name", "paused", "typical", "under_way")

    def __init__(self, name: str) -> None:
        self.name = name
        self.buckets: dict[int, Bucket] = {}
        self.under_way = FREE
        self.inside = 0
        self.paused: float | None = None
        self.most: int | None = None
        self.cut_at = 0
        self.typical = TYPICAL_OUTPUT

    @property
    def limited(self) -> bool:
        """Whether there is any limit for which a call may have to wait."""
        return bool(self.buckets) or self.most is not None or self.paused is not None

    @property
    def full(self) -> bool:
        """Whether an open call must end before another may begin."""
        return self.most is not None and self.inside >= self.most

    def hear(self, allowance: RateLimits, now: float) -> None:
        """Update the buckets from the rate limits in a response."""
        told = (allowance.requests, allowance.tokens, allowance.input_tokens, allowance.output_tokens)
        for index, quota in enumerate(told):
            if quota is None:
                continue
            if index in self.buckets:
                self.buckets[index].hear(quota, now, self.under_way[index])
            else:
                self.buckets[index] = Bucket(quota, now)

    def hear_length(self, tokens: int) -> None:
        """Update the typical length of answers. `tokens`: output tokens of an answer."""
        self.typical += NEWEST * (tokens - self.typical)

    def cost(self, request: Request) -> Cost:
        """Return the estimated cost of a request: one request, input tokens that err high, and output tokens.

        The output is the request's `max_tokens`, or the typical length of the model's answers.
        """
        asked, said = float(estimate_tokens(request)), float(request.sampling.max_tokens or self.typical)
        return (1.0, asked + said, asked, said)

    def wait(self, cost: Cost, now: float) -> float:
        """Return the seconds until the buckets and the pause allow a call of this cost."""
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
        """Return the seconds until a call of this cost may begin after other waiting calls.

        ahead: total cost of these calls
        """
        wait = self.wait(cost, now)
        for index, bucket in self.buckets.items():
            if bucket.full_at is None:
                wait = max(wait, (ahead[index] + min(cost[index], bucket.capacity) - bucket.level) / bucket.filling)
        return wait

    def take(self, cost: Cost) -> None:
        """Subtract this cost from the buckets; a negative cost is added."""
        for index, bucket in self.buckets.items():
            bucket.take(cost[index])


def used_by(usage: Usage) -> Cost:
    """Return the cost of a call that has ended, without cached input, which rate limits count little or not at all."""
    asked = float(usage.input_tokens - usage.cached_input_tokens)
    return (1.0, asked + usage.output_tokens, asked, float(usage.output_tokens))


def total(one: Cost, other: Cost) -> Cost:
    """Return the sum of two costs, field by field."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def difference(one: Cost, other: Cost) -> Cost:
    """Return the first cost minus the second, field by field."""
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])
