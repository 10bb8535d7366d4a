"""`partsong batch`: answers a file of questions, several at the same time, and writes a file of answers.

A batch can be stopped at any time and started again. Finished answers are kept in a second file, beside the file of
answers. Finished calls of unfinished questions are kept in the store. The file of answers is the same, however often
the batch was stopped.
"""

import asyncio
import re
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from partsong.assembly import assemble, daily_funds, open_journal
from partsong.batch.answers import Answers, keys_for
from partsong.batch.making import Money
from partsong.batch.parquet import parquet_pieces
from partsong.batch.purse import Purse
from partsong.batch.questions import WHOLE, Part, Questions, check_first, checked, open_questions
from partsong.batch.work import Batch, End
from partsong.cli.ask import choose
from partsong.cli.batch_layers import ByLayer
from partsong.cli.batch_price import show_price
from partsong.cli.batch_ray import over_cluster, priced
from partsong.cli.downloads import Downloads
from partsong.cli.loop import complete, event_loop
from partsong.cli.options import AT_ONCE, Config, ModelId, RecipeName, without_tools
from partsong.cli.printable import printable_json
from partsong.cli.progress import Progress, say
from partsong.cli.summary import dollars
from partsong.configuration import Configuration, find_configuration
from partsong.engine.request_checks import check
from partsong.errors import InputError, QuestionError
from partsong.files import kind_of, target_of, write_file
from partsong.model import Conversation
from partsong.recipe import Recipe

PARQUET = ".parquet"
NO_CONVERSATION = Conversation(())


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch does.

    questions: the file of questions, or a part of it
    out: file of answers
    recipe: the recipe that answers all questions
    configuration: the user's configuration
    at_once: number of questions that are answered at the same time
    max_dollars: most that this part of the batch may cost; `None` for no limit
    by_layer: whether all questions take the first layer before any takes the second
    batch_api: whether the Batch APIs of providers make the calls of hosted models
    """

    questions: Questions
    out: Path
    recipe: Recipe
    configuration: Configuration
    at_once: int
    max_dollars: Decimal | None
    by_layer: bool
    batch_api: bool


def batch(
    questions: Annotated[
        Path,
        Parameter(
            metavar="QUESTIONS.jsonl",
            help="File with one question a line, in JSON: a string, or an object; or a Parquet file.",
        ),
    ],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            name=("--out", "-o"),
            metavar="ANSWERS.jsonl",
            help="File to write, one answer a line, in the order of the questions; Parquet if it ends in .parquet.",
        ),
    ] = None,
    recipe: RecipeName = None,
    model: ModelId = None,
    at_once: Annotated[
        int, Parameter(metavar="N", help=f"Number of questions that are answered at the same time. Default: {AT_ONCE}.")
    ] = AT_ONCE,
    max_dollars: Annotated[
        Decimal | None, Parameter(metavar="D", help="Most that the whole batch may cost in all its starts, in dollars.")
    ] = None,
    shard: Annotated[
        str | None,
        Parameter(metavar="I/N", help="Answer only part I (from 0) of N, for N processes that share the work."),
    ] = None,
    by: Annotated[
        Literal["question", "layer"],
        Parameter(help="Order of the calls: question by question, or all questions layer by layer. Default: question."),
    ] = "question",
    batch_api: Annotated[
        bool, Parameter(help="With --by layer: let hosted models be asked by the Batch APIs of their providers.")
    ] = False,
    on: Annotated[
        Literal["here", "ray"],
        Parameter(help="Where the work is done: in this process, or in parts on a Ray cluster. Default: here."),
    ] = "here",
    dry_run: Annotated[bool, Parameter(help="Print what the batch would cost, and ask nothing.")] = False,
    config: Config = None,
) -> int:
    """Answer a file of questions. After a stop, the same command goes on with what is left."""
    configuration = find_configuration(config)
    chosen = without_tools(choose(recipe, model, configuration))
    if at_once < 1:
        raise InputError(f"--at-once is {at_once}, but must be at least 1")
    if max_dollars is not None and not (max_dollars.is_finite() and max_dollars > 0):
        raise InputError(f"--max-dollars is {max_dollars}, but must be above 0")
    if batch_api and by != "layer":
        raise InputError("--batch-api needs --by layer: a job of a provider takes up to a day")
    if on == "ray" and shard is not None:
        raise InputError("--shard and --on ray exclude each other: Ray shares the work itself")
    part = WHOLE if shard is None else part_of(shard)
    if dry_run:
        return complete(show_price(open_questions(questions, part), chosen, configuration, max_dollars))
    if out is None:
        raise InputError("batch needs --out, the file of answers")
    if part.count > 1:
        out = named_for(out, part)
    if kind_of(out) == "regular" and questions.exists() and out.samefile(questions):
        raise InputError(f"{out}: is the file of questions; the answers need one of their own")
    share = None if max_dollars is None else max_dollars / part.count
    plan = Plan(open_questions(questions, part), out, chosen, configuration, at_once, share, by == "layer", batch_api)
    return complete(answered_on_ray(plan) if on == "ray" else answered(plan))


def part_of(text: str) -> Part:
    """The part that `--shard` names. Raises `InputError` if the text is no part."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if found is None or not int(found[1]) < int(found[2]):
        raise InputError(f"--shard is {text!r}, but must be I/N with I from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4")
    return Part(int(found[1]), int(found[2]))


def named_for(out: Path, part: Part) -> Path:
    """The file of answers of one part, such as `answers-00002-of-00010.jsonl`: by name, the files follow each other."""
    if kind_of(out) == "stream":
        raise InputError(f"{out}: is a device or a pipe, but each part of a batch needs a file")
    return out.with_name(f"{out.stem}-{part.index:05}-of-{part.count:05}{out.suffix}")


async def answered(plan: Plan) -> int:
    """Answer all questions and write the file of answers; return the exit code, which is 1 if a question failed.

    Raises `QuestionError` with the number of the line if the recipe cannot answer one of the first questions. In a long
    file, a wrong line that comes later is a question that failed.
    """
    began = time.monotonic()
    total, all_checked = check_first(plan.questions)
    if not all_checked:
        total = plan.questions.count()
    end = await ended(plan, total)
    whole = end.answered + end.failed
    if end.stopped:
        say(f"stopped, since {end.stopped}")
        # A batch by layer may stop before it has come to any question.
        known = (
            "what was made is kept"
            if plan.by_layer and not whole
            else f"{end.answered:,} of {total:,} questions are answered"
        )
        say(f"{known}; start it again to go on")
        return 1
    if not all_checked:  # a long batch ends with a line that says what came of it
        failed = f", {end.failed:,} failed" if end.failed else ""
        seconds = time.monotonic() - began
        say(f"{end.answered:,} of {whole:,} answered{failed} · {priced([end])}, in {seconds:,.0f} s")
    if end.failed:
        say(f"{end.failed:,} of {whole:,} questions failed (the first on line {end.first}); start it again to retry")
    return 1 if end.failed else 0


async def ended(plan: Plan, total: int, *, forget: bool = True) -> End:
    """Answer all questions, and write the file of answers if the batch comes to its end.

    total: number of questions
    forget: whether the partial file is removed once every question has its answer (default: yes)
    """
    answers = Answers(plan.out)
    async with AsyncExitStack() as stack:
        stack.callback(answers.close)
        stopped, work = await performed(plan, answers, total, stack)
        if work is None:
            return End(stopped=stopped)
        spent = None if work.used.dollars is None else f"{work.used.dollars:f}"
        if stopped:
            return End(work.answered, work.failed, stopped=stopped, dollars=spent)
        write(plan, answers, work)
        # After a failure, the next start reads the other answers from the partial file.
        failed, first = answers.count_failed()
        if forget and not failed:
            answers.remove()
        return End(work.answered, failed, first, dollars=spent)


async def answered_on_ray(plan: Plan) -> int:
    """Answer all questions in parts on a Ray cluster; return the exit code."""
    path, out = plan.questions.path.absolute(), target_of(plan.out).absolute()
    check_first(plan.questions)
    whole = replace(plan, questions=open_questions(path), out=out)
    return await over_cluster(
        out,
        identity(whole.questions, plan.recipe).hex(),
        whole.questions.count(),
        plan.configuration,
        partial(ended_on_node, whole),
        partial(file_of, out),
    )


def ended_on_node(plan: Plan, index: int, count: int) -> End:
    """Answer part `index` of `count` parts. Called in the process of a node.

    The partial file stays, with what the part has spent, until the part is noted as over.
    """
    part = Part(index, count)
    share = None if plan.max_dollars is None else plan.max_dollars / count
    questions = open_questions(plan.questions.path, part)
    mine = replace(plan, questions=questions, out=named_for(plan.out, part), max_dollars=share)
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(ended(mine, questions.count(), forget=False))


def file_of(out: Path, index: int, count: int) -> Path:
    """The file of answers of a part."""
    return named_for(out, Part(index, count))


async def performed(plan: Plan, answers: Answers, total: int, stack: AsyncExitStack) -> tuple[str, Batch | None]:
    """Answer the questions. Returns why the batch has stopped, empty if it has ended, and the batch.

    total: number of questions
    stack: closes the store and the models
    """
    questions, recipe, configuration = plan.questions, plan.recipe, plan.configuration
    store = await stack.enter_async_context(open_journal(configuration))
    with Downloads(sys.stderr) as downloads:
        models = await stack.enter_async_context(
            assemble(recipe.models, configuration, fetching=downloads.hear, store=store)
        )
    for request in checked(questions):
        try:
            await check(recipe, request.conversation, models, configuration.bounds)
        except QuestionError as problem:
            raise QuestionError(f"{questions.path}, line {request.line}: {problem}") from None
    answers.open(identity(questions, recipe))
    purse = None if plan.max_dollars is None else Purse(plan.max_dollars - answers.spent)
    funds = daily_funds(configuration, store)
    key_of = keys_for(recipe)
    if plan.by_layer:
        layers = ByLayer(
            recipe, questions, answers, key_of, configuration, store, Money(answers, purse, funds), jobs=plan.batch_api
        )
        with Progress(lambda: layers.words):
            stopped = await layers.perform(plan.at_once)
        if stopped:
            return stopped, None
        models = await stack.enter_async_context(layers.recalled())
        recipe, purse, funds = layers.recipe, None, None  # all calls are made
    bounds = configuration.bounds
    work = Batch(recipe, models, store, questions, answers, key_of, funds, purse, bounds, free=plan.by_layer)
    with Progress(lambda: progress_of(work, total)):
        await work.perform(plan.at_once)
    return work.stopped, work


def write(plan: Plan, answers: Answers, work: Batch) -> None:
    """Write the file of answers."""
    lines = answers.lines(plan.questions, work.key_of)
    if plan.out.suffix == PARQUET and not answers.streams:
        write_file(plan.out, parquet_pieces(lines))
        return
    write_file(plan.out, (printable_json(msgspec.json.encode(line)) + b"\n" for line in lines), may_stream=True)


def identity(questions: Questions, recipe: Recipe) -> bytes:
    """What tells these questions and this recipe from others, without reading the questions."""
    found = questions.path.stat()
    told = f"{found.st_size} {found.st_mtime_ns} {questions.part}"
    return sha256(told.encode() + keys_for(recipe)(NO_CONVERSATION)).digest()


def progress_of(work: Batch, total: int) -> str:
    """Return the progress of a batch as a line of text. `total`: number of questions."""
    failed = f", {work.failed:,} failed" if work.failed else ""
    at_work = f", {work.at_work:,} at work" if work.at_work else ""
    price = "price unknown" if work.used.dollars is None else dollars(work.used.dollars)
    return f"{work.answered:,} of {total:,} answered{failed}{at_work} · {price}"
