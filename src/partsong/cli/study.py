"""The parts that `bench run`, `compare` and `paper` share: options, finding the task, and opening the study."""

import hashlib
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from msgspec.structs import replace

from partsong.assembly import assemble, daily_funds, open_journal
from partsong.bench.baselines import related
from partsong.bench.contestant import Contestant
from partsong.bench.folder import Folder
from partsong.bench.runner import Study
from partsong.bench.task import Grade, Judge, Sample, Task, Verdict
from partsong.cli.downloads import Downloads
from partsong.cli.options import (
    AT_ONCE,
    Config,
    Data,
    DryRun,
    Grading,
    JudgeId,
    Limit,
    MaxDollarsInAll,
    SamplesAtOnce,
    Seed,
    UseCache,
    without_tools,
)
from partsong.cli.progress import say
from partsong.cli.summary import dollars
from partsong.configuration import find_configuration
from partsong.engine.performance import Emit
from partsong.errors import ConfigurationError, InputError
from partsong.model import Answer, Request, Terms
from partsong.recipe import Recipe
from partsong.recipes.finding import named_recipe

# Public tasks. Each has a module of its name in `partsong.bench.tasks`, with a function of the same name.
PUBLIC = ("alpaca_eval", "mt_bench", "flask", "arena_hard")
MEASURED_WITH = ("partsong", "numpy", "scipy")  # packages whose versions are in the manifest


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a study."""

    recipe: Annotated[
        tuple[str, ...],
        Parameter(
            name=("--recipe", "-r"),
            metavar="NAME|FILE",
            consume_multiple=False,
            help="Recipe that answers the task; repeat for more.",
        ),
    ]
    grade: Grading = None
    data: Data = None
    limit: Limit = None
    seed: Seed = 0
    attempts: Annotated[
        int, Parameter(metavar="N", help="Number of answers to each sample, each with its own seed. Default: 1.")
    ] = 1
    judge: JudgeId = None
    max_dollars: MaxDollarsInAll = None
    out: Annotated[
        Path | None,
        Parameter(name=("--out", "-o"), metavar="FOLDER", help="Folder for the results. Default: bench/TASK-RECIPES."),
    ] = None
    at_once: SamplesAtOnce = AT_ONCE
    cache: UseCache = True
    dry_run: DryRun = False
    config: Config = None

    def check(self) -> None:
        """Raise `InputError` if a number or the cap in dollars is out of range."""
        for name, value in (("--at-once", self.at_once), ("--attempts", self.attempts), ("--limit", self.limit)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}, but must be at least 1")
        if self.max_dollars is not None and not (self.max_dollars.is_finite() and self.max_dollars >= 0):
            raise InputError(f"--max-dollars is {self.max_dollars}, but must be 0 dollars or more")

    def recipes(self) -> dict[str, Recipe]:
        """Read the recipes, and return them by name. Raises `InputError` if two recipes have the same name."""
        found: dict[str, Recipe] = {}
        for name in self.recipe:
            recipe = without_tools(named_recipe(name))
            if recipe.name in found:
                raise InputError(f"--recipe {name}: there is another {recipe.name}; each needs a name of its own")
            found[recipe.name] = recipe
        return found

    def drawn(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples; with `limit`, a random choice of `limit` samples, drawn with the seed, in their order."""
        if self.limit is None or self.limit >= len(samples):
            return list(samples)
        return [samples[index] for index in sorted(Random(self.seed).sample(range(len(samples)), self.limit))]


def find_task(name: str, grade: str | None, data: Path | None = None) -> Task:
    """Return the task with this name, or the task of this file of prompts.

    name: name of an included or public task, or path of a .jsonl or .csv file
    grade: how answers to a file of prompts are graded; `None` for the default
    data: folder with the files of a public task

    Raises `InputError` if there is no such task, if its files are missing or wrong, or if `grade` or `data` is not for
    this kind of task.
    """
    if name.endswith((".jsonl", ".csv")):
        from partsong.bench.tasks.own import own_task

        if data is not None:
            raise InputError(f"--data {data}: the prompts are in {name}; --data is for {', '.join(PUBLIC)}")
        return own_task(Path(name), grade)
    if grade is not None:
        raise InputError(f"--grade {grade}: the task {name} says itself how it is graded; --grade is for files")
    from partsong.bench.tasks.exact import SHIPPED, shipped

    if name in PUBLIC:
        module = importlib.import_module(f"partsong.bench.tasks.{name}")
        public: Task = getattr(module, name)(data)
        return public
    if data is not None:
        raise InputError(f"--data {data}: is for {', '.join(PUBLIC)}, not for {name}")
    if name in SHIPPED:
        return shipped(name)
    raise InputError(
        f'there is no task "{name}"; known: {", ".join((*SHIPPED, *PUBLIC))} (a file of prompts ends in .jsonl or .csv)'
    )


@asynccontextmanager
async def open_study(
    task: Task, options: Options, contestants: Mapping[str, Contestant], more: Sequence[str] = (), **said: Any
) -> AsyncIterator[Study]:
    """Open a study until the block is left: its models can be called, and the files of its folder are open.

    contestants: contestants by name
    more: ids of further models to assemble; none by default
    said: further fields of the manifest

    Raises `InputError` before any model is called if the folder belongs to another study or cannot be written.
    """
    judge, configuration = options.judge, find_configuration(options.config)
    samples = options.drawn(task.samples)
    path = options.out or Path("bench") / f"{task.name}-{'-'.join(contestants)}"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_journal(configuration))
        ids = [name for each in contestants.values() for name in each.recipe.models] + [
            *more,
            *([judge] if judge else []),
        ]
        with Downloads(sys.stderr) as downloads:
            models = await stack.enter_async_context(assemble(ids, configuration, fetching=downloads.hear, store=store))
        folder = Folder(path, manifest(task, samples, contestants, options) | said, options.max_dollars)
        stack.callback(folder.close)
        folder.keep_samples(samples)

        async def ask(request: Request) -> Answer:
            assert judge is not None
            if not options.cache:
                request = replace(request, terms=Terms(cache=False))
            return await folder.money.pay(models[judge], request, f"the judge {judge}")

        def record() -> tuple[Emit, Callable[[], Awaitable[object]]]:
            recorder = store.record(source="bench")
            return recorder.hear, recorder.close

        yield Study(
            task,
            samples,
            contestants,
            models,
            folder,
            judge=None if judge is None else Judge(judge, ask),
            attempts=options.attempts,
            seed=options.seed,
            daily=daily_funds(configuration, store),
            record=record,
            cache=options.cache,
        )
    if store.problem is not None:
        say(f"calls are not kept, so that a study that is stopped begins its open samples anew: {store.problem}")


def manifest(
    task: Task, samples: Sequence[Sample], contestants: Mapping[str, Contestant], options: Options
) -> dict[str, Any]:
    """Return the manifest: the fields by which a later start recognises the same study, and versions of packages."""
    return {
        "task": task.name,
        "data": hashlib.sha256(msgspec.json.encode(samples)).hexdigest(),
        "prompts": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in task.prompts.items()},
        "samples": [sample.id for sample in samples],
        "contestants": contestants,
        "judge": options.judge,
        "seed": options.seed,
        "attempts": options.attempts,
        "versions": {"python": sys.version.partition(" ")[0], **{name: _version(name) for name in MEASURED_WITH}},
    }


def _version(package: str) -> str | None:
    """Return the installed version of a package; `None` if the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def need_statistics() -> None:
    """Raise `ConfigurationError` if a package for computing and drawing the results is missing."""
    if lacking := [name for name in ("numpy", "scipy", "matplotlib", "rapidfuzz") if find_spec(name) is None]:
        raise ConfigurationError(
            f"this needs the extra `bench`: pip install 'partsong[bench]' ({', '.join(lacking)} not found)"
        )


def judge_notes(study: Study, verdicts: Iterable[Verdict | Grade]) -> list[str]:
    """Return what a reader must know of the judge: its preference for a place, and contestants of its own family.

    verdicts: verdicts of the judge, or grades that come from comparisons with a reference

    Empty for a study without a judge.
    """
    from partsong.bench.diagnosis import order_bias

    if study.judge is None:
        return []
    bias = order_bias(verdicts)
    notes = [] if bias is None else [bias.words()]
    if own_kind := related(study.judge.id, (each.recipe for each in study.contestants.values())):
        notes.append(f"take care: the judge {study.judge.id} is of the family of {', '.join(own_kind)}")
    return notes


def ended(study: Study) -> int:
    """Print whether the study was stopped or has failures; return the exit code, which is 1 in both cases."""
    if study.stopped:
        say(f"stopped: {study.stopped}; start it again to go on")
    elif study.failed:
        first = next(iter(study.failed.values()))
        say(f"{len(study.failed):,} of {study.planned:,} failed ({first}); start it again to retry")
    return 1 if study.stopped or study.failed else 0


def progress_of(study: Study) -> str:
    """Return the progress of a study as a line of text.

    The dollars are those that have been paid, so an answer from the store adds nothing.
    """
    left = "" if not study.seconds_left else f" · about {study.seconds_left:,.0f} s left"
    failed = f", {len(study.failed):,} failed" if study.failed else ""
    return f"{study.done:,} of {study.planned:,} done{failed} · {spent_by(study)}{left}"


def spent_by(study: Study) -> str:
    """Return the dollars that a study has spent in all its starts as text, with its cap if there is one."""
    money = study.folder.money
    cap = "" if money.cap is None else f" of {dollars(money.cap)}"
    unknown = ", and calls of unknown price" if study.unpriced else ""
    return f"{dollars(money.settled)}{cap} spent{unknown}"
