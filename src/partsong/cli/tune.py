"""`partsong tune`: finds the recipe that is worth its price on your own prompts, or says that none is."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from partsong.assembly import info_without_model
from partsong.bench.baselines import family
from partsong.bench.contestant import Contestant
from partsong.bench.estimate import Estimate, Lengths, of_contestant, of_judge, total_of
from partsong.bench.task import Sample, Task
from partsong.bench.tasks.judged import Preference, Rubric
from partsong.bench.tune.splitting import Split, split
from partsong.cli.cost import cells, usual_tokens
from partsong.cli.loop import complete
from partsong.cli.options import (
    AT_ONCE,
    Config,
    DryRun,
    Grading,
    JudgeId,
    Limit,
    MaxDollarsInAll,
    SamplesAtOnce,
    Seed,
    TaskName,
)
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress, say
from partsong.cli.study import Options, find_task, need_statistics, open_study, spent_by
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.configuration import find_configuration
from partsong.errors import InputError
from partsong.model_info import ModelInfo
from partsong.money.planning import lines_for
from partsong.money.typical import is_priced

if TYPE_CHECKING:
    from partsong.bench.tune.search import Search

ANSWERS = 5  # default number of answers of each model to each prompt of the first part
MOST_ANSWERS = 15
MOST_MODELS = 20  # each pair of models is a cascade, so the number of recipes grows with the square
LEAST_PROMPTS = 20  # different prompts; with fewer, the test could hardly show any difference


def tune(
    prompts: TaskName,
    /,
    *,
    models: Annotated[str, Parameter(metavar="A,B,…", help="Models to choose from, at least two.")],
    max_dollars: MaxDollarsInAll = None,
    judge: JudgeId = None,
    grade: Grading = None,
    answers: Annotated[
        int,
        Parameter(
            metavar="N",
            help=f"Answers of each model to each prompt of the first part, from 2 to {MOST_ANSWERS}. "
            f"Default: {ANSWERS}.",
        ),
    ] = ANSWERS,
    limit: Limit = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        Parameter(name=("--out", "-o"), metavar="FOLDER", help="Folder for the results. Default: tune/PROMPTS."),
    ] = None,
    at_once: SamplesAtOnce = AT_ONCE,
    dry_run: DryRun = False,
    config: Config = None,
) -> int:
    """Find the recipe that is worth its price on your prompts, or say that none is."""
    ids = tuple(each.strip() for each in models.split(","))
    need_statistics()
    task = graded_task(prompts, grade, judge)
    options = Options(
        recipe=(),
        grade=grade,
        limit=limit,
        seed=seed,
        judge=judge if task.needs_judge else None,
        max_dollars=max_dollars,
        out=out or Path("tune") / Path(prompts).stem,
        at_once=at_once,
        config=config,
        dry_run=dry_run,
    )
    options.check()
    check_models(ids, options.judge)
    if not 2 <= answers <= MOST_ANSWERS:
        raise InputError(f"--answers is {answers}, but must be from 2 to {MOST_ANSWERS}")
    parts = split(options.drawn(task.samples), seed)
    if (count := len(parts.choose) + len(parts.held)) < LEAST_PROMPTS:
        raise InputError(
            f"{prompts}: has {count} different prompts, but a search needs at least {LEAST_PROMPTS}: "
            "with fewer, no test could show a difference"
        )
    return complete(tuned(task, parts, ids, answers, options))


def graded_task(prompts: str, grade: str | None, judge: str | None) -> Task:
    """Return the task, in a form in which each single answer gets a grade.

    Prompts without right answers are graded by the judge from 1 to 10. Raises `InputError` if the judge is missing.
    """
    task = find_task(prompts, grade)
    if isinstance(task, Preference) and not task.grades:
        task = Rubric(task.name, task.samples)
    if task.needs_judge and judge is None:
        raise InputError(
            f"{prompts}: not every prompt has a `reference` with the right answer, so a model must judge: "
            "name it with --judge"
        )
    return task


def check_models(ids: Sequence[str], judge: str | None) -> None:
    """Raise `InputError` for too few or too many models, a repeated one, or a judge of the family of one of them."""
    if len(ids) < 2 or not all(ids):
        raise InputError("--models: a search needs at least two models, with commas between their ids")
    if len(ids) > MOST_MODELS:
        raise InputError(f"--models: names {len(ids)} models, but a search takes at most {MOST_MODELS}")
    if repeated := [name for name in dict.fromkeys(ids) if ids.count(name) > 1]:
        raise InputError(f"--models: {repeated[0]} is named twice")
    if judge is not None and (own := [name for name in ids if family(name) == family(judge)]):
        raise InputError(
            f"--judge {judge}: is of the family of {', '.join(own)}, and judges favour their own family; "
            "name a judge of another family"
        )


async def tuned(task: Task, parts: Split, models: Sequence[str], answers: int, options: Options) -> int:
    """Say what can be seen and what it costs, perform the search, and print its result; return the exit code."""
    from partsong.bench.tune.search import Search, as_plain, members_of
    from partsong.bench.tune.sentences import cautions, detectable, sentence
    from partsong.bench.tune.statements import statement
    from partsong.bench.tune.writing import write_all

    votes = not task.needs_judge and all(sample.reference for sample in task.samples)
    forecast = await forecast_of(task, parts, models, answers, options, votes=votes)
    for line in opening(parts, detectable(parts)):
        print(single_line(line, sys.stdout.encoding), flush=True)
    forecast.show(options)
    if options.dry_run:
        print("Nothing was asked.")
        return 0
    forecast.check(options)
    contestants = {name: contestant for name, (contestant, _) in members_of(models, answers).items()}
    async with open_study(task, options, contestants, tune={"held_out": parts.digest, "answers": answers}) as study:
        search = Search(study, parts, models, answers, statement, votes=votes)
        for line in search.warnings():
            print(single_line(line, sys.stdout.encoding), flush=True)
        with Progress(lambda: progress_of(search)):
            result = await search.perform(options.at_once)
        if result is None:
            say(f"stopped: {study.stopped}; start it again to go on")
            return 1
        study.folder.remember("result", as_plain(result))
        written = write_all(search, result, command_of(task, models, answers, options))
    said = [sentence(result), *cautions(result, "" if search.choice is None else search.choice.finalist.name)]
    for line in (*said, f"{spent_by(study)}; written to {options.out}: {', '.join(written)}"):
        print(single_line(line, sys.stdout.encoding))
    return 0


def opening(parts: Split, detectable: Sequence[str]) -> list[str]:
    """Return what is said before anything is paid: the split, and which difference can be seen."""
    strata = f", in equal shares of each {parts.stratum}" if parts.stratum else ""
    repeated = f"; {parts.repeated:,} repeated ones are left out" if parts.repeated else ""
    return [
        f"{len(parts.choose):,} prompts to choose on and {len(parts.held):,} held out{strata}{repeated}.",
        *detectable,
    ]


def progress_of(search: "Search") -> str:
    """Return the progress of a search as a line of text."""
    done, planned, left = search.progress
    rest = "" if not left else f" · about {left:,.0f} s left"
    failed = f", {len(search.study.failed):,} failed" if search.study.failed else ""
    return f"{search.stage}: {done:,} of {planned:,} done{failed} · {spent_by(search.study)}{rest}"


def command_of(task: Task, models: Sequence[str], answers: int, options: Options) -> str:
    """Return the command line that repeats the search, without the cap in dollars."""
    words = ["partsong", "tune", f"{task.name}.jsonl", "--models", ",".join(models), "--seed", str(options.seed)]
    if options.judge:
        words += ["--judge", options.judge]
    if options.limit is not None:
        words += ["--limit", str(options.limit)]
    return shlex.join([*words, "--answers", str(answers)])


class Forecast:
    """What a search will cost. `parts`: its stages; `unknown`: ids of the models whose price is unknown."""

    def __init__(self, parts: Sequence[Estimate], unknown: Sequence[str]) -> None:
        self.parts, self.unknown = parts, unknown
        self.whole = total_of(parts)

    def show(self, options: Options) -> None:
        """Print the calls and prices of each stage."""
        rows = [
            (each.what, f"{each.calls:,}", *cells(each.typical), *cells(each.most))
            for each in (*self.parts, self.whole)
        ]
        print_table(("", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"), rows)
        if self.unknown:
            print(single_line(f"The price of {', '.join(self.unknown)} is unknown.", sys.stdout.encoding))
        cap, typical = options.max_dollars, self.whole.typical.dollars
        if cap is not None and typical is not None and cap < typical:
            print(f"--max-dollars {dollars(cap)} typically pays for about {cap / typical:.0%} of it.")

    def check(self, options: Options) -> None:
        """Raise `InputError` if the cap needs a price that is unknown, or does not even pay for the pool."""
        cap = options.max_dollars
        if cap is None:
            return
        if self.unknown:
            raise InputError(
                f"--max-dollars {cap}: the price of {', '.join(self.unknown)} is unknown; in partsong.toml, say what "
                f"a million tokens cost:{''.join(map(lines_for, self.unknown))}"
            )
        pool = self.parts[0].typical.dollars
        if pool is not None and cap < pool:
            raise InputError(
                f"--max-dollars {cap}: the pool alone typically costs {dollars(pool)}; allow more, ask for fewer "
                "--answers, or take fewer prompts with --limit"
            )


async def forecast_of(
    task: Task, parts: Split, models: Sequence[str], answers: int, options: Options, *, votes: bool
) -> Forecast:
    """Return what the pool, the race, the test and the judge cost, typically and at most. No model is called."""
    from partsong.bench.tune.candidates import racers_of
    from partsong.bench.tune.halving import rungs
    from partsong.bench.tune.search import members_of, unmeasured

    configuration = find_configuration(options.config)
    judge = [options.judge] if options.judge else []
    info = {name: info_without_model(name, configuration) for name in (*models, *judge)}
    usual = await usual_tokens((*models, *judge))
    priced = Pricing(info, usual)
    pool = [
        priced.runs(name, contestant, parts.choose, count)
        for name, (contestant, count) in members_of(models, answers).items()
    ]
    racers = racers_of(unmeasured(models, answers), votes=votes)
    ends = rungs(len(parts.choose), len(racers))
    race = [priced.runs(racer.name, Contestant(racer), parts.choose[: ends[0]], 1) for racer in racers]
    # Half of the recipes leave after each rung, and each rung has twice the prompts: each costs about as much.
    race = [each for each in race for _ in ends] if len(ends) < 3 else [*race, *race, *race[: len(race) // 2]]
    test = [priced.runs(racer.name, Contestant(racer), parts.held, 1) for racer in racers]
    dearest = max(test, key=lambda each: each.most.dollars or 0)
    stages = [stage("pool", pool), stage("race, at most", race), stage("test, at most", [dearest, dearest])]
    if options.judge:
        lengths = Lengths(*(max(getattr(each, of) for each in priced.lengths) for of in ("typical", "most")))
        runs = sum(count for _, count in members_of(models, answers).values()) + len(racers)
        judged: list[tuple[Sequence[Sample], int]] = [(parts.choose, runs), (parts.held, 2)]
        stages.append(
            stage(
                f"judge {options.judge}",
                [of_judge(task, of, n, [lengths], options.judge, info[options.judge], usual) for of, n in judged],
            )
        )
    return Forecast(stages, [name for name in info if not is_priced(info[name])])


class Pricing:
    """Estimates runs. `lengths`: lengths of the answers so far."""

    def __init__(self, info: Mapping[str, ModelInfo], usual: Mapping[str, int]) -> None:
        self.info, self.usual = info, usual
        self.lengths: list[Lengths] = []

    def runs(self, name: str, contestant: Contestant, samples: Sequence[Sample], times: int) -> Estimate:
        """Return the cost of `times` answers of a contestant to each sample."""
        found, lengths = of_contestant(name, contestant, samples, times, self.info, self.usual)
        self.lengths.append(lengths)
        return found


def stage(name: str, parts: Sequence[Estimate]) -> Estimate:
    """Return the sum of the parts of a stage, under its name."""
    whole = total_of(parts)
    return Estimate(name, whole.calls, whole.typical, whole.most)
