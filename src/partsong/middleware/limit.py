"""Limits on the calls to a provider: how many at once, and how many requests and tokens a minute.

The number of calls at once is configured. Requests and tokens a minute are learnt for each model from the headers of
the provider's responses; until then they are not limited. The calls of one run wait in the order in which they came,
and runs take turns. So a hundred seats of one run do not keep the only seat of another waiting.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from math import inf

from partsong.errors import ModelError
from partsong.middleware.rate import FREE, ONE_REQUEST, Cost, Lane, difference, total, used_by
from partsong.model import Answer, Model, Request, Send
from partsong.wire.rate_limit_headers import RateLimits

# Seconds that a call without an end of its own waits for its turn by the rate: a day's quota that is used up does not
# come back within a question.
LONGEST_WAIT = 300.0
LONGEST_PAUSE = 3600.0  # seconds after which a provider is asked again, however much longer it wants to be left alone


@dataclass(eq=False, slots=True)
class Entry:
    """A call that was admitted.

    cost: what the call has reserved; `None` if nothing was limited
    number: the calls of a gate are numbered in the order in which they were admitted
    """

    lane: Lane
    cost: Cost | None
    number: int


@dataclass(eq=False, slots=True)
class Waiter:
    lane: Lane
    request: Request
    cost: Cost | None
    number: int
    entered: "asyncio.Future[Entry]"
    waiting: bool = True


@dataclass(eq=False, slots=True)
class Queue:
    """The calls of one run that wait for one model, and their cost together."""

    waiters: deque[Waiter] = field(default_factory=deque)
    cost: Cost = FREE


class Gate:
    """The gate that all models of a provider share. A gate belongs to the event loop of its calls."""

    def __init__(self, provider: str, concurrency: int) -> None:
        self.provider = provider
        self.free = concurrency
        self.lanes: dict[str, Lane] = {}
        self.queues: dict[str, dict[Lane, Queue]] = {}  # by run; the run whose turn is next stands first
        self.number = 0
        self.timer: asyncio.TimerHandle | None = None

    def hear(self, model: str, allowance: RateLimits) -> None:
        """Take in the rate limits that the provider has told of a model."""
        lane, now = self.lane(model), asyncio.get_running_loop().time()
        lane.hear(allowance, now)
        if self.queues:
            self.dispatch()

    def lane(self, model: str) -> Lane:
        if model not in self.lanes:
            self.lanes[model] = Lane(model)
        return self.lanes[model]

    async def enter(self, model: str, request: Request) -> Entry:
        """Wait until the call may begin. Raises `ModelError` if that would be too late."""
        lane = self.lane(model)
        if not self.queues and self.free and not lane.limited:  # nearly always
            return self.admit(lane, None)
        loop = asyncio.get_running_loop()
        cost = lane.cost(request) if lane.buckets else None
        if not self.queues and self.free and not lane.full and lane.wait(cost or FREE, loop.time()) <= 0:
            return self.admit(lane, cost)
        self.number += 1
        waiter = Waiter(lane, request, cost, self.number, loop.create_future())
        queue = self.queues.setdefault(request.terms.run, {}).setdefault(lane, Queue())
        if (late := self.late(waiter, queue.cost, loop.time())) is not None:
            self.tidy(request.terms.run, lane)
            raise late
        queue.waiters.append(waiter)
        queue.cost = total(queue.cost, cost or FREE)
        self.dispatch()
        try:
            return await waiter.entered
        except asyncio.CancelledError:
            if not waiter.entered.done() or waiter.entered.cancelled():
                self.forget(waiter)
            elif waiter.entered.exception() is None:  # it was let in at the moment at which it was cancelled
                self.leave(waiter.entered.result(), FREE)
            raise

    def admit(self, lane: Lane, cost: Cost | None) -> Entry:
        self.number += 1
        self.free -= 1
        lane.inside += 1
        if cost is not None:
            lane.take(cost)
            lane.under_way = total(lane.under_way, cost)
        return Entry(lane, cost, self.number)

    def leave(self, entry: Entry, used: Cost | None) -> None:
        """A call has ended. `used` is what it has really used; `None` if nobody knows, so that its estimate stands."""
        lane, cost = entry.lane, entry.cost
        self.free += 1
        lane.inside -= 1
        if cost is not None:
            lane.under_way = difference(lane.under_way, cost)
            if used is not None:
                lane.take(difference(used, cost))
        if self.queues:
            self.dispatch()

    def slow(self, entry: Entry, retry_after: float | None) -> None:
        """The provider said "too many": nobody runs into it again for the time that it asks for."""
        lane = entry.lane
        if entry.number > lane.cut_at:  # those who had started before are no further sign
            lane.most, lane.cut_at = max(1, lane.inside // 2), self.number
        if retry_after:
            now = asyncio.get_running_loop().time()
            lane.paused = max(lane.paused or now, now + min(retry_after, LONGEST_PAUSE))
            for run in list(self.queues):
                self.give_up(run, lane, now)

    def quicken(self, entry: Entry) -> None:
        """A call has succeeded, so that one more may be tried at once."""
        lane = entry.lane
        if lane.most is not None:
            lane.most += 1
            if lane.most > lane.inside + self.free:
                lane.most = None

    def dispatch(self) -> None:
        """Let in who may go, one of each run in turn, and wake up again when the next may."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        loop = asyncio.get_running_loop()
        now, blocked, going = loop.time(), dict[Lane, float](), True
        while going and self.free:
            going = False
            for run in list(self.queues):
                if not self.free:
                    break
                if (waiter := self.first(run, blocked, now)) is not None:
                    self.pop(run, waiter)
                    if run in self.queues:
                        self.queues[run] = self.queues.pop(run)  # its next turn comes after the others'
                    waiter.entered.set_result(self.admit(waiter.lane, waiter.cost))
                    going = True
        wait = min(blocked.values(), default=inf)
        if wait < inf and self.free and self.queues:
            self.timer = loop.call_at(now + wait, self.dispatch)

    def first(self, run: str, blocked: dict[Lane, float], now: float) -> Waiter | None:
        """Who of a run may go now. A lane that is `blocked` for one stays so for all, or who needs much never goes."""
        lanes = self.queues[run]
        while heads := [queue.waiters[0] for lane, queue in lanes.items() if lane not in blocked]:
            waiter = min(heads, key=lambda waiter: waiter.number)
            lane = waiter.lane
            if waiter.entered.done():  # cancelled, and about to leave
                self.pop(run, waiter)
                continue
            if lane.buckets and waiter.cost is None:  # nothing was known when it came
                waiter.cost = lane.cost(waiter.request)
                lanes[lane].cost = total(lanes[lane].cost, waiter.cost)
            wait = inf if lane.full else lane.wait(waiter.cost or FREE, now)
            if wait <= 0:
                return waiter
            if (late := self.late(waiter, FREE, now)) is not None:
                self.pop(run, waiter)
                waiter.entered.set_exception(late)
            else:
                blocked[lane] = wait
        return None

    def late(self, waiter: Waiter, ahead: Cost, now: float) -> ModelError | None:
        """Why there is no sense in waiting, if there is none. `ahead` is what those will use who go before it."""
        lane, terms = waiter.lane, waiter.request.terms
        if not lane.limited:
            return None
        cost = waiter.cost or FREE
        if terms.until is None:
            wait, left = lane.wait(cost, now), LONGEST_WAIT
        else:
            wait, left = lane.wait_behind(ahead, cost, now), max(0.0, terms.until - now)
        if wait <= left:
            return None
        name = f"{self.provider}:{lane.name}"
        return ModelError(
            f"the rate limit of {name} would have kept it waiting for {wait:.0f} s, but it had {left:.0f} s",
            "rate",
            retry_after=wait,
        )

    def give_up(self, run: str, lane: Lane, now: float) -> None:
        """Let those go who would now wait too long."""
        queue = self.queues[run].get(lane)
        for waiter in list(queue.waiters) if queue is not None else ():
            if not waiter.entered.done() and (late := self.late(waiter, FREE, now)) is not None:
                self.pop(run, waiter)
                waiter.entered.set_exception(late)

    def forget(self, waiter: Waiter) -> None:
        if not waiter.waiting:
            return
        run, lane = waiter.request.terms.run, waiter.lane
        first = self.queues[run][lane].waiters[0] is waiter
        self.pop(run, waiter)
        if first:  # it may have been what the others waited for
            self.dispatch()

    def pop(self, run: str, waiter: Waiter) -> None:
        queue = self.queues[run][waiter.lane]
        queue.waiters.remove(waiter)
        waiter.waiting = False
        queue.cost = difference(queue.cost, waiter.cost or FREE)
        self.tidy(run, waiter.lane)

    def tidy(self, run: str, lane: Lane) -> None:
        lanes = self.queues[run]
        if not lanes[lane].waiters:
            del lanes[lane]
        if not lanes:
            del self.queues[run]


@dataclass(frozen=True, slots=True)
class Limit:
    """A model behind the gate of its provider, which knows it by its `name`."""

    model: Model
    name: str
    gate: Gate

    async def __call__(self, request: Request, send: Send | None) -> Answer:
        gate = self.gate
        entry = await gate.enter(self.name, request)
        used: Cost | None = None
        try:
            answer = await self.model(request, send)
            used = used_by(answer.usage)
            entry.lane.hear_length(answer.usage.output_tokens)
            gate.quicken(entry)
            return answer
        except ModelError as error:
            if error.usage is not None:
                used = used_by(error.usage)
            elif error.unpaid:
                used = ONE_REQUEST
            if error.cause == "rate":
                gate.slow(entry, error.retry_after)
            raise
        finally:
            gate.leave(entry, used)
