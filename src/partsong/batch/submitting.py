"""Makes the calls of a round through the providers' Batch APIs, which cost half and end within a day.

A job is written down before it is submitted, and again when the provider has named it. If the process dies in between,
the next start looks for the job at the provider. So at most one job is submitted twice. A job goes on when the process
ends, and the next start collects its results.

Calls that have expired are submitted again. A call that a provider refuses in a job is asked once more, as a single
call, which learns what the model does not accept. Models whose API has no jobs are asked call by call.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import IO, TypeVar

from msgspec.structs import replace

from partsong.batch.calls import Job, Wanted
from partsong.batch.making import Making, StoppedError, keep
from partsong.batch.rounds import Round
from partsong.errors import HOPELESS, ModelError
from partsong.model import Answer, Model, Request
from partsong.model_info import ModelInfo
from partsong.money.budget import known, provider_of
from partsong.money.committing import Hold
from partsong.providers.batches import Jobs

T = TypeVar("T")
NOTHING = Decimal(0)
HALF = Decimal("0.5")
MOST_CALLS = 10_000  # calls of a job: as many are submitted twice, at most
ROUNDS = 3  # times that the calls of a model are submitted before those that are left are asked one by one
SOON, LATER = 1.0, 60.0  # seconds between two looks at a job: the first, and the longest
FAULTS = 20  # looks in a row that may fail before the batch stops, and leaves its jobs to the next start
NO_JOBS = (404, 405, 501)  # statuses of servers without jobs
UNANSWERED = ("network", "timeout", "truncated", "server")  # causes after which the provider may have the job
FIRST_JOB = 1 << 60  # numbers of holds, beside those of single calls

# Opens the jobs of the model with this id: the jobs, the model for single calls, and what is known of it. `None` in
# place of the jobs if the model has none.
OpeningJobs = Callable[[str], AbstractAsyncContextManager[tuple[Jobs | None, Model, ModelInfo]]]


@dataclass(slots=True)
class UnderWay:
    """The money of a job: the most that it costs, the hold of the day's money, and what its results have cost."""

    worst: Decimal
    hold: Hold | None
    spent: Decimal = NOTHING


class Submitting:
    """Makes calls through Batch APIs.

    making: makes single calls
    opening: opens the jobs of a model
    say: tells people what happens
    """

    def __init__(
        self,
        making: Making,
        opening: OpeningJobs,
        say: Callable[[str], None],
    ) -> None:
        self.making, self.opening, self.say = making, opening, say
        self.calls, self.money = making.calls, making.money
        self._under_way: dict[int, UnderWay] = {}  # the jobs of this process, by number
        self._without: set[str] = set()  # models whose servers turned out to have no jobs

    async def __call__(self, current: Round) -> None:
        """Make all calls that wait. Raises `StoppedError` if no further call can be made."""
        await self._recover()
        for _ in range(ROUNDS):
            for model in list(self.calls.models()):
                await self._submit_all(model, current)
            await self._collect_all(current)
            if not self.calls.models():
                return
        await self.making(current)

    async def _recover(self) -> None:
        """Find the jobs of an earlier start at their providers, and hold their money again."""
        for job in self.calls.jobs():
            async with self.opening(job.model) as (jobs, _, info):
                if jobs is None:
                    self.calls.end_job(job)
                    continue
                if job.name is None:
                    names = [other.name for other in self.calls.jobs() if other.name is not None]
                    found = await patiently(partial(jobs.find, job.label, job.began, job.size, names))
                    if found is None:
                        self.calls.end_job(job)
                        continue
                    self.say(f"a job of {job.model} that was submitted without an answer was found again")
                    self.calls.name_job(job, found)
                if job.number not in self._under_way:
                    worst = sum((self.making.worst(info, wanted) for wanted in self.calls.in_job(job)), NOTHING)
                    await self._begin(job, worst)

    async def _submit_all(self, model: str, current: Round) -> None:
        """Submit the calls of a model that wait, in as many jobs as they need and the money pays for."""
        async with self.opening(model) as (jobs, asked, info):
            waiting = self.calls.waiting(model)
            if jobs is None or model in self._without:
                return
            first = next(waiting, None)
            if first is not None:
                # One single call tells what the model does not accept, before thousands are refused.
                await self.making.make(asked, info, first)
                current.made += 1
            while (chunk := self._chunk(jobs, info, model)) is not None:
                keys, worst, lines, size = chunk
                with lines:
                    if self.money.room < worst:
                        if self._under_way:
                            return  # the jobs under way give back what they do not spend
                        raise StoppedError("the money that is left does not pay for the next call; allow more")
                    if not await self._submit(jobs, model, keys, worst, lines, size):
                        return

    def _chunk(self, jobs: Jobs, info: ModelInfo, model: str) -> tuple[list[bytes], Decimal, IO[bytes], int] | None:
        """The next calls of a model, as many as a job may have and the money pays for; `None` if none waits."""
        lines: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the caller
        keys: list[bytes] = []
        worst, size = NOTHING, 0
        for wanted in self.calls.waiting(model):
            line = jobs.line((wanted.key.hex(), wanted.request)) + b"\n"
            dear = self.making.worst(info, wanted)
            if len(keys) >= min(MOST_CALLS, jobs.most_calls) or size + len(line) > jobs.most_bytes:
                break
            if keys and worst + dear > self.money.room:
                break
            keys.append(wanted.key)
            worst, size = worst + dear, size + len(line)
            lines.write(line)
        if not keys:
            lines.close()
            return None
        lines.seek(0)
        return keys, worst, lines, size

    async def _submit(
        self, jobs: Jobs, model: str, keys: list[bytes], worst: Decimal, lines: IO[bytes], size: int
    ) -> bool:
        """Submit a job. Returns whether the provider has it; if not, its calls wait for the next round."""
        job = self.calls.begin_job(model, f"partsong-{secrets.token_hex(8)}", time.time(), keys)
        try:
            await self._begin(job, worst)
        except StoppedError:
            self.calls.end_job(job)
            raise
        name: str | None = None
        try:
            name = await jobs.submit(job.label, lines, size)
        except ModelError as error:
            if error.status in NO_JOBS:
                self.say(f"the server of {model} takes no jobs ({error}); its calls are made one by one")
                self._without.add(model)
            elif error.cause in UNANSWERED:
                name = await patiently(partial(jobs.find, job.label, job.began, job.size, []))
            else:
                await self._end(job)
                raise StoppedError(f"the provider refuses a job of {model}: {error}") from None
        if name is None:
            await self._end(job)
            return False
        self.calls.name_job(job, name)
        return True

    async def _begin(self, job: Job, worst: Decimal) -> None:
        """Hold the money of a job. Raises `StoppedError` if it is not there."""
        hold = await self.money.take(FIRST_JOB + job.number, provider_of(job.model), worst)
        self._under_way[job.number] = UnderWay(worst, hold)

    async def _collect_all(self, current: Round) -> None:
        """Wait for the jobs under way, and keep their results."""
        pause = SOON
        while open_jobs := self.calls.jobs():
            ended = False
            for job in open_jobs:
                async with self.opening(job.model) as (jobs, asked, info):
                    assert jobs is not None, "only jobs that their model has are under way"
                    assert job.name is not None, "only named jobs are under way"
                    state = await patiently(partial(jobs.state, job.name))
                    if not state.ended:
                        continue
                    ended = True
                    if state.refused:
                        await self._end(job)
                        raise StoppedError(f"the provider refuses a job of {job.model}: {state.refused}")
                    await patiently(partial(self._collect, jobs, job, asked, info, current))
            if not ended:
                await asyncio.sleep(pause)
                pause = min(LATER, pause * 1.5)

    async def _collect(self, jobs: Jobs, job: Job, asked: Model, info: ModelInfo, current: Round) -> None:
        """Keep the results of a job that has ended."""
        assert job.name is not None, "an ended job has a name"
        refused: dict[bytes, Wanted] = {}
        rate, count = HALF if jobs.half else Decimal(1), self._under_way[job.number]
        async for identity, result in jobs.results(job.name, self._request):
            wanted = self.calls.wants(bytes.fromhex(identity))
            assert wanted is not None, "results of other calls are left out"
            if isinstance(result, Answer):
                answer = priced(result, info, rate)
                count.spent += known(answer.usage) or NOTHING
                await keep(self.calls, self.making.store, wanted, answer, job.began, 0.0)
                current.made += 1
            elif result.cause in HOPELESS:
                await self._end(job)
                raise StoppedError(f"no other call of {job.model} would fare better: {result}")
            else:
                refused[wanted.key] = wanted
        left = await self._end(job)
        for wanted in refused.values():  # learns from the refusal, or tells how the call fails
            await self.making.make(asked, info, wanted)
            current.made += 1
        if left > len(refused):
            self.say(f"{left - len(refused):,} of {job.size:,} calls in a job of {job.model} have expired: asked again")

    async def _end(self, job: Job) -> int:
        """End a job, and give back what it has not spent. Returns how many of its calls wait again."""
        under_way = self._under_way.pop(job.number)
        provider, number = provider_of(job.model), FIRST_JOB + job.number
        await self.money.settle(number, provider, under_way.hold, under_way.worst, under_way.spent)
        return self.calls.end_job(job)

    def _request(self, identity: str) -> Request | None:
        """The request of a call of ours whose result is not kept yet."""
        try:
            wanted = self.calls.wants(bytes.fromhex(identity))
        except ValueError:
            return None
        return None if wanted is None else wanted.request


def priced(answer: Answer, info: ModelInfo, rate: Decimal) -> Answer:
    """The answer with its price in dollars, as far as the price of the model is known."""
    dollars = answer.usage.dollars
    if dollars is None and info.dollars is not None:
        dollars = info.dollars(answer.usage)
    return replace(answer, usage=replace(answer.usage, dollars=None if dollars is None else dollars * rate))


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask a provider about a job, again after a fault. Raises `StoppedError` if it does not answer for too long."""
    pause = SOON
    for fault in range(FAULTS):
        try:
            return await ask()
        except ModelError as error:
            if not error.passing or fault == FAULTS - 1:
                raise StoppedError(f"the provider does not tell about a job: {error}; it goes on there") from None
        await asyncio.sleep(pause)
        pause = min(LATER, 2 * pause)
    raise AssertionError("an attempt returns or raises")
