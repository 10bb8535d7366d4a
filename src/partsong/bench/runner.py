"""A study performed: every contestant answers every sample, and every answer is graded, several at a time.

What stands in the folder is not asked or graded again; calls of runs that were under way stand in the store. Money is
held at a run's worst case before it begins, so that the study's cap holds whatever happens at once.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from msgspec.structs import replace as with_fields

from partsong.bench.folder import Folder
from partsong.bench.task import Grade, Judge, Output, Sample, Task, conversation_of
from partsong.budget import Purse, shown
from partsong.engine import perform
from partsong.errors import BudgetError, Cause, ModelError
from partsong.events import AggregationStep, AnyEvent, Loss, ProposalFinished, RunFinished
from partsong.funding import Funds
from partsong.model import NOTHING_USED, Conversation, Model, Usage
from partsong.performance import Emit
from partsong.planning import plan
from partsong.recipe import Recipe
from partsong.recipe import replace as changed
from partsong.transcript import Transcript

HOPELESS: frozenset[Cause] = frozenset({"auth", "billing"})  # the next sample would meet it as well
Key = tuple[str, str, int]  # contestant, sample, attempt


class Study:
    """What is done so far, and what is at work. `stopped` says why no more is begun."""

    def __init__(
        self,
        task: Task,
        samples: Sequence[Sample],
        contestants: Mapping[str, Recipe],
        models: Mapping[str, Model],
        folder: Folder,
        *,
        judge: Judge | None = None,
        attempts: int = 1,
        funds: Funds | None = None,
        purse: Purse | None = None,
        record: Callable[[], tuple[Emit, Callable[[], object]]] | None = None,
    ) -> None:
        self.task, self.samples, self.contestants, self.models = task, samples, contestants, models
        self.folder, self.judge, self.funds, self.purse, self.record = folder, judge, funds, purse, record
        self.keys: list[Key] = [
            (name, sample.id, attempt) for attempt in range(attempts) for sample in samples for name in contestants
        ]
        self.outputs = {key_of(output): output for output in folder.outputs.all if not output.failed}
        self.grades = {key_of(grade): grade for grade in folder.grades.all if not grade.failed}
        self.failed: dict[Key, str] = {}
        self.at_work = 0
        self.stopped = ""
        self.began, self.done_before = time.monotonic(), self.done
        self.used = sum((each.usage for each in (*folder.outputs.all, *folder.grades.all)), NOTHING_USED)

    @property
    def done(self) -> int:
        return sum(key in self.grades for key in self.keys)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the speed so far; `None` before anything was done."""
        new = self.done - self.done_before
        rest = len(self.keys) - self.done - len(self.failed)
        return (time.monotonic() - self.began) / new * rest if new else None

    async def perform(self, at_once: int) -> None:
        """Do what is not done yet, sample by sample, so that a study that is stopped can be compared as it is."""
        open_keys = iter([key for key in self.keys if key not in self.grades])
        samples = {sample.id: sample for sample in self.samples}

        async def work() -> None:
            for key in open_keys:
                if self.stopped:
                    return
                self.at_work += 1
                try:
                    await self.one(key, samples[key[1]])
                finally:
                    self.at_work -= 1

        tasks = [asyncio.create_task(work()) for _ in range(at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def one(self, key: Key, sample: Sample) -> None:
        """Ask and grade, and write down what came of it."""
        output = self.outputs.get(key)
        if output is None:
            try:
                output = await self.ask(key, sample)
            except BudgetError as problem:
                self.stopped = str(problem)
                return
            self.used += output.usage
            self.folder.outputs.add(output)
            if output.failed:
                self.failed[key] = output.failed
                return
            self.outputs[key] = output
        grade = await self.task.grade(sample, output, self.judge)
        self.used += grade.usage
        self.folder.grades.add(grade)
        if grade.failed:
            self.failed[key] = grade.failed
        else:
            self.grades[key] = grade

    async def ask(self, key: Key, sample: Sample) -> Output:
        """The contestant's answers to all turns. Raises `BudgetError` where the study's money does not pay a run."""
        name, _, attempt = key
        recipe = reseeded(self.contestants[name], attempt)
        output, began = Output(name, sample.id, (), attempt, usage=NOTHING_USED), time.monotonic()
        while len(output.answers) < len(sample.turns) and not output.failed:
            output = await self.turn(recipe, sample, output)
        return with_fields(output, seconds=time.monotonic() - began)

    async def turn(self, recipe: Recipe, sample: Sample, output: Output) -> Output:
        conversation = Conversation(conversation_of(sample, output.answers))
        transcript, stored = Transcript(), [NOTHING_USED]
        emit, close = self.record() if self.record is not None else (None, None)

        async def hear(event: AnyEvent) -> None:
            if emit is not None:
                await emit(event)
            transcript.hear(event)
            match event:
                case ProposalFinished(answer=answer) | AggregationStep(answer=answer):
                    stored.append(answer.stored or NOTHING_USED)
                case RunFinished(answer=answer, last_resort=False):
                    stored.append(answer.stored or NOTHING_USED)

        recipe, settle = self.reserve(recipe, conversation)
        spent: Decimal | None = None
        try:
            await perform(recipe, conversation, self.models, hear, watch=False, cache=True, funds=self.funds)
            spent = transcript.usage.dollars
        finally:
            settle(spent)
            if close is not None:
                await close()  # type: ignore[misc]
        answered = transcript.answer
        failed = "" if answered is not None else transcript.error.message if transcript.error else "no answer"
        if transcript.error is not None and hopeless(transcript.error.cause, transcript.losses):
            self.stopped = failed
        last = len(transcript.layers) - 1
        return with_fields(
            output,
            answers=output.answers if answered is None else (*output.answers, answered.text),
            failed=failed,
            usage=output.usage + sum(stored, transcript.usage),
            losses=(*output.losses, *transcript.losses),
            proposals=tuple(
                (seat.model, seat.answer.text) for seat in (transcript.layers[last] if last >= 0 else ()) if seat.answer
            ),
        )

    def reserve(self, recipe: Recipe, conversation: Conversation) -> tuple[Recipe, Callable[[Decimal | None], None]]:
        """The recipe held to its worst case, all of which the study's purse keeps for it until it is settled."""
        if self.purse is None:
            return recipe, lambda _: None
        purse = self.purse
        caps = {} if recipe.max_dollars is None else {"": recipe.max_dollars}
        worst = plan(recipe, conversation, self.models, caps).worst.get("", Decimal(0))
        try:
            held = purse.reserve(worst)
        except ModelError:
            raise BudgetError(
                f"{recipe.name}: the next answer may cost {shown(worst)} dollars, but {shown(purse.left(''))} are left"
            ) from None
        return changed(recipe, max_dollars=worst), lambda spent: purse.settle(held, spent)


def key_of(value: Output | Grade) -> Key:
    """What an output, and its grade, are found under."""
    return value.contestant, value.sample, value.attempt


def reseeded(recipe: Recipe, attempt: int) -> Recipe:
    """The recipe for a later attempt: its seats sample anew, so that no stored answer stands in for a second one."""
    if not attempt:
        return recipe
    layers = tuple(
        with_fields(layer, agents=tuple(with_fields(agent, seed=None) for agent in layer.agents))
        for layer in recipe.layers
    )
    aggregator = with_fields(recipe.aggregator, seed=None)
    return changed(recipe, layers=layers, aggregator=aggregator, seed=(recipe.seed or 0) + attempt)


def hopeless(cause: Cause, losses: Sequence[Loss]) -> bool:
    """Whether the next sample would fail in the same way."""
    return {loss.cause for loss in losses} <= HOPELESS if cause == "no_proposals" else cause in HOPELESS


def total(outputs: Sequence[Output]) -> Usage:
    """What these outputs used together."""
    return sum((output.usage for output in outputs), NOTHING_USED)
