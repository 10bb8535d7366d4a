"""`partsong batch`: answers a file of questions, several at the same time, and writes a file of answers.

A batch can be stopped at any time and started again. Finished answers are kept in a second file, beside the file of
answers. Finished calls of unfinished questions are kept in the store. The file of answers is the same, however often
the batch was stopped. Equal questions are asked once.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.assembly import assemble, daily_funds, open_journal
from partsong.bounds import DEFAULTS, Bounds
from partsong.cli.answers import Answers, Outcome, key_of
from partsong.cli.ask import choose
from partsong.cli.downloads import Downloads
from partsong.cli.loop import complete
from partsong.cli.options import AT_ONCE, Config, ModelId, RecipeName
from partsong.cli.progress import Progress, say
from partsong.cli.questions import ParsedRequest, read_questions
from partsong.cli.summary import dollars
from partsong.configuration import Configuration, find_configuration
from partsong.engine import perform
from partsong.engine.request_checks import check
from partsong.errors import BudgetError, InputError, QuestionError
from partsong.events import AnyEvent, CallFinished, Failure, RunFailed, RunFinished, is_hopeless
from partsong.files import kind_of
from partsong.model import NOTHING_USED, Model
from partsong.money.funding import Funds
from partsong.recipe import Recipe, replace
from partsong.store import Store
from partsong.transcript import usage_when_made


def batch(
    questions: Annotated[
        Path,
        Parameter(metavar="QUESTIONS.jsonl", help="File with one question a line, in JSON: a string, or an object."),
    ],
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            name=("--out", "-o"),
            metavar="ANSWERS.jsonl",
            help="File to write, one answer a line, in the order of the questions.",
        ),
    ],
    recipe: RecipeName = None,
    model: ModelId = None,
    at_once: Annotated[
        int, Parameter(metavar="N", help=f"Number of questions that are answered at the same time. Default: {AT_ONCE}.")
    ] = AT_ONCE,
    max_dollars: Annotated[
        Decimal | None,
        Parameter(metavar="D", help="Most that the batch may cost, in dollars, divided equally among the questions."),
    ] = None,
    config: Config = None,
) -> int:
    """Answer a file of questions. After a stop, the same command goes on with what is left."""
    configuration = find_configuration(config)
    chosen = choose(recipe, model, configuration)
    if at_once < 1:
        raise InputError(f"--at-once is {at_once}, but must be at least 1")
    if kind_of(out) == "regular" and questions.exists() and out.samefile(questions):
        raise InputError(f"{out}: is the file of questions; the answers need one of their own")
    asked = read_questions(questions)
    keyed = [(key_of(chosen, each.conversation), each) for each in asked]
    if max_dollars is not None:
        share = max_dollars / len(dict(keyed))
        chosen = replace(chosen, max_dollars=share if chosen.max_dollars is None else min(share, chosen.max_dollars))
    return complete(answered(keyed, questions, out, chosen, configuration, at_once))


async def answered(
    keyed: Sequence[tuple[str, ParsedRequest]],
    source: Path,
    out: Path,
    recipe: Recipe,
    configuration: Configuration,
    at_once: int,
) -> int:
    """Answer all questions and write the file of answers; return the exit code, which is 1 if a question failed.

    keyed: the questions in file order, each with the key of its answer (see `partsong.cli.answers.key_of`)
    source: file of questions, for error messages
    out: file of answers
    at_once: number of questions that are answered at the same time

    Raises `QuestionError` with the number of the line if the recipe cannot answer a question.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_journal(configuration))
        with Downloads(sys.stderr) as downloads:
            models = await stack.enter_async_context(
                assemble(recipe.models, configuration, fetching=downloads.hear, store=store)
            )
        for _, each in keyed:
            try:
                await check(recipe, each.conversation, models, configuration.bounds)
            except QuestionError as problem:
                raise QuestionError(f"{source}, line {each.line}: {problem}") from None
        answers = Answers(out)
        answers.open()
        stack.callback(answers.close)
        work = Batch(
            recipe, models, store, answers, dict(keyed), daily_funds(configuration, store), configuration.bounds
        )
        with Progress(lambda: progress_of(work)):
            await work.perform(list(work.questions), at_once)
        if work.hopeless is None:
            answers.finish(keyed, work.failed)
    if store.problem is not None:
        say(f"calls are not kept, so that a batch that is stopped begins its open questions anew: {store.problem}")
    if work.hopeless is not None:
        say(f"stopped, since no other question would fare better: {work.hopeless.message}")
        say(f"{work.answered:,} of {len(work.questions):,} questions are answered; start it again to go on")
        return 1
    if work.failed:
        lines = [each.line for key, each in keyed if key in work.failed]
        say(
            f"{len(lines):,} of {len(keyed):,} questions failed (the first on line {lines[0]}); start it again to retry"
        )
    return 1 if work.failed else 0


class Batch:
    """A batch under way.

    recipe, models: the recipe that answers all questions, and its models by id
    store: store that records the runs
    answers: the files of answers
    questions: all questions, by key
    funds: funds of the day; `None` if there is no daily budget
    bounds: bounds on the conversations and their schemas
    failed: outcomes of the questions that failed since this start, by key
    hopeless: an error that all other questions would have too, such as a wrong key; `None` while the batch goes on
    at_work: number of questions that are being answered
    answered: number of questions with an answer
    used: tokens and dollars of all outcomes
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Mapping[str, Model],
        store: Store,
        answers: Answers,
        questions: Mapping[str, ParsedRequest],
        funds: Funds | None,
        bounds: Bounds = DEFAULTS,
    ) -> None:
        self.funds, self.bounds = funds, bounds
        self.recipe, self.models, self.store, self.answers, self.questions = recipe, models, store, answers, questions
        self.failed: dict[str, Outcome] = {}
        self.hopeless: Failure | None = None
        self.at_work = 0
        kept = [answers.kept[key] for key in questions if key in answers.kept]
        self.answered = len(kept)
        self.used = sum((outcome.usage for outcome in kept), NOTHING_USED)

    async def perform(self, keys: Sequence[str], at_once: int) -> None:
        """Answer the questions without an answer in the order of `keys`, at most `at_once` at the same time."""
        open_keys = iter([key for key in keys if key not in self.answers.kept])

        async def work() -> None:
            for key in open_keys:
                if self.hopeless is not None:
                    return
                self.at_work += 1
                try:
                    await self.answer(key)
                finally:
                    self.at_work -= 1

        tasks = [asyncio.create_task(work()) for _ in range(at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def answer(self, key: str) -> None:
        """Answer the question with this key, and keep its outcome. A failed run raises nothing."""
        listener = Listener(key)
        recorder = self.store.record()

        async def hear(event: AnyEvent) -> None:
            await recorder.hear(event)
            listener.hear(event)

        try:
            await perform(
                self.recipe,
                self.questions[key].conversation,
                self.models,
                hear,
                watch=False,
                cache=True,
                funds=self.funds,
                bounds=self.bounds,
                record=recorder.id,
            )
        except BudgetError as problem:
            self.failed[key] = Outcome(key, NOTHING_USED, error=Failure("budget", str(problem)))
            return
        finally:
            await recorder.close()
        outcome = listener.outcome()
        self.used += outcome.usage
        if outcome.error is None:
            self.answers.keep(outcome)
            self.answered += 1
            return
        self.failed[key] = outcome
        if is_hopeless(outcome.error, outcome.losses):
            self.hopeless = outcome.error


class Listener:
    """A listener that makes the outcome of a question from the events of its run. `key` is the key of the question."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: list[CallFinished] = []
        self.end: RunFinished | RunFailed | None = None

    def hear(self, event: AnyEvent) -> None:
        """Keep the events that the outcome is made of: the finished calls, and the end of the run."""
        if isinstance(event, CallFinished):
            self.calls.append(event)
        elif isinstance(event, RunFinished | RunFailed):
            self.end = event

    def outcome(self) -> Outcome:
        """Return the outcome, after the run has ended: its answer or its error."""
        used = usage_when_made(self.calls)
        match self.end:
            case RunFinished(answer=answer, model=model, losses=losses):
                return Outcome(self.key, used, answer.text, model=model, losses=losses)
            case RunFailed(error=error, losses=losses):
                return Outcome(self.key, used, error=error, losses=losses)
            case None:
                raise AssertionError("a run has an end")


def progress_of(work: Batch) -> str:
    """Return the progress of a batch as a line of text."""
    failed = f", {len(work.failed):,} failed" if work.failed else ""
    at_work = f", {work.at_work:,} at work" if work.at_work else ""
    price = "price unknown" if work.used.dollars is None else dollars(work.used.dollars)
    return f"{work.answered:,} of {len(work.questions):,} answered{failed}{at_work} · {price}"
