"""`partsong bench run`: recipes answer the samples of a task, and their answers are graded."""

import sys
from itertools import combinations

from partsong.bench.contestant import Contestant
from partsong.bench.runner import Study, total
from partsong.bench.task import Task
from partsong.cli.dry_run import forecast
from partsong.cli.loop import complete
from partsong.cli.options import TaskName
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress
from partsong.cli.standings import Standings
from partsong.cli.study import Options, ended, find_task, judge_notes, need_statistics, open_study, progress_of
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.errors import InputError


def bench_run(
    task: TaskName,
    /,
    *,
    options: Options,
) -> int:
    """Let recipes answer a task, and grade them."""
    options.check()
    need_statistics()
    chosen = find_task(task, options.grade, options.data)
    if not chosen.grades:
        raise InputError(
            f"{task}: graded pairwise, each prompt needs a reference to compare with; "
            "to compare recipes with each other, use partsong compare"
        )
    if chosen.needs_judge and options.judge is None:
        raise InputError(f"{task}: a model must judge: name it with --judge")
    if options.dry_run:
        return complete(estimated(chosen, options))
    return complete(studied(chosen, options))


async def estimated(task: Task, options: Options) -> int:
    """Print what the study would cost; return the exit code."""
    contestants = {name: Contestant(recipe) for name, recipe in options.recipes().items()}
    found = forecast(task, options, contestants)
    await found.contestants(contestants)
    if task.needs_judge:
        found.judge([(found.lengths[name],) for name in contestants])
    found.show()
    return 0


async def studied(task: Task, options: Options) -> int:
    """Let the recipes answer and grade all samples, and print the result; return the exit code."""
    contestants = {name: Contestant(recipe) for name, recipe in options.recipes().items()}
    async with open_study(task, options, contestants) as study:
        with Progress(lambda: progress_of(study)):
            await study.perform(options.at_once)
    report(study)
    return ended(study)


def report(study: Study) -> None:
    """Print a table of all contestants and the task's own figures, and write the report into the study's folder.

    The column "dollars" has the cost of the contestants, and "judging" that of the judge.
    """
    from partsong.bench.comparison import quality, values_of
    from partsong.bench.study_report import write_report

    rows, words = [], []
    for name in study.contestants:
        keys = [key for key in study.keys if key[0] == name]
        outputs = [study.outputs[key] for key in keys if key in study.outputs]
        grades = {key: study.grades[key] for key in keys if key in study.grades}
        value, count = "-", 0
        if grades:
            mean = quality(values_of(grades.values(), name), study.task.scale)
            value, count = f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]", mean.n
        failed = sum(key in study.failed for key in keys)
        used = total([output.usage for output in outputs])
        judged = total([grade.usage for grade in grades.values()])
        tokens = used.input_tokens + used.output_tokens
        cells = (value, f"{count:,}", f"{failed:,}", dollars(used.dollars), dollars(judged.dollars))
        rows.append((name, *cells, seconds_of(study, name), f"{tokens:,}"))
        if said := study.task.summarise(list(grades.values()), outputs):
            words.append(f"{name}: " + ", ".join(f"{what} {figure:.3f}" for what, figure in said.items()))
    words += counted(study)
    headings = ("recipe", "value", "n", "failed", "dollars", "judging", "seconds each", "tokens")
    print_table(headings, rows)
    standings = standings_of(study)
    if standings is not None:
        standings.show()
    words += judge_notes(study, study.grades.values())
    for line in words:
        print(single_line(line, sys.stdout.encoding))
    title = f"{study.task.name}: {len(study.contestants)} contestants"
    more, first = ((), "") if standings is None else (standings.sections, standings.headline)
    write_report(study, title, words, more=more, first=first)


def counted(study: Study) -> list[str]:
    """Return a sentence for each recipe that votes or agrees: how its runs were decided, and what was spared."""
    from partsong.bench.counts import sentence

    known = {name: study.counts(name) for name in study.contestants}
    return [sentence(study.contestants[name].recipe, counts) for name, counts in known.items() if counts is not None]


def standings_of(study: Study) -> Standings | None:
    """Return win rates and matrix of a study with a judge; `None` without a judge.

    If each grade is the judge's preference for the answer over a reference, the reference counts as an opponent.
    Otherwise the higher of two grades wins.
    """
    from partsong.bench.comparison import difference, values_of
    from partsong.bench.wins import duels_of_grades

    if study.judge is None:
        return None
    values = {name: graded for name in study.contestants if (graded := values_of(study.grades.values(), name))}
    against = study.task.scale == (0.0, 1.0)
    if against:
        values["reference"] = {attempt: 0.5 for graded in values.values() for attempt in graded}
    differences = [difference(*pair, values[pair[0]], values[pair[1]], study.seed) for pair in combinations(values, 2)]
    duels = duels_of_grades(values)
    if against:  # the preference itself, and not only which side it is on
        duels = {**duels, **{(name, "reference"): values[name] for name in values if name != "reference"}}
    return Standings(study, duels, [each for each in differences if each is not None])


def seconds_of(study: Study, name: str) -> str:
    """Return a contestant's mean seconds of an answer as text; "?" if no duration is known.

    Answers that came from the store, in whole or in part, have no duration.
    """
    timed = [output.seconds for key, output in study.outputs.items() if key[0] == name and output.seconds is not None]
    return f"{sum(timed) / len(timed):,.1f}" if timed else "?"
