"""Runs a study: every contestant answers every sample, and every answer is graded, several at the same time.

Answers and grades in the study's folder are not made again. The calls of a run that was stopped halfway are found in
the store. The worst case of a run is held before the run begins, so that runs at the same time never exceed the cap.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TypeVar

from msgspec.structs import replace as with_fields

from partsong.bench.contestant import Contestant, reseeded, voted
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

Key = tuple[str, str, int]  # contestant, sample, attempt
T = TypeVar("T")
Record = Callable[[], tuple[Emit, Callable[[], Awaitable[object]]]]


class Study:
    """A study under way.

    outputs, grades: answers and grades so far, without failed ones
    failed: why an answer or a grade failed in this start
    extra, extra_done: calls to the judge besides the grades, planned and done
    stopped: why no more work is begun; empty while work goes on
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
    ) -> None:
        self.task, self.samples, self.models, self.folder = task, samples, models, folder
        self.contestants = dict(contestants)  # a comparison adds some on the way
        self.judge, self.attempts, self.seed, self.daily, self.record = judge, attempts, seed, daily, record
        self.outputs = {key_of(output): output for output in folder.outputs.all if not output.failed}
        self.grades = {key_of(grade): grade for grade in folder.grades.all if not grade.failed}
        self.failed: dict[Key, str] = {}
        self.extra = 0
        self.extra_done = 0
        self.stopped = ""
        self.began, self.done_before = time.monotonic(), self.done

    @property
    def keys(self) -> list[Key]:
        """The keys of all answers, sample by sample, so that a stopped study has the same samples of everyone."""
        return [
            (name, sample.id, attempt)
            for attempt in range(self.attempts)
            for sample in self.samples
            for name in self.contestants
        ]

    @property
    def planned(self) -> int:
        return len(self.keys) + self.extra

    @property
    def done(self) -> int:
        kept = self.grades if self.task.grades else self.outputs
        return sum(key in kept for key in self.keys) + self.extra_done

    @property
    def used(self) -> Usage:
        """Tokens and dollars of all calls of the study, with those of earlier starts."""
        folder = self.folder
        usages = [
            each.usage for lines in (folder.outputs.all, folder.grades.all, folder.verdicts.all) for each in lines
        ]
        return sum(usages, NOTHING_USED)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the study is done, at the speed so far; `None` before anything was done."""
        new = self.done - self.done_before
        rest = self.planned - self.done - len(self.failed)
        return (time.monotonic() - self.began) / new * rest if new > 0 else None

    async def perform(self, at_once: int) -> None:
        """Answer and grade what is not done yet, `at_once` keys at the same time."""
        samples = {sample.id: sample for sample in self.samples}
        kept = self.grades if self.task.grades else self.outputs
        await self.each(
            [key for key in self.keys if key not in kept], lambda key: self.one(key, samples[key[1]]), at_once
        )

    async def each(self, keys: Sequence[T], do: Callable[[T], Awaitable[None]], at_once: int) -> None:
        """Call `do` with every key, until the money is used up or the study is stopped."""
        open_keys = iter(keys)

        async def work() -> None:
            for key in open_keys:
                if self.stopped:
                    return
                try:
                    await do(key)
                except BudgetError as problem:
                    self.stopped = str(problem)

        tasks = [asyncio.create_task(work()) for _ in range(min(at_once, len(keys)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def one(self, key: Key, sample: Sample) -> None:
        """Answer and grade one sample, and write both to the folder."""
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
        if grade.failed:
            self.failed[key] = grade.failed
        else:
            self.grades[key] = grade

    async def ask(self, key: Key, sample: Sample) -> Output:
        """The contestant's answers to all turns of a sample. Raises `BudgetError` if the study's money is used up."""
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
        """The output with the answer to its next turn."""
        conversation = Conversation(conversation_of(sample, output.answers))
        transcript = Transcript()
        began = time.monotonic()
        async with self.paid(recipe, conversation, transcript) as (paid, funds), self.recorded() as emit:

            async def hear(event: AnyEvent) -> None:
                if emit is not None:
                    await emit(event)
                transcript.hear(event)

            await perform(paid, conversation, self.models, hear, watch=False, cache=True, funds=funds)
        found = any(call.stored for call in transcript.calls)
        seconds = None if found or output.seconds is None else output.seconds + time.monotonic() - began
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
        )

    @asynccontextmanager
    async def recorded(self) -> AsyncIterator[Emit | None]:
        """The recorder that also hears a run, until the run has ended; `None` if no run is recorded."""
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
        """The recipe and the funds of one run, whose worst case is held until the block is left.

        Raises `BudgetError` if the study's money does not pay the worst case.
        """
        money, caps = self.folder.money, {} if recipe.max_dollars is None else {"": recipe.max_dollars}
        try:
            worst = plan(recipe, conversation, self.models, caps).worst.get("", Decimal(0))
        except BudgetError:
            if money.cap is not None:
                raise
            worst = None
        number = money.hold(worst, recipe.name)
        if money.cap is None or worst is None:
            yield recipe, self.daily
            money.settle(number, known(transcript.usage))
            return
        funds = RunFunds(worst, self.daily)
        try:
            yield changed(recipe, max_dollars=worst), funds
        finally:
            money.settle(number, funds.spent)


def together(outputs: Sequence[Output], index: int) -> Output:
    """Several outputs as one: the answers of the one at `index`, the usage of all, and all of them as proposals."""
    taken = outputs[index]
    seconds = [each.seconds for each in outputs if each.seconds is not None]
    return with_fields(
        taken,
        usage=sum((each.usage for each in outputs), NOTHING_USED),
        seconds=sum(seconds) if len(seconds) == len(outputs) else None,
        losses=tuple(loss for each in outputs for loss in each.losses),
        proposals=tuple((each.contestant, each.answers[-1]) for each in outputs),
    )


def total(usages: Sequence[Usage]) -> Usage:
    """The sum of the usages."""
    return sum(usages, NOTHING_USED)
