"""`partsong bench run`: recipes answer the samples of a task, and their answers are graded."""

import sys

from partsong.bench.contestant import Contestant
from partsong.bench.runner import Study, total
from partsong.bench.task import Task
from partsong.cli.loop import complete
from partsong.cli.options import TaskName
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress
from partsong.cli.study import Options, ended, find_task, need_statistics, open_study, progress_of
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
    return complete(studied(chosen, options))


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
    headings = ("recipe", "value", "n", "failed", "dollars", "judging", "seconds each", "tokens")
    print_table(headings, rows)
    for line in words:
        print(single_line(line, sys.stdout.encoding))
    write_report(study, f"{study.task.name}: {len(study.contestants)} contestants", words)


def seconds_of(study: Study, name: str) -> str:
    """Return a contestant's mean seconds of an answer as text; "?" if no duration is known.

    Answers that came from the store, in whole or in part, have no duration.
    """
    timed = [output.seconds for key, output in study.outputs.items() if key[0] == name and output.seconds is not None]
    return f"{sum(timed) / len(timed):,.1f}" if timed else "?"
