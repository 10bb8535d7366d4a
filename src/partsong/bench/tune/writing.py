"""Writes the result of a search: best.toml, a report in Markdown, figures of both fronts, and every number as CSV."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from partsong.bench.figures import save, scatter
from partsong.bench.sheet import csv_of
from partsong.bench.tune.choosing import fronts
from partsong.bench.tune.methods import Measured
from partsong.bench.tune.recipe_file import recipe_toml
from partsong.bench.tune.search import Result, Search
from partsong.bench.tune.sentences import cautions, detectable, points, sentence
from partsong.files import write_file

HEADINGS = ("recipe", "quality", "price", "seconds", "calls", "front by price", "front by seconds")


def write_all(search: Search, result: Result, command: str) -> list[str]:
    """Write all files into the folder of the search, and return their names.

    command: the command line that repeats the search
    """
    folder = search.study.folder.path
    rows = table(search.measured)
    unit = unit_of(search)
    write_file(folder / "recipes.csv", csv_of(HEADINGS, rows))
    write_file(folder / "pool.csv", csv_of(*pool_table(search)))
    names = ["best.toml", "report.md", "recipes.csv", "pool.csv"]
    if result.test is not None:
        write_file(folder / "held-out.csv", csv_of(*held_table(search)))
        names.append("held-out.csv")
    for axis, column, on in ((unit, 2, 5), ("seconds", 3, 6)):
        known = [row for row in rows if row[1] and row[column]]
        ahead = [row for row in known if row[on] == "yes"]
        name = f"front-{'price' if column == 2 else 'seconds'}"
        write_file(
            folder / f"{name}.csv", csv_of(("recipe", "quality", axis), [(r[0], r[1], r[column]) for r in ahead])
        )
        points_of = [(row[0], float(row[column]), float(row[1]), row[on] == "yes") for row in known]
        if points_of:
            save(scatter(points_of, f"{axis} an answer", "quality"), folder / name)
        names += [f"{name}.csv", *([f"{name}.svg"] if points_of else [])]
    write_file(folder / "best.toml", recipe_toml(search.recipe(result.use), evidence(search, result)).encode())
    write_file(folder / "report.md", report(search, result, rows, command).encode())
    return names


def unit_of(search: Search) -> str:
    """Return the unit of prices: dollars, or input tokens if dollars say nothing."""
    return "dollars" if search.price_of().in_dollars else "input tokens"


def table(measured: Sequence[Measured]) -> list[list[str]]:
    """Return the recipes with their numbers on the first part, the best one first. Unknown numbers are empty."""
    complete = [each for each in measured if each.complete]
    by_price, by_time = fronts(complete) if complete else ([], [])
    ahead = {each.name: on for each, *on in zip(complete, by_price, by_time, strict=True)}
    rows = []
    for each in sorted(measured, key=lambda one: (-one.complete, -one.mean if one.complete else 0.0)):
        on = ["yes" if is_on else "" for is_on in ahead.get(each.name, (False, False))]
        known = [each.mean, each.price, each.duration, float(each.calls.mean())] if each.complete else []
        numbers = ["" if math.isnan(number) else f"{number:.6g}" for number in known] or [""] * 4
        rows.append([each.name, *numbers, *on])
    return rows


def pool_table(search: Search) -> tuple[list[str], list[list[str]]]:
    """Return every answer of the pool: its member, prompt, number, statement, grade, price and seconds."""
    rows = []
    for member in search.members:
        for row, sample in enumerate(search.order):
            for draw in range(member.size):
                numbers = (member.values[row, draw], member.prices[row, draw], member.seconds[row, draw])
                label = str(member.labels[row, draw])
                shown = ["" if math.isnan(each) else f"{each:.6g}" for each in numbers]
                rows.append([member.name, sample.id, str(draw), label, *shown])
    return ["member", "prompt", "draw", "statement", "grade", "price", "seconds"], rows


def held_table(search: Search) -> tuple[list[str], list[list[str]]]:
    """Return the grades of finalist and baseline on each held-out prompt; empty where the judge gave none."""
    assert search.choice is not None
    names = (search.choice.finalist.name, search.choice.baseline.name)
    rows = []
    for sample in search.parts.held:
        keys = [(name, sample.id, 0) for name in names]
        shown = ["" if search.unjudged(key) else f"{search.value(key):.6g}" for key in keys]
        rows.append([sample.id, *shown])
    return ["prompt", *names], rows


def evidence(search: Search, result: Result) -> list[str]:
    """Return the evidence for the recipe as lines of text, for the comments of best.toml."""
    test, study = result.test, search.study
    lines = [
        sentence(result)[0].upper() + sentence(result)[1:] + ".",
        f"date: {datetime.now(UTC):%Y-%m-%d}",
        f"task: {study.task.name}, seed {study.seed}, judge: {'none' if study.judge is None else study.judge.id}",
        f"prompts: {len(search.parts.choose):,} to choose on, {len(search.parts.held):,} held out",
        f"held-out part: sha256 {search.parts.digest}",
    ]
    if test is not None:
        lines.append(f"difference: {points(result)}, n = {test.n:,}, p = {test.chance:.3g} ({test.how})")
        lines.append(f"held-out part used before: {result.earlier:,} times")
    own = next(each for each in search.measured if each.name == result.use)
    lines.append(f"cost: {own.price:.4g} {unit_of(search)} an answer, {own.calls.mean():.3g} calls")
    recipe = search.recipe(result.use)
    lines.append(f"models: {', '.join(recipe.models)}")
    if not recipe.layers:
        lines.append("One model answers alone, with the settings below: this recipe has no layers.")
    return lines


def report(search: Search, result: Result, rows: Sequence[Sequence[str]], command: str) -> str:
    """Return the report in Markdown."""
    study, choice = search.study, search.choice
    money = study.folder.money
    models = ", ".join(f"`{model}`" for model in dict.fromkeys(member.model for member in search.members))
    said = sentence(result)
    unknown = ", and calls of unknown price" if study.unpriced else ""
    lines = [
        f"# The recipe for {study.task.name}",
        "",
        f"**{said[0].upper()}{said[1:]}.**",
        "",
        *(f"{line}\n" for line in cautions(result, "" if choice is None else choice.finalist.name)),
        "| what | value |",
        "| --- | --- |",
        f"| models | {models} |",
        f"| judge | {'none' if study.judge is None else f'`{study.judge.id}`'} |",
        f"| prompts | {len(search.parts.choose):,} to choose on, {len(search.parts.held):,} held out |",
        f"| left out | {search.parts.repeated:,} repeated prompts |",
        f"| strata | {search.parts.stratum or 'none'} |",
        f"| seed | {study.seed} |",
        f"| date | {datetime.now(UTC):%Y-%m-%d} |",
        f"| spent | {money.settled:f} dollars{unknown} |",
        f"| held-out part | `{search.parts.digest}` |",
        "",
        *detectable(search.parts),
        "",
        "## How the recipes did on the prompts to choose on",
        "",
        "These numbers chose the finalist and its baseline, so they are exploratory: the best of many is the best by",
        "chance as well. Only the test above is evidence. Recipes without numbers left the race early.",
        "",
        f"Quality is the mean grade from 0 to 1. The price of an answer is in {unit_of(search)}.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| " + " | ".join("---" for _ in HEADINGS) + " |",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
        "A recipe is on a front if no other recipe is both as good and as cheap, or as good and as fast. The files",
        "`front-price.csv` and `front-seconds.csv` have both fronts, and the figures of the same names show them.",
        "",
        "## To repeat it",
        "",
        "```sh",
        command,
        "```",
    ]
    return "\n".join(lines) + "\n"
