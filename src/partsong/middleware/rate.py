"""How long a call must wait for its share of what a provider allows: arithmetic, without a clock or a queue.

What a provider says is the truth about what it has counted, but calls under way may or may not be in it. So what is
left is at most what it said, and at least that less what is under way; in between, our own count stands.
"""

from partsong.model import Request, Usage
from partsong.wire.rate_limit_headers import Quota, RateLimits
from partsong.wire.tokens import estimate_tokens

Cost = tuple[float, float, float, float]  # requests, tokens, input tokens, output tokens
FREE: Cost = (0.0, 0.0, 0.0, 0.0)
ONE_REQUEST: Cost = (1.0, 0.0, 0.0, 0.0)

MINUTE = 60.0  # what a limit is for, where nobody says
# A refill is worked out from what is missing and the time until it is back. Where less than this share of the limit is
# missing, that is the difference of two rounded numbers.
TRUSTED = 0.1
TYPICAL_OUTPUT = 1_000.0  # tokens, before a model has answered
NEWEST = 0.2  # the weight of the newest answer in what is typical
SLACK = 1e-6  # so that a wait that was just long enough does not end a rounding error too early


class Bucket:
    """What may still be used of one quota; it fills steadily, or at once at the end of its window."""

    __slots__ = ("at", "capacity", "filling", "full_at", "level")

    def __init__(self, quota: Quota, now: float) -> None:
        self.at = now
        self.capacity = float(quota.limit or max(quota.remaining or 1, 1))
        self.level = self.capacity if quota.remaining is None else float(quota.remaining)
        self.filling = 0.0  # a second
        self.full_at: float | None = None
        self.hear(quota, now, 0.0)

    def hear(self, quota: Quota, now: float, under_way: float) -> None:
        """Learn what a provider said at `now`, while calls that had reserved `under_way` had not ended yet."""
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
        """Seconds from `now` until `need` is there. What is more than it ever holds is let go when it is full."""
        self.fill(now)
        missing = min(need, self.capacity) - self.level
        if missing <= SLACK * self.capacity:
            return 0.0
        if self.full_at is not None:
            return self.full_at - now
        return missing / self.filling

    def take(self, amount: float) -> None:
        """Use `amount`, or give it back if it is below 0."""
        self.level = min(self.capacity, self.level - amount)


class Lane:
    """What is known of one model at its gate: what it allows, until when it is paused, and which calls are inside."""

    __slots__ = ("buckets", "cut_at", "inside", "most", "name", "paused", "typical", "under_way")

    def __init__(self, name: str) -> None:
        self.name = name
        self.buckets: dict[int, Bucket] = {}  # by the place in a cost
        self.under_way = FREE
        self.inside = 0
        self.paused: float | None = None
        # Calls at once after a "too many", where nothing better is known: half of what was too many, then more again.
        self.most: int | None = None
        self.cut_at = 0
        self.typical = TYPICAL_OUTPUT

    @property
    def limited(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self.buckets) or self.most is not None or self.paused is not None

    @property
    def full(self) -> bool:
        """Whether a call that is inside must end first."""
        return self.most is not None and self.inside >= self.most

    def hear(self, allowance: RateLimits, now: float) -> None:
        """Learn what the provider said."""
        told = (allowance.requests, allowance.tokens, allowance.input_tokens, allowance.output_tokens)
        for place, quota in enumerate(told):
            if quota is None:
                continue
            if place in self.buckets:
                self.buckets[place].hear(quota, now, self.under_way[place])
            else:
                self.buckets[place] = Bucket(quota, now)

    def hear_length(self, tokens: int) -> None:
        """Learn how long an answer was."""
        self.typical += NEWEST * (tokens - self.typical)

    def cost(self, request: Request) -> Cost:
        """What a request will use, erring high."""
        asked, said = float(estimate_tokens(request)), float(request.sampling.max_tokens or self.typical)
        return (1.0, asked + said, asked, said)

    def wait(self, cost: Cost, now: float) -> float:
        """Seconds until a call of this cost may go."""
        wait = 0.0
        if self.paused is not None:
            if now < self.paused:
                wait = self.paused - now
            else:
                self.paused = None
        for place, bucket in self.buckets.items():
            wait = max(wait, bucket.wait(cost[place], now))
        return wait

    def wait_behind(self, ahead: Cost, cost: Cost, now: float) -> float:
        """Seconds until a call may go that must let others go first, which will use what is `ahead`."""
        wait = self.wait(cost, now)
        for place, bucket in self.buckets.items():
            if bucket.full_at is None:
                wait = max(wait, (ahead[place] + min(cost[place], bucket.capacity) - bucket.level) / bucket.filling)
        return wait

    def take(self, cost: Cost) -> None:
        """Use so much."""
        for place, bucket in self.buckets.items():
            bucket.take(cost[place])


def used_by(usage: Usage) -> Cost:
    """What a call has used. What the provider read from its own cache is free of limits, or nearly so."""
    asked = float(usage.input_tokens - usage.cached_input_tokens)
    return (1.0, asked + usage.output_tokens, asked, float(usage.output_tokens))


def total(one: Cost, other: Cost) -> Cost:
    """Both costs together."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3])


def difference(one: Cost, other: Cost) -> Cost:
    """One cost less the other."""
    return (one[0] - other[0], one[1] - other[1], one[2] - other[2], one[3] - other[3])
