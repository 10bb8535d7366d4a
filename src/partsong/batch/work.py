"""A batch under way: questions are read in order, a few are answered at the same time, and every outcome is kept.

Memory does not grow with the number of questions. Only the questions under way are held.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial

from msgspec import Struct

from partsong.batch.answers import Answers, Outcome
from partsong.batch.purse import Allowance, EmptyError, Purse
from partsong.batch.questions import ParsedRequest, Place, Questions
from partsong.batch.workers import together
from partsong.bounds import DEFAULTS, Bounds
from partsong.engine import perform
from partsong.errors import BudgetError, QuestionError, RecipeError, StoreError
from partsong.events import AnyEvent, CallFinished, Failure, Loss, RunFailed, RunFinished, is_hopeless
from partsong.model import NOTHING_USED, Conversation, Model, Usage
from partsong.money.funding import Funds
from partsong.money.planning import plan
from partsong.recipe import Recipe
from partsong.store import Store
from partsong.transcript import usage_when_made

NOTED = 100  # questions after which the place that the batch has reached is written down
NOTHING = Decimal(0)


class End(Struct, frozen=True):
    """How a batch, or a part of it, has ended.

    answered, failed: number of questions with an answer, and of those without one
    first: line of the first question without an answer; 0 if there is none
    stopped: why it goes no further, for people to read; empty if all its questions were asked
    dollars: price of the outcomes of this start, in dollars; `None` if unknown
    """

    answered: int = 0
    failed: int = 0
    first: int = 0
    stopped: str = ""
    dollars: str | None = "0"


class Batch:
    """A batch under way.

    recipe, models: the recipe that answers all questions, and its models by id
    store: store that records the runs
    questions: the file of questions, or a part of it
    answers: the files of answers
    key_of: the key of an answer, from its conversation
    funds: funds of the day; `None` if there is no daily budget
    purse: money of the whole batch; `None` if it has no cap
    bounds: bounds on the conversations and their schemas
    free: whether every call was made and counted before
    stopped: why the batch goes no further, for people to read; empty while it goes on
    at_work: number of questions that are being answered
    answered, failed: number of questions with an answer, and of those without one
    used: tokens and dollars of the outcomes of this start
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Mapping[str, Model],
        store: Store,
        questions: Questions,
        answers: Answers,
        key_of: Callable[[Conversation], bytes],
        funds: Funds | None = None,
        purse: Purse | None = None,
        bounds: Bounds = DEFAULTS,
        *,
        free: bool = False,
    ) -> None:
        self.free = free
        self.recipe, self.models, self.store, self.questions, self.answers = recipe, models, store, questions, answers
        self.key_of, self.funds, self.purse, self.bounds = key_of, funds, purse, bounds
        self.stopped = ""
        self.at_work = 0
        self.used = NOTHING_USED
        self.failed, _ = answers.count_failed()
        self._reached, rows = answers.begun
        self.answered = rows - self.failed
        self._rows = rows  # questions before the place that is reached
        # The place before each question that is not over yet, and how many questions are before it, by its line.
        self._open: dict[int, tuple[Place, int]] = {}
        self._since = 0  # questions since the place was written down
        self._asked: dict[bytes, asyncio.Future[Outcome | None]] = {}  # the questions under way, by key

    async def perform(self, at_once: int) -> None:
        """Answer the questions without an answer, in file order, at most `at_once` at the same time."""
        for requests in (self._failed_ones(), self._unread()):
            await together(at_once, partial(self._work, requests))
            if self.stopped:
                break
        self._note()

    async def _work(self, requests: Iterator[tuple[ParsedRequest, Place, bool]]) -> None:
        for request, before, again in requests:
            if self.stopped:
                return
            await self._answer(request, before, again)

    def _failed_ones(self) -> Iterator[tuple[ParsedRequest, Place, bool]]:
        """The questions that failed in an earlier start."""
        for before in self.answers.failed():
            request, _ = next(self.questions.read(before))
            yield request, before, True

    def _unread(self) -> Iterator[tuple[ParsedRequest, Place, bool]]:
        """The questions that no earlier start has come to."""
        before = self._reached if self._rows else self.questions.begin()
        for request, after in self.questions.read(before):
            self._open[request.line] = (before, self._rows)
            self._reached = after
            self._rows += 1
            yield request, before, False
            before = after

    async def _answer(self, request: ParsedRequest, before: Place, again: bool) -> None:
        """Answer a question, or find its answer, and keep the outcome.

        again: whether the question has failed in an earlier start
        """
        key = self.key_of(request.conversation)
        equal: Outcome | None = None
        while (asked := self._asked.get(key)) is not None and not request.wrong:
            equal = await asyncio.shield(asked)
        if not request.wrong and self.answers.find(key) is not None:
            if again:
                self.answers.forget_failure(request.line)
                self.failed -= 1
            self.answered += 1
            self._over(request)
            return
        self._asked[key] = done = asyncio.get_running_loop().create_future()
        self.at_work += 1
        outcome: Outcome | None = None
        try:
            outcome, spent = (equal, NOTHING) if equal is not None else await self._outcome(request)
            self.answers.keep(request, before, key, outcome, spent)
        except EmptyError as empty:
            self.stopped = (
                f"the next question could cost ${empty.needed:f}, and ${max(NOTHING, empty.left):f} of --max-dollars "
                "are left; allow more"
            )
            return
        finally:
            self.at_work -= 1
            del self._asked[key]
            done.set_result(outcome)
        self.used += outcome.usage
        if outcome.error is None:
            self.answered += 1
            self.failed -= again
        else:
            self.failed += not again
            if is_hopeless(outcome.error, outcome.losses):
                self.stopped = f"no other question would fare better: {outcome.error.message}"
        if self.store.problem is not None:
            self.stopped = f"the store fails, and without it a batch cannot be continued: {self.store.problem}"
        self._over(request)

    async def _outcome(self, request: ParsedRequest) -> tuple[Outcome, Decimal]:
        """The outcome of a question, and the dollars that it has cost now. Raises `EmptyError`."""
        if request.wrong:
            return Outcome(NOTHING_USED, error=Failure("invalid", request.wrong)), NOTHING
        if self.purse is None:
            return await self._run(request, self.recipe, self.funds)
        try:
            worst = plan(self.recipe, request.conversation, self.models, {}).worst.get("", NOTHING)
        except BudgetError as problem:
            return Outcome(NOTHING_USED, error=Failure("budget", str(problem))), NOTHING
        if self.recipe.max_dollars is not None:
            worst = min(worst, self.recipe.max_dollars)
        await self.purse.take(worst)
        allowance = Allowance(worst, self.funds)
        try:
            self.answers.hold(request.line, worst)
            outcome, _ = await self._run(request, self.recipe, allowance)
        finally:
            self.purse.give_back(worst - allowance.spent)
        return outcome, allowance.spent

    async def _run(self, request: ParsedRequest, recipe: Recipe, funds: Funds | None) -> tuple[Outcome, Decimal]:
        listener = Listener()
        recorder = self.store.record(source="batch")

        async def hear(event: AnyEvent) -> None:
            await recorder.hear(event)
            listener.hear(event)

        try:
            await perform(
                recipe,
                request.conversation,
                self.models,
                hear,
                watch=False,
                cache=True,
                funds=funds,
                bounds=self.bounds,
                record=recorder.id,
            )
        except BudgetError as problem:
            return Outcome(NOTHING_USED, error=Failure("budget", str(problem))), NOTHING
        except (QuestionError, RecipeError) as problem:
            where = f"{self.questions.path}, line {request.line}: {problem}"
            return Outcome(NOTHING_USED, error=Failure("invalid", where)), NOTHING
        finally:
            with suppress(StoreError):  # `store.problem` tells it
                await recorder.close()
        return listener.outcome(), NOTHING if self.free else listener.spent

    def _over(self, request: ParsedRequest) -> None:
        """Note that the question has an answer or has failed."""
        self._open.pop(request.line, None)
        self._since += 1
        if self._since >= NOTED:
            self._note()

    def _note(self) -> None:
        """Write down the place before which no question is open."""
        self._since = 0
        if not self._open:
            self.answers.reach(self._reached, self._rows)
            return
        # Lines are read in order, so the first that is open is the first of the dictionary.
        place, rows = next(iter(self._open.values()))
        self.answers.reach(place, rows)


def in_order(losses: Sequence[Loss]) -> tuple[Loss, ...]:
    """The losses in the order of their seats, and not of their moments, which differ from start to start."""
    return tuple(sorted(losses, key=lambda loss: (loss.layer, loss.seat)))


class Listener:
    """A listener that makes the outcome of a question from the events of its run."""

    def __init__(self) -> None:
        self.calls: list[CallFinished] = []
        self.end: RunFinished | RunFailed | None = None

    def hear(self, event: AnyEvent) -> None:
        """Keep the events that the outcome is made of: the finished calls, and the end of the run."""
        if isinstance(event, CallFinished):
            self.calls.append(event)
        elif isinstance(event, RunFinished | RunFailed):
            self.end = event

    @property
    def spent(self) -> Decimal:
        """Dollars that the run has cost now."""
        return NOTHING if self.end is None or self.end.usage.dollars is None else self.end.usage.dollars

    def outcome(self) -> Outcome:
        """Return the outcome, after the run has ended: its answer or its error."""
        used: Usage = usage_when_made(self.calls)
        match self.end:
            case RunFinished(answer=answer, model=model, losses=losses):
                return Outcome(used, answer.text, model=model, losses=in_order(losses))
            case RunFailed(error=error, losses=losses):
                return Outcome(used, error=error, losses=in_order(losses))
            case None:
                raise AssertionError("a run has an end")
