"""`partsong paper`: runs the experiments of the Mixture-of-Agents paper on any models."""

import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from msgspec import to_builtins

from partsong.bench.contestant import Contestant
from partsong.bench.paper.exhibits import EXHIBITS, MAX_TOKENS, Cast, Exhibit, Row
from partsong.bench.paper.numbers import CAUTIONS, FIGURE_3, FIGURE_5, INCONSISTENT, known_as
from partsong.bench.runner import Study
from partsong.bench.task import Task, dollars_an_answer
from partsong.cli.loop import complete
from partsong.cli.options import (
    AT_ONCE,
    Config,
    Data,
    Grading,
    JudgeId,
    Limit,
    MaxDollarsInAll,
    SamplesAtOnce,
    Seed,
)
from partsong.cli.printable import single_line
from partsong.cli.progress import Progress
from partsong.cli.study import Options, ended, find_task, need_statistics, open_study, progress_of
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.errors import InputError
from partsong.toml import closest

if TYPE_CHECKING:
    from partsong.bench.paper.measures import Measured

PAPERS_MODELS = (
    "together:Qwen/Qwen1.5-110B-Chat",
    "together:Qwen/Qwen1.5-72B-Chat",
    "together:microsoft/WizardLM-2-8x22B",
    "together:meta-llama/Llama-3-70b-chat-hf",
    "together:mistralai/Mixtral-8x22B-Instruct-v0.1",
    "together:databricks/dbrx-instruct",
)
# A table as headings, cells of each row as text, and each row as plain values for the figure and the study's folder.
Table = tuple[list[str], list[list[str]], list[dict[str, Any]]]
GAMED = "length-controlled win rates can be gamed: a constant answer that says nothing reaches 86.5 (NullModel)"


def paper(
    exhibit: Annotated[
        str | None, Parameter(metavar="TABLE|FIGURE", help="Table or figure to reproduce. Without one: list them all.")
    ] = None,
    /,
    *,
    models: Annotated[
        str | None, Parameter(metavar="A,B,…", help="Models that propose. Default: the six of the paper.")
    ] = None,
    aggregator: Annotated[
        str | None, Parameter(metavar="MODEL", help="Model that aggregates. Default: the first that proposes.")
    ] = None,
    others: Annotated[
        str | None, Parameter(metavar="A,B,…", help="More models to compare with, alone and as aggregators.")
    ] = None,
    task: Annotated[
        str | None, Parameter(metavar="TASK|FILE", help="Task to answer. Default: the one in the paper.")
    ] = None,
    grade: Grading = None,
    data: Data = None,
    limit: Limit = None,
    seed: Seed = 0,
    judge: JudgeId = None,
    max_tokens: Annotated[
        int, Parameter(metavar="N", help=f"Most tokens of each answer. Default: {MAX_TOKENS}.")
    ] = MAX_TOKENS,
    max_dollars: MaxDollarsInAll = None,
    out: Annotated[
        Path | None,
        Parameter(name=("--out", "-o"), metavar="FOLDER", help="Folder for the results. Default: paper/NAME."),
    ] = None,
    at_once: SamplesAtOnce = AT_ONCE,
    config: Config = None,
) -> int:
    """Run one of the paper's experiments, and print the result beside the paper's numbers."""
    if exhibit is None:
        print_table(
            ("name", "what", "on", "measured"),
            [(each.name, each.title, each.task, each.measure) for each in EXHIBITS.values()],
        )
        return 0
    if exhibit not in EXHIBITS:
        known = ", ".join(EXHIBITS)
        raise InputError(f'the paper has no "{exhibit}" to run; known: {known}{closest(exhibit, list(EXHIBITS))}')
    chosen = EXHIBITS[exhibit]
    options = Options(
        recipe=(),
        grade=grade,
        data=data,
        limit=limit,
        seed=seed,
        judge=judge,
        max_dollars=max_dollars,
        out=out or Path("paper") / chosen.name,
        at_once=at_once,
        config=config,
    )
    options.check()
    need_statistics()
    proposers = _ids(models, "--models") or PAPERS_MODELS
    if len(proposers) < 2:
        raise InputError("--models: a mixture needs at least two")
    if max_tokens < 1:
        raise InputError(f"--max-tokens is {max_tokens}, but must be at least 1")
    cast = Cast(proposers, aggregator or proposers[0], _ids(others, "--others"), max_tokens)
    return complete(performed(chosen, chosen.rows(cast), task_of(chosen, task, options), options, cast))


def task_of(exhibit: Exhibit, name: str | None, options: Options) -> Task:
    """Return the task that the experiment runs on.

    name: name or file of a task; `None` for the task of the paper

    Raises `InputError` if the task does not grade single answers, if its judge is not named, or if an experiment about
    skills has another task than FLASK.
    """
    if name is None and exhibit.task == "math":
        raise InputError(
            f"{exhibit.name}: the paper ran it on MATH: name a file of its problems with --task math.jsonl"
        )
    task = find_task(name or exhibit.task, options.grade, options.data)
    if not task.grades:
        raise InputError(f"{name}: each prompt needs a reference to grade against; see docs/bench.md")
    if task.needs_judge and options.judge is None:
        raise InputError(f"{task.name}: a model must judge: name it with --judge")
    if exhibit.kind == "skills" and task.name != "flask":
        raise InputError(f"{exhibit.name}: shows the skills of the task flask; {task.name} has none")
    return task


async def performed(exhibit: Exhibit, rows: Sequence[Row], task: Task, options: Options, cast: Cast) -> int:
    """Run the experiment, and print and write its result; return the exit code.

    rows: rows of the experiment, whose recipes are the contestants
    cast: models of the experiment
    """
    contestants = {row.recipe.name: Contestant(row.recipe) for row in rows}
    async with open_study(task, options, contestants, exhibit=exhibit.name) as study:
        with Progress(lambda: progress_of(study)):
            await study.perform(options.at_once)
            if exhibit.kind == "rho":
                from partsong.bench.paper.uptake import grade_proposals

                await grade_proposals(study, options.at_once)
        report(exhibit, rows, study, ours=cast.proposers == PAPERS_MODELS)
    return ended(study)


def report(exhibit: Exhibit, rows: Sequence[Row], study: Study, *, ours: bool) -> None:
    """Print table and notes of the result, and write them with the figure into the study's folder.

    ours: whether the proposers are the paper's models
    """
    from partsong.bench.paper.drawing import draw

    print(f"{exhibit.name}: {exhibit.title}")
    headings, cells, plain = TABLES.get(exhibit.kind, _measured)(exhibit, rows, study)
    print_table(headings, cells)
    notes = [*_notes(exhibit, study, ours), *CAUTIONS]
    for note in notes:
        print(single_line(f"· {note}", sys.stdout.encoding))
    study.folder.remember("paper", to_builtins({"exhibit": exhibit.name, "rows": plain, "notes": notes}))
    drawn = draw(study.folder.path, exhibit, headings, cells, plain, notes)
    print(single_line(f"kept in {study.folder.path}: {', '.join(drawn)}", sys.stdout.encoding))


def _measured(exhibit: Exhibit, rows: Sequence[Row], study: Study) -> Table:
    """Return the table with the paper's number, the measured number and the mean cost of an answer for each row."""
    from partsong.bench.paper.measures import measure, outputs_of, unit_of, work_of
    from partsong.bench.pareto import front

    measured = [
        _MeasuredRow(
            row,
            measure(study, row.recipe.name),
            dollars_an_answer(outputs_of(study, row.recipe.name)),
            work_of(row.recipe),
        )
        for row in rows
    ]
    there = [each for each in measured if each.here is not None]
    by_price = front([(float(each.price or 0), each.value) for each in there])
    best = {each.name for each, on in zip(there, by_price, strict=True) if on}
    worked = [each for each in there if each.work is not None]
    by_work = front([(each.work or 0.0, each.value) for each in worked])
    quick = {each.name for each, on in zip(worked, by_work, strict=True) if on}
    headings = ["row", f"paper, {exhibit.measure}", f"here, {unit_of(study)}", "n", "calls", "dollars an answer"]
    if exhibit.kind == "cost":
        headings += ["paper's dollars", "GFLOPs a token", "paper's TFLOPs", "front", "front by compute"]
    cells = [each.cells(exhibit.kind == "cost", best, quick) for each in measured]
    return headings, cells, [each.plain(best, quick) for each in measured]


@dataclass(frozen=True, slots=True)
class _MeasuredRow:
    """A row of an experiment with its measurements.

    here: measured number with its interval; `None` if nothing was graded
    price: mean cost of an answer in dollars; `None` if a price is unknown
    work: GFLOPs for a token; `None` if the size of a model is unknown
    """

    row: Row
    here: "Measured | None"
    price: Decimal | None
    work: float | None

    @property
    def name(self) -> str:
        return self.row.recipe.name

    @property
    def value(self) -> float:
        return 0.0 if self.here is None else self.here.value

    def cells(self, cost: bool, best: Set[str], quick: Set[str]) -> list[str]:
        """Return the cells of the row as text.

        cost: whether the columns about cost and compute are included
        best: names of the rows on the Pareto front of quality against dollars
        quick: names of the rows on the Pareto front of quality against compute
        """
        row, here = self.row, self.here
        cells = [
            row.label,
            "–" if row.paper is None else f"{row.paper:g}",
            "–" if here is None else f"{here.value:.2f} [{here.low:.2f}, {here.high:.2f}]",
            "0" if here is None else f"{here.n:,}",
            f"{row.recipe.calls:,}",
            "?" if self.price is None else dollars(self.price),
        ]
        if not cost:
            return cells
        theirs = FIGURE_5.get(known_as(self.name) or self.name)
        return [
            *cells,
            "–" if theirs is None else f"${theirs[0]:g}",
            "?" if self.work is None else f"{self.work:,.1f}",
            "–" if theirs is None else f"{theirs[1]:g}",
            "yes" if self.name in best else "",
            "yes" if self.name in quick else "",
        ]

    def plain(self, best: Set[str], quick: Set[str]) -> dict[str, Any]:
        """Return the row as plain values, for the figure and the study's folder. `best` and `quick` as in `cells`."""
        plain: dict[str, Any] = to_builtins(
            {
                "row": self.row.label,
                "series": self.row.series,
                "layers": self.row.layers,
                "paper": self.row.paper,
                "here": self.here,
                "calls": self.row.recipe.calls,
                "dollars": self.price,
                "gflops_a_token": self.work,
                "front": self.name in best,
                "front_by_compute": self.name in quick,
            }
        )
        return plain


def _skills(exhibit: Exhibit, rows: Sequence[Row], study: Study) -> Table:
    """Return the table of FLASK's skills: a line for each skill, and for each row the paper's and the measured mean."""
    from partsong.bench.comparison import quality
    from partsong.bench.paper.measures import grades_of

    # Index in the tuples of `FIGURE_3`, which are MoA, the paper's aggregator alone, and GPT-4o.
    indices = [0, *({"Qwen1.5-110B": 1, "GPT-4o": 2}.get(known_as(row.label) or "") for row in rows[1:])]
    headings = ["skill"]
    for row, index in zip(rows, indices, strict=True):
        headings += [f"{row.label} in the paper"] * (index is not None) + [row.label]
    cells, plain = [], []
    for skill, theirs in FIGURE_3.items():
        line, kept = [skill], dict[str, Any](row=skill)
        for row, index in zip(rows, indices, strict=True):
            values = {
                (grade.sample, grade.attempt): grade.parts[skill]
                for grade in grades_of(study, row.recipe.name)
                if skill in grade.parts
            }
            mine = quality(values, study.task.scale) if values else None
            line += [f"{theirs[index]:.2f}"] if index is not None else []
            line.append("–" if mine is None else f"{mine.mean:.2f} [{mine.low:.2f}, {mine.high:.2f}] of {mine.n:,}")
            kept[row.label] = mine
            if index is not None:
                kept[f"{row.label} in the paper"] = theirs[index]
        cells.append(line)
        plain.append(to_builtins(kept))
    return headings, cells, plain


def _uptake(exhibit: Exhibit, rows: Sequence[Row], study: Study) -> Table:
    """Return the table of Spearman's rho: a line for each row, with the measured and the paper's rho by measure."""
    from partsong.bench.paper.uptake import MEASURES, papers, uptake

    headings = ["row", *(f"{name}{more}" for name in MEASURES for more in ("", ", paper"))]
    cells, plain = [], []
    for row in rows:
        found = uptake(study, row.recipe.name)
        theirs = papers(row)
        line = [row.label]
        for name in MEASURES:
            rho = found.get(name)
            line.append("–" if rho is None else f"{rho.mean:.2f} [{rho.low:.2f}, {rho.high:.2f}] of {rho.n:,}")
            line.append(f"{theirs[name]:.2f}" if name in theirs else "–")
        cells.append(line)
        plain.append(
            to_builtins({"row": row.label, "series": row.series, "layers": row.layers, "here": found, "paper": theirs})
        )
    return headings, cells, plain


TABLES = {"skills": _skills, "rho": _uptake}


def _notes(exhibit: Exhibit, study: Study, ours: bool) -> list[str]:
    """Return sentences on how far the paper's numbers can be compared with the measured numbers.

    ours: whether the proposers are the paper's models
    """
    notes = []
    if study.task.name != exhibit.task:
        notes.append(
            f"the paper's numbers are of {exhibit.task}, yours of {study.task.name}: compare what goes up, not how high"
        )
    if not ours:
        notes.append("the paper's numbers are of its own models, where a row does not name yours")
    if study.task.name == "alpaca_eval":
        notes.append(GAMED)
    if exhibit.kind == "cost":
        notes.append(
            "the paper counts TFLOPs for an answer, of the largest model of each layer; here it is GFLOPs for a token"
        )
    if exhibit.name in INCONSISTENT:
        notes.append(INCONSISTENT[exhibit.name])
    return notes


def _ids(given: str | None, option: str) -> tuple[str, ...]:
    """Split a list of model ids at its commas; empty for `None`.

    option: name of the option, for error messages

    Raises `InputError` if an id is not of the form "provider:model", or occurs twice.
    """
    ids = tuple(each.strip() for each in given.split(",")) if given is not None else ()
    for each in ids:
        if not all(each.partition(":")):
            raise InputError(f'{option}: "{each}" is no model; an id has the form "provider:model"')
    if len(set(ids)) < len(ids):
        raise InputError(f"{option}: names a model twice")
    return ids
