"""`partsong bench run`: recipes answer the same samples and are graded; started again, it goes on where it stopped."""

import asyncio
import hashlib
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from partsong.assembly import assemble, daily_funds, find_configuration, open_journal
from partsong.bench.folder import Folder
from partsong.bench.runner import Study, key_of, total
from partsong.bench.task import Judge, Sample, Task
from partsong.budget import Budget, Purse, provider_of
from partsong.cli.downloads import Downloads
from partsong.cli.loop import complete
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.configuration import Configuration
from partsong.errors import InputError
from partsong.model import Answer, Request, Terms
from partsong.performance import Emit
from partsong.recipe import Recipe, find_recipe

AT_ONCE = 4


def bench_run(
    task: Annotated[str, Parameter(metavar="TASK", help="What to answer: demo.")],
    /,
    *,
    recipe: Annotated[
        tuple[str, ...],
        Parameter(name=("--recipe", "-r"), metavar="NAME|FILE", consume_multiple=False, help="Who answers; repeat it."),
    ],
    limit: Annotated[int | None, Parameter(metavar="N", help="So many samples, drawn by the seed.")] = None,
    seed: Annotated[int, Parameter(metavar="S", help="What samples are drawn by.")] = 0,
    attempts: Annotated[int, Parameter(metavar="N", help="How often each sample is asked, each time anew.")] = 1,
    judge: Annotated[str | None, Parameter(metavar="MODEL", help="The model that grades, where one must.")] = None,
    max_dollars: Annotated[Decimal | None, Parameter(metavar="D", help="Dollars that all of it may cost.")] = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"), metavar="FOLDER", help="Where it is kept.")] = None,
    at_once: Annotated[int, Parameter(metavar="N", help="How many samples at the same time.")] = AT_ONCE,
    config: Annotated[Path | None, Parameter(metavar="FILE", help="This configuration, and no other.")] = None,
) -> int:
    """Let recipes answer a task, and grade them."""
    for name, value in (("--at-once", at_once), ("--attempts", attempts), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, but must be at least 1")
    chosen = find_task(task)
    if chosen.needs_judge and judge is None:
        raise InputError(f"{task}: a model must judge: name it with --judge")
    contestants: dict[str, Recipe] = {}
    for name in recipe:
        found = find_recipe(name)
        if found.name in contestants:
            raise InputError(f"--recipe {name}: there is another {found.name}; each needs a name of its own")
        contestants[found.name] = found
    samples = list(chosen.samples)
    if limit is not None and limit < len(samples):
        places = sorted(Random(seed).sample(range(len(samples)), limit))
        samples = [samples[place] for place in places]
    folder = out or Path("bench") / f"{chosen.name}-{'-'.join(contestants)}"
    said = manifest(chosen, samples, contestants, judge, seed, attempts, max_dollars)
    return complete(
        studied(
            chosen,
            samples,
            contestants,
            judge,
            attempts,
            max_dollars,
            folder,
            said,
            at_once,
            find_configuration(config),
        )
    )


def find_task(name: str) -> Task:
    """The task of that name. Raises `InputError`."""
    if name == "demo":
        from partsong.bench.tasks.exact import demo

        return demo()
    raise InputError(f'there is no task "{name}"; known: demo')


def manifest(
    task: Task,
    samples: list[Sample],
    contestants: dict[str, Recipe],
    judge: str | None,
    seed: int,
    attempts: int,
    max_dollars: Decimal | None,
) -> dict[str, Any]:
    """What makes this study the one that it is."""
    return {
        "task": task.name,
        "data": hashlib.sha256(msgspec.json.encode(samples)).hexdigest(),
        "prompts": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in task.prompts.items()},
        "samples": [sample.id for sample in samples],
        "recipes": contestants,
        "judge": judge,
        "seed": seed,
        "attempts": attempts,
        "max_dollars": max_dollars,
        "versions": {"partsong": version("partsong"), "python": sys.version.partition(" ")[0]},
    }


async def studied(
    task: Task,
    samples: list[Sample],
    contestants: dict[str, Recipe],
    judge: str | None,
    attempts: int,
    max_dollars: Decimal | None,
    place: Path,
    said: dict[str, Any],
    at_once: int,
    configuration: Configuration,
) -> int:
    """Perform the study and print its table; return the exit code."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_journal(configuration))
        ids = [name for recipe in contestants.values() for name in recipe.models] + ([judge] if judge else [])
        with Downloads(sys.stderr) as downloads:
            models = await stack.enter_async_context(assemble(ids, configuration, fetching=downloads.hear, store=store))
        folder = Folder(place, said)
        stack.callback(folder.close)
        purse = None
        if max_dollars is not None:
            spent = sum(
                (each.usage.dollars or Decimal(0) for each in (*folder.outputs.all, *folder.grades.all)), Decimal(0)
            )
            purse = Purse({"": max(max_dollars - spent, Decimal(0))})
        grader = None
        if judge is not None:
            model = models[judge] if purse is None else Budget(models[judge], purse, provider_of(judge))

            async def ask(request: Request) -> Answer:
                return await model(msgspec.structs.replace(request, terms=Terms(cache=True)), None)

            grader = Judge(judge, ask)

        def record() -> tuple[Emit, Any]:
            recorder = store.record()
            return recorder.hear, recorder.close

        study = Study(
            task,
            samples,
            contestants,
            models,
            folder,
            judge=grader,
            attempts=attempts,
            funds=daily_funds(configuration, store),
            purse=purse,
            record=record,
        )
        with Progress(study):
            await study.perform(at_once)
    report(study)
    if study.stopped:
        say(f"stopped: {study.stopped}; start it again to go on")
    elif study.failed:
        say(
            f"{len(study.failed):,} of {len(study.keys):,} failed ({next(iter(study.failed.values()))}); start it again"
        )
    return 1 if study.stopped or study.failed else 0


def report(study: Study) -> None:
    """The table of all contestants, and what the task says of each."""
    from partsong.bench.statistics.intervals import mean_interval

    rows, words = [], []
    for name in study.contestants:
        keys = [key for key in study.keys if key[0] == name]
        outputs = [study.outputs[key] for key in keys if key in study.outputs]
        grades = [study.grades[key] for key in keys if key in study.grades]
        used = total(outputs)
        value, count = "-", 0
        if grades:
            mean = mean_interval([grade.value for grade in grades], [key_of(grade)[1] for grade in grades])
            value, count = f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]", mean.n
        failed = sum(key in study.failed for key in keys)
        seconds = sum(output.seconds for output in outputs)
        tokens = used.input_tokens + used.output_tokens
        rows.append((name, value, f"{count:,}", f"{failed:,}", dollars(used.dollars), f"{seconds:,.1f}", f"{tokens:,}"))
        if said := study.task.summarise(grades, outputs):
            words.append(f"{name}: " + ", ".join(f"{what} {figure:.3f}" for what, figure in said.items()))
    print_table(("recipe", "value", "n", "failed", "dollars", "seconds", "tokens"), rows)
    for line in words:
        print(single_line(line, sys.stdout.encoding))


class Progress:
    """How far a study is, on one line of a terminal that is written again and again; elsewhere nothing."""

    PAUSE = 0.2  # seconds

    def __init__(self, study: Study) -> None:
        self.study = study
        self.shown = sys.stderr.isatty()
        self.timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self.draw()

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.shown:
            print(f"\r\x1b[K{self.words()}", file=sys.stderr, flush=True)

    def draw(self) -> None:
        if self.shown:
            print(f"\r\x1b[K{self.words()}", end="", file=sys.stderr, flush=True)
            self.timer = asyncio.get_running_loop().call_later(self.PAUSE, self.draw)

    def words(self) -> str:
        study = self.study
        left = "" if study.seconds_left is None else f" · about {study.seconds_left:,.0f} s left"
        failed = f", {len(study.failed):,} failed" if study.failed else ""
        tokens = study.used.input_tokens + study.used.output_tokens
        price = "price unknown" if study.used.dollars is None else dollars(study.used.dollars)
        return f"{study.done:,} of {len(study.keys):,} graded{failed} · {tokens:,} tokens · {price}{left}"


def say(what: str) -> None:
    """A line on standard error."""
    print(f"partsong: {single_line(what, sys.stderr.encoding)}", file=sys.stderr)
