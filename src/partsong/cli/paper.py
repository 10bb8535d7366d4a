"""`partsong paper`: the paper's tables and figures, on any models; started again, it goes on where it stopped."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from msgspec import to_builtins

from partsong.bench.contestant import Contestant
from partsong.bench.paper.exhibits import EXHIBITS, MAX_TOKENS, Cast, Exhibit, Row
from partsong.bench.paper.numbers import CAUTIONS, FIGURE_3, FIGURE_5, INCONSISTENT, known_as
from partsong.bench.runner import Study
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
    """Run one of the paper's experiments, and hold what comes out beside the paper's numbers."""
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
    if task is None and chosen.task == "math":
        raise InputError(f"{chosen.name}: the paper ran it on MATH: name a file of its problems with --task math.jsonl")
    what = find_task(task or chosen.task, grade, data)
    if not what.grades:
        raise InputError(f"{task}: each prompt needs a reference to grade against; see docs/bench.md")
    if what.needs_judge and judge is None:
        raise InputError(f"{what.name}: a model must judge: name it with --judge")
    if chosen.kind == "skills" and what.name != "flask":
        raise InputError(f"{chosen.name}: shows the skills of the task flask; {what.name} has none")
    rows = chosen.rows(cast)
    contestants = {row.recipe.name: Contestant(row.recipe) for row in rows}

    async def performed() -> int:
        async with open_study(what, options, contestants, exhibit=chosen.name) as study:
            with Progress(lambda: progress_of(study)):
                await study.perform(options.at_once)
                if chosen.kind == "rho":
                    from partsong.bench.paper.uptake import grade_proposals

                    await grade_proposals(study, options.at_once)
            report(chosen, rows, study, ours=tuple(proposers) == PAPERS_MODELS)
        return ended(study)

    return complete(performed())


def report(exhibit: Exhibit, rows: list[Row] | Any, study: Study, *, ours: bool) -> None:
    """Print the table and what must be known to read it; keep both in the folder, with the figure."""
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


def _measured(
    exhibit: Exhibit, rows: list[Row], study: Study
) -> tuple[list[str], list[list[str]], list[dict[str, Any]]]:
    """A line a row: the paper's number, ours, and what it costs."""
    from partsong.bench.paper.measures import measure, unit_of, work_of
    from partsong.bench.pareto import front

    found = {row.recipe.name: measure(study, row.recipe.name) for row in rows}
    prices = {row.recipe.name: _price(study, row.recipe.name) for row in rows}
    cost = exhibit.kind == "cost"
    headings = ["row", f"paper, {exhibit.measure}", f"here, {unit_of(study)}", "n", "calls", "dollars an answer"]
    headings += ["paper's dollars", "GFLOPs a token", "paper's TFLOPs", "front", "front by compute"] if cost else []
    there = [row for row in rows if found[row.recipe.name] is not None]
    points = [(float(prices[row.recipe.name] or 0), _value(found[row.recipe.name])) for row in there]
    best = {row.recipe.name for row, on in zip(there, front(points), strict=True) if on}
    worked = [row for row in there if work_of(row.recipe) is not None]
    effort = [(work_of(row.recipe) or 0.0, _value(found[row.recipe.name])) for row in worked]
    quick = {row.recipe.name for row, on in zip(worked, front(effort), strict=True) if on}
    cells, plain = [], []
    for row in rows:
        name = row.recipe.name
        mine, price, work = found[name], prices[name], work_of(row.recipe)
        line = [
            row.label,
            "–" if row.paper is None else f"{row.paper:g}",
            "–" if mine is None else f"{mine.value:.2f} [{mine.low:.2f}, {mine.high:.2f}]",
            "0" if mine is None else f"{mine.n:,}",
            f"{row.recipe.calls:,}",
            "?" if price is None else dollars(price),
        ]
        theirs = FIGURE_5.get(known_as(name) or name)
        if cost:
            line += [
                "–" if theirs is None else f"${theirs[0]:g}",
                "?" if work is None else f"{work:,.1f}",
                "–" if theirs is None else f"{theirs[1]:g}",
                "yes" if name in best else "",
                "yes" if name in quick else "",
            ]
        cells.append(line)
        plain.append(
            {
                "row": row.label,
                "series": row.series,
                "layers": row.layers,
                "paper": row.paper,
                "here": mine,
                "calls": row.recipe.calls,
                "dollars": price,
                "gflops_a_token": work,
                "front": name in best,
                "front_by_compute": name in quick,
            }
        )
    return headings, cells, to_builtins(plain)


def _skills(exhibit: Exhibit, rows: list[Row], study: Study) -> tuple[list[str], list[list[str]], list[dict[str, Any]]]:
    """A line a skill: for each row the paper's mean, if it has one, and ours."""
    from partsong.bench.comparison import quality
    from partsong.bench.paper.measures import grades_of

    # The paper's are of MoA, its aggregator alone, and GPT-4o.
    places = [0, *({"Qwen1.5-110B": 1, "GPT-4o": 2}.get(known_as(row.label) or "") for row in rows[1:])]
    headings = ["skill"]
    for row, place in zip(rows, places, strict=True):
        headings += [f"{row.label} in the paper"] * (place is not None) + [row.label]
    cells, plain = [], []
    for skill, theirs in FIGURE_3.items():
        line, kept = [skill], dict[str, Any](row=skill)
        for row, place in zip(rows, places, strict=True):
            values = {
                (grade.sample, grade.attempt): grade.parts[skill]
                for grade in grades_of(study, row.recipe.name)
                if skill in grade.parts
            }
            mine = quality(values, study.task.scale) if values else None
            line += [f"{theirs[place]:.2f}"] if place is not None else []
            line.append("–" if mine is None else f"{mine.mean:.2f} [{mine.low:.2f}, {mine.high:.2f}] of {mine.n:,}")
            kept[row.label] = mine
            if place is not None:
                kept[f"{row.label} in the paper"] = theirs[place]
        cells.append(line)
        plain.append(to_builtins(kept))
    return headings, cells, plain


def _uptake(exhibit: Exhibit, rows: list[Row], study: Study) -> tuple[list[str], list[list[str]], list[dict[str, Any]]]:
    """A line an aggregation: how similar its answers are to the better proposals, by each measure of similarity."""
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


def _price(study: Study, name: str) -> Decimal | None:
    """What an answer costs on average; `None` where a price is unknown, or nothing was answered."""
    prices = [output.usage.dollars for key, output in study.outputs.items() if key[0] == name]
    known = [price for price in prices if price is not None]
    return sum(known, Decimal(0)) / len(prices) if prices and len(known) == len(prices) else None


def _value(measured: "Measured | None") -> float:
    return 0.0 if measured is None else measured.value


def _ids(given: str | None, option: str) -> tuple[str, ...]:
    """The ids in a list with commas. Raises `InputError`."""
    ids = tuple(each.strip() for each in given.split(",")) if given is not None else ()
    for each in ids:
        if not all(each.partition(":")):
            raise InputError(f'{option}: "{each}" is no model; an id has the form "provider:model"')
    if len(set(ids)) < len(ids):
        raise InputError(f"{option}: names a model twice")
    return ids
