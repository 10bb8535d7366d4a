"""Runs a study: every contestant answers every sample, and every answer is graded, several at the same time.

Answers and grades that are in the study's folder are not made again. If a run was stopped halfway, its finished calls
are found in the store. The most that a run may cost is held before the run begins, so that runs at the same time never
exceed the study's cap.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

from msgspec.structs import replace as with_fields

from partsong.bench.contestant import Contestant, reseeded, voted
from partsong.bench.counts import Counts, added, counts_of
from partsong.bench.folder import Folder
from partsong.bench.money import RunFunds
from partsong.bench.task import Judge, Output, Sample, Task, conversation_of, key_of
from partsong.engine import perform
from partsong.engine.performance import Emit
from partsong.errors import BudgetError
from partsong.events import AnyEvent, is_hopeless
from partsong.model import NOTHING_USED, Conversation, Model, Usage
from partsong.money.budget import known
from partsong.money.funding import Funds
from partsong.money.planning import plan
from partsong.recipe import Recipe
from partsong.recipe import replace as changed
from partsong.transcript import Transcript, usage_when_made

SILENT = 10  # verdicts in a row that fail before a study stops, since the next ones would be paid for nothing
QUOTED = 300  # characters of a judge's answer in a message
Key = tuple[str, str, int]  # contestant, sample id, index of the attempt
T = TypeVar("T")
# Makes a recorder for one run: the function that hears the run's events, and the function that closes the recorder.
Record = Callable[[], tuple[Emit, Callable[[], Awaitable[object]]]]


class Study:
    """A study under way.

    task, samples: the task, and those of its samples that are used
    contestants: contestants by name
    models: models that can be called, by id
    folder: open files of the study
    judge: grades the answers; `None` if the task needs no judge
    attempts: number of answers of each contestant to each sample; 1 by default
    seed: seed of all runs; 0 by default
    daily: funds of the day; `None` if there is no daily budget
    record: makes a recorder for each run; `None` if runs are not recorded
    cache: whether answers from the store are used; True by default

    outputs, grades: answers and grades so far by key, without failed ones
    failed: why an answer or a grade failed since this start, by key
    later: number of planned answers whose contestants are not known yet
    extra, extra_done: number of planned and of finished verdicts that make no grade of an answer
    silent: number of verdicts that have failed since the judge gave the last one
    stopped: why no more work is begun; empty while work goes on
    unaffordable: whether the cap in dollars has stopped the study
    models_of: returns the models for the next turn of an output to a sample; by default `models`
    replayed: returns how many answers these models know already, and the seconds of the longest; by default none
    """

    def __init__(
        self,
        task: Task,
        samples: Sequence[Sample],
        contestants: Mapping[str, Contestant],
        models: Mapping[str, Model],
        folder: Folder,
        *,
        judge: Judge | None = None,
        attempts: int = 1,
        seed: int = 0,
        daily: Funds | None = None,
        record: Record | None = None,
        cache: bool = True,
    ) -> None:
        self.task, self.samples, self.models, self.folder = task, samples, models, folder
        self.contestants = dict(contestants)  # a comparison adds some on the way
        self.judge, self.attempts, self.seed, self.daily, self.record = judge, attempts, seed, daily, record
        self.cache = cache
        self.outputs = {key_of(output): output for output in folder.outputs.all if not output.failed}
        self.grades = {key_of(grade): grade for grade in folder.grades.all if not grade.failed}
        self.failed: dict[Key, str] = {}
        self.later = self.extra = self.extra_done = self.silent = 0
        self.stopped, self.unaffordable = "", False
        self.models_of: Callable[[Output, Sample], Mapping[str, Model]] = lambda output, sample: models
        self.replayed: Callable[[Output, Sample], tuple[int, float]] = lambda output, sample: (0, 0.0)
        self.began, self.done_before = time.monotonic(), self.done

    @property
    def keys(self) -> list[Key]:
        """The keys of all planned answers, ordered by attempt, then sample, then contestant.

        In this order, a stopped study has answers of all contestants to nearly the same samples.
        """
        return [
            (name, sample.id, attempt)
            for attempt in range(self.attempts)
            for sample in self.samples
            for name in self.contestants
        ]

    @property
    def planned(self) -> int:
        """Number of answers (and of further verdicts of the judge) that the study consists of, known from the start."""
        return len(self.contestants) * len(self.samples) * self.attempts + self.later + self.extra

    @property
    def done(self) -> int:
        """Number of graded answers (if the task has no grades, of answers), plus that of the finished extra calls."""
        kept = self.grades if self.task.grades else self.outputs
        return sum(key in kept for key in self.keys) + self.extra_done

    def counts(self, name: str) -> Counts | None:
        """How the contestant's runs were decided, failed ones included; `None` if it neither votes nor agrees."""
        keys = {key for key in self.keys if key[0] == name}
        return added(output.counts for output in self.folder.outputs.all if key_of(output) in keys)

    @property
    def unpriced(self) -> bool:
        """Whether the price of a call is unknown, so that the study has cost more than the known dollars."""
        folder = self.folder
        lines = (folder.outputs.all, folder.grades.all, folder.verdicts.all)
        return any(each.usage.dollars is None for kept in lines for each in kept)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the study is done, at the speed so far; `None` before the first answer or grade."""
        new = self.done - self.done_before
        rest = self.planned - self.done - len(self.failed)
        return (time.monotonic() - self.began) / new * rest if new > 0 else None

    async def perform(self, at_once: int) -> None:
        """Make all missing answers and grades, for `at_once` keys at the same time."""
        samples = {sample.id: sample for sample in self.samples}
        kept = self.grades if self.task.grades else self.outputs
        await self.each(
            [key for key in self.keys if key not in kept], lambda key: self.one(key, samples[key[1]]), at_once
        )

    async def each(self, keys: Sequence[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
        """Await `do(key)` for every key, at most `at_once` at the same time, until the study is stopped.

        A `BudgetError` of `do` stops the study.
        """
        open_keys = iter(keys)

        async def work() -> None:
            for key in open_keys:
                if self.stopped:
                    return
                try:
                    await do(key)
                except BudgetError as problem:
                    self.stopped, self.unaffordable = str(problem), True

        tasks = [asyncio.create_task(work()) for _ in range(min(at_once, len(keys)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def one(self, key: Key, sample: Sample) -> None:
        """Let the contestant of the key answer the sample, grade the answer, and write both to the folder."""
        output = self.outputs.get(key)
        if output is None:
            output = await self.ask(key, sample)
            self.folder.outputs.add(output)
            if output.failed:
                self.failed[key] = output.failed
                return
            self.outputs[key] = output
        if not self.task.grades:
            return
        grade = await self.task.grade(sample, output, self.judge)
        self.folder.grades.add(grade)
        if self.task.needs_judge:
            self.heard(grade.failed, grade.judged)
        if grade.failed:
            self.failed[key] = grade.failed
        else:
            self.grades[key] = grade

    def heard(self, failed: str, judged: Sequence[str]) -> None:
        """Count a verdict of the judge, and stop the study if `SILENT` verdicts in a row have failed.

        failed: why there is no verdict; empty if there is one
        judged: texts that the judge wrote
        """
        self.silent = self.silent + 1 if failed else 0
        if self.silent >= SILENT and not self.stopped:
            words = " ".join(judged[-1].split()) if judged else ""
            quote = f"; the last answer was: “{words[:QUOTED]}{'…' if len(words) > QUOTED else ''}”" if words else ""
            self.stopped = f"no verdict {SILENT} times in a row: {failed}{quote}"

    async def ask(self, key: Key, sample: Sample) -> Output:
        """Return the contestant's answers to all turns of a sample; of several runs, the answers that win the vote.

        Raises `BudgetError` if the rest of the study's cap does not pay for the run.
        """
        name, _, attempt = key
        contestant = self.contestants[name]
        outputs: list[Output] = []
        for index in range(contestant.samples):
            drawn_for = (self.seed, name, sample.id, attempt, index)
            recipe = reseeded(contestant.recipe, *drawn_for, anew=bool(attempt or index))
            output = Output(name, sample.id, (), attempt, usage=NOTHING_USED, seconds=0.0)
            while len(output.answers) < len(sample.turns) and not output.failed:
                output = await self.turn(recipe, sample, output)
            if output.failed:
                return with_fields(output, usage=sum((each.usage for each in outputs), output.usage))
            outputs.append(output)
        return outputs[0] if len(outputs) == 1 else together(outputs, voted(sample, outputs))

    async def turn(self, recipe: Recipe, sample: Sample, output: Output) -> Output:
        """Run the recipe for the next turn of the sample, and return `output` with the answer or the failure added."""
        conversation = Conversation(conversation_of(sample, output.answers))
        transcript = Transcript()
        began = time.monotonic()
        async with self.paid(recipe, conversation, transcript) as (paid, funds), self.recorded() as emit:

            async def hear(event: AnyEvent) -> None:
                if emit is not None:
                    await emit(event)
                transcript.hear(event)

            models = self.models_of(output, sample)
            await perform(paid, conversation, models, hear, watch=False, cache=self.cache, funds=funds)
        stored = sum(bool(call.stored) for call in transcript.calls)
        replayed, longest = self.replayed(output, sample)
        took = time.monotonic() - began + longest
        seconds = None if stored > replayed or output.seconds is None else output.seconds + took
        answered, failed = transcript.answer, ""
        if transcript.error is not None:
            failed = transcript.error.message
            if is_hopeless(transcript.error, transcript.losses):
                self.stopped = failed
        elif any(loss.kind == "dropped" for loss in transcript.losses) and recipe.max_dollars is None:
            # Only the budget of the day can have dropped a seat. The answer is not one of the recipe that is compared.
            self.stopped = failed = f"{recipe.name}: the day's money does not pay the whole recipe"
        last = transcript.layers[-1] if transcript.layers else ()
        return with_fields(
            output,
            answers=output.answers if answered is None else (*output.answers, answered.text),
            failed=failed,
            usage=output.usage + usage_when_made(transcript.calls),
            seconds=seconds,
            losses=(*output.losses, *transcript.losses),
            proposals=tuple((seat.model, seat.answer.text) for seat in last if seat.answer),
            counts=added([output.counts, counts_of(recipe, transcript)]),
        )

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[Emit | None]:
        """Yield the function that records the events of one run; `None` if runs are not recorded."""
        if self.record is None:
            yield None
            return
        emit, close = self.record()
        try:
            yield emit
        finally:
            await close()

    @asynccontextmanager
    async def paid(
        self, recipe: Recipe, conversation: Conversation, transcript: Transcript
    ) -> AsyncIterator[tuple[Recipe, Funds | None]]:
        """Hold the most that one run may cost, and settle the run's price when the block is left.

        transcript: transcript of the run, from which the price is read

        Yields the recipe, capped at the held dollars, and the funds of the run. Raises `BudgetError` if the rest of the
        study's cap is less than the most that the run may cost.
        """
        money, caps = self.folder.money, {} if recipe.max_dollars is None else {"": recipe.max_dollars}
        try:
            worst = plan(recipe, conversation, self.models, caps).worst.get("", Decimal(0))
        except BudgetError:
            if money.cap is not None:
                raise
            worst = None
        await money.room_for(worst)
        number = money.hold(worst, recipe.name)
        if money.cap is None or worst is None:
            price = None  # of a run that is cancelled, of which nobody knows the price
            try:
                yield recipe, self.daily
                price = known(transcript.usage)
            finally:
                money.settle(number, price)
            return
        funds = RunFunds(worst, self.daily)
        try:
            yield changed(recipe, max_dollars=worst), funds
        finally:
            money.settle(number, funds.spent)


def together(outputs: Sequence[Output], index: int) -> Output:
    """Return one output for several runs: the answers of the output at `index`, and the usage and losses of all runs.

    The final answers of all runs become the proposals.
    """
    taken = outputs[index]
    seconds = [each.seconds for each in outputs if each.seconds is not None]
    return with_fields(
        taken,
        usage=sum((each.usage for each in outputs), NOTHING_USED),
        seconds=sum(seconds) if len(seconds) == len(outputs) else None,
        losses=tuple(loss for each in outputs for loss in each.losses),
        proposals=tuple((each.contestant, each.answers[-1]) for each in outputs),
        counts=added(each.counts for each in outputs),
    )


def total(usages: Sequence[Usage]) -> Usage:
    """Return the sum of tokens and dollars; the dollars are unknown if one of the summands is unknown."""
    return sum(usages, NOTHING_USED)
