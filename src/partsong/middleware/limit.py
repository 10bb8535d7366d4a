"""Limits on the calls to a provider: how many at once, and how many requests and tokens a minute.

The number of calls at once is configured. Requests and tokens a minute are learnt for each model from the headers of
the provider's responses, and not limited before. Waiting calls of one run are admitted in the order of their arrival,
and runs take turns. So a hundred seats of one run do not delay the only seat of another run.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from math import inf

from partsong.errors import ModelError
from partsong.middleware.rate import FREE, ONE_REQUEST, Cost, Lane, difference, total, used_by
from partsong.model import Answer, Model, Request, Send
from partsong.wire.rate_limit_headers import RateLimits

# Seconds that a call without a deadline waits for the rate limit at most. A daily quota that is used up does not come
# back while a user waits for an answer.
LONGEST_WAIT = 300.0
LONGEST_PAUSE = 3600.0  # seconds that calls pause at most, even if the provider asks for a longer pause


@dataclass(eq=False, slots=True)
class Entry:
    """A call that was admitted.

    lane: the limits of the call's model
    cost: requests and tokens that the call has reserved; `None` if the model had no limits
    number: increases with each call that arrives at the gate or is admitted, so that it tells which call was earlier
    """

    lane: Lane
    cost: Cost | None
    number: int


@dataclass(eq=False, slots=True)
class Waiter:
    """A call that waits.

    lane: the limits of the call's model
    cost: estimate of what the call will use; `None` if the model had no limits on arrival
    number: order of arrival
    entered: done when the call is admitted or has failed
    waiting: whether the call is still in its queue
    """

    lane: Lane
    request: Request
    cost: Cost | None
    number: int
    entered: "asyncio.Future[Entry]"
    waiting: bool = True


@dataclass(eq=False, slots=True)
class Queue:
    """The calls of one run that wait for one model.

    waiters: the calls in the order of their arrival
    cost: sum of their costs
    """

    waiters: deque[Waiter] = field(default_factory=deque)
    cost: Cost = FREE


class Gate:
    """The concurrency and rate limits of one provider, shared by all its models and used on one event loop.

    provider: the provider's name, for errors
    free: calls that may still begin at once; at first the configured concurrency
    lanes: limits of each model, by its name at the provider
    queues: waiting calls by run and lane; the run whose turn is next is first
    number: last number given to a call
    timer: calls `dispatch` when the next call may be admitted; `None` if no call waits for a time
    """

    def __init__(self, provider: str, concurrency: int) -> None:
        self.provider = provider
        self.free = concurrency
        self.lanes: dict[str, Lane] = {}
        self.queues: dict[str, dict[Lane, Queue]] = {}
        self.number = 0
        self.timer: asyncio.TimerHandle | None = None

    def hear(self, model: str, allowance: RateLimits) -> None:
        """Update the limits of a model from the rate limits in the headers of a response."""
        lane, now = self.lane(model), asyncio.get_running_loop().time()
        lane.hear(allowance, now)
        if self.queues:
            self.dispatch()

    def lane(self, model: str) -> Lane:
        """Return the limits of a model, which are created at its first call."""
        if model not in self.lanes:
            self.lanes[model] = Lane(model)
        return self.lanes[model]

    async def enter(self, model: str, request: Request) -> Entry:
        """Wait until the call may begin.

        model: the model's name at the provider

        Raises `ModelError` with the cause "rate" if the call would wait beyond its deadline, or for more than
        `LONGEST_WAIT` without a deadline.
        """
        lane = self.lane(model)
        if not self.queues and self.free and not lane.limited:  # the fast path, which nearly all calls take
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
            elif waiter.entered.exception() is None:  # the call was admitted just before it was cancelled
                self.leave(waiter.entered.result(), FREE)
            raise

    def admit(self, lane: Lane, cost: Cost | None) -> Entry:
        """Count a call as open, and reserve its cost."""
        self.number += 1
        self.free -= 1
        lane.inside += 1
        if cost is not None:
            lane.take(cost)
            lane.under_way = total(lane.under_way, cost)
        return Entry(lane, cost, self.number)

    def leave(self, entry: Entry, used: Cost | None) -> None:
        """End a call, and admit calls that wait.

        used: requests and tokens that the call has used; `None` if unknown, so that its reservation counts as used
        """
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
        """Reduce the calls to a model after its provider has refused one for the rate limit.

        Half of the model's open calls may then be open at once, and calls pause.

        retry_after: seconds that the provider asks the client to wait; `None` if not given
        """
        lane = entry.lane
        if entry.number > lane.cut_at:  # a refusal of a call from before the last reduction shows nothing new
            lane.most, lane.cut_at = max(1, lane.inside // 2), self.number
        if retry_after:
            now = asyncio.get_running_loop().time()
            lane.paused = max(lane.paused or now, now + min(retry_after, LONGEST_PAUSE))
            for run in list(self.queues):
                self.give_up(run, lane, now)

    def quicken(self, entry: Entry) -> None:
        """Allow one more call at once to a model whose calls were reduced, because a call has succeeded."""
        lane = entry.lane
        if lane.most is not None:
            lane.most += 1
            if lane.most > lane.inside + self.free:
                lane.most = None

    def dispatch(self) -> None:
        """Admit all waiting calls that may begin, one of each run in turn, and set a timer for the next call."""
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
                        self.queues[run] = self.queues.pop(run)  # the run moves to the end: the others are next
                    waiter.entered.set_result(self.admit(waiter.lane, waiter.cost))
                    going = True
        wait = min(blocked.values(), default=inf)
        if wait < inf and self.free and self.queues:
            self.timer = loop.call_at(now + wait, self.dispatch)

    def first(self, run: str, blocked: dict[Lane, float], now: float) -> Waiter | None:
        """Return the earliest call of a run that may begin now; `None` if no call of the run may.

        blocked: lanes for whose limits a call already waits, with the seconds to wait. No later call of such a lane
            may begin, because small calls would otherwise delay a large one forever. New blocked lanes are added
        now: time by the loop's clock

        Calls that would wait too long fail.
        """
        lanes = self.queues[run]
        while heads := [queue.waiters[0] for lane, queue in lanes.items() if lane not in blocked]:
            waiter = min(heads, key=lambda waiter: waiter.number)
            lane = waiter.lane
            if waiter.entered.done():  # the call was cancelled, and its task has not run since
                self.pop(run, waiter)
                continue
            if lane.buckets and waiter.cost is None:  # no limits were known when the call arrived
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
        """Return the error of a call that would wait too long; `None` if the call may wait.

        ahead: cost of the calls that are admitted before this one
        now: time by the loop's clock
        """
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
        """Let the calls of a run to a model fail that would wait too long from now on."""
        queue = self.queues[run].get(lane)
        for waiter in list(queue.waiters) if queue is not None else ():
            if not waiter.entered.done() and (late := self.late(waiter, FREE, now)) is not None:
                self.pop(run, waiter)
                waiter.entered.set_exception(late)

    def forget(self, waiter: Waiter) -> None:
        """Remove a cancelled call from its queue."""
        if not waiter.waiting:
            return
        run, lane = waiter.request.terms.run, waiter.lane
        first = self.queues[run][lane].waiters[0] is waiter
        self.pop(run, waiter)
        if first:  # other calls may have waited because this one was first
            self.dispatch()

    def pop(self, run: str, waiter: Waiter) -> None:
        """Remove a call from its queue."""
        queue = self.queues[run][waiter.lane]
        queue.waiters.remove(waiter)
        waiter.waiting = False
        queue.cost = difference(queue.cost, waiter.cost or FREE)
        self.tidy(run, waiter.lane)

    def tidy(self, run: str, lane: Lane) -> None:
        """Delete the queue of a run and a lane if it is empty."""
        lanes = self.queues[run]
        if not lanes[lane].waiters:
            del lanes[lane]
        if not lanes:
            del self.queues[run]


@dataclass(frozen=True, slots=True)
class Limit:
    """A model whose calls wait for the limits of its provider.

    name: the model's name at the provider
    gate: the provider's limits
    """

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
