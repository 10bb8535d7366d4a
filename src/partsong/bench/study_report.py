"""Writes a study's report: `report.html` in the study's folder, with figures of the grades and of the cost.

The report begins with the facts that a reader needs to judge it: task, judge, models, seed, date and spending.

The report quotes the prompts on which a mixture was furthest behind the best other contestant, because a mean hides
such prompts.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from partsong.bench.comparison import quality, values_of
from partsong.bench.figures import bars, radar, save, scatter
from partsong.bench.pareto import front
from partsong.bench.report import Section, page
from partsong.bench.runner import Study
from partsong.bench.sheet import csv_of
from partsong.bench.task import dollars_an_answer
from partsong.bench.tasks.flask import SKILLS, means_by_skill
from partsong.files import write_file

WORST = 10  # prompts that are quoted for each recipe


def write_report(
    study: Study, title: str, notes: Sequence[str], *, more: Sequence[Section] = (), first: str = ""
) -> None:
    """Write the report as HTML into the study's folder, the figures as SVG and PNG, and the tables as CSV.

    title: heading of the report
    notes: sentences to list below the tables
    more: further sections, which come after the table of values; none by default
    first: the sentence that stands above all tables; empty for none
    """
    names = list(study.contestants)
    outputs = {name: [each for key, each in study.outputs.items() if key[0] == name] for name in names}
    graded = {name: values_of(study.grades.values(), name) for name in names}
    rows, reached, costs = [], [], []
    for name in names:
        price = dollars_an_answer(outputs[name])
        spread = quality(graded[name], study.task.scale) if graded[name] else None
        low, high = ("", "") if spread is None else (f"{spread.low:.4f}", f"{spread.high:.4f}")
        mean = "" if spread is None else f"{spread.mean:.4f}"
        rows.append([name, mean, low, high, str(len(outputs[name])), "" if price is None else f"{price:.6f}"])
        if spread is not None:
            reached.append((name, spread.mean, spread.low, spread.high))
            if price is not None:
                costs.append((name, float(price), spread.mean))
    headings = ["an answer of", "value", "low", "high", "n", "dollars"]
    write_file(study.folder.path / "values.csv", csv_of(headings, rows))
    sections = [
        Section("", headings, rows, save(bars({"": reached}, "value"), study.folder.path / "values") if reached else "")
    ]
    if len({cost for _, cost, _ in costs}) > 1:
        best = front([(cost, value) for _, cost, value in costs])
        points = [(*each, on) for each, on in zip(costs, best, strict=True)]
        drawn = save(scatter(points, "dollars an answer", "value"), study.folder.path / "costs")
        sections.append(Section("What it costs", [], [], drawn))
    if skills := _by_skill(study):
        drawn = save(radar(list(SKILLS), skills, study.task.scale), study.folder.path / "skills")
        table = [[skill, *(f"{means[index]:.4f}" for means in skills.values())] for index, skill in enumerate(SKILLS)]
        write_file(study.folder.path / "skills.csv", csv_of(["skill", *skills], table))
        sections.append(Section("Skills", ["skill", *skills], table, drawn))
    sections = [Section("", ("what", "value"), facts(study)), *sections[:1], *more, *sections[1:]]
    write_file(study.folder.path / "report.html", page(title, sections, notes, _worst(study, graded), first))


def facts(study: Study) -> list[tuple[str, str]]:
    """Return what a reader must know of a study: task, prompts, judge, models, seed, date and spending, as text."""
    money = study.folder.money
    models = dict.fromkeys(model for each in study.contestants.values() for model in each.recipe.models)
    unknown = ", and calls of unknown price" if study.unpriced else ""
    return [
        ("task", study.task.name),
        ("prompts", f"{len(study.samples):,}" + (f", {study.attempts:,} attempts each" if study.attempts > 1 else "")),
        ("judge", "none" if study.judge is None else study.judge.id),
        ("models", ", ".join(models)),
        ("seed", str(study.seed)),
        ("date", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("spent", f"{money.settled:f} dollars{unknown}"),
    ]


def _by_skill(study: Study) -> dict[str, list[float]]:
    """Return the mean grade of each FLASK skill, in the order of `SKILLS`, by contestant.

    Contestants that lack a grade for a skill are left out. Empty for other tasks than FLASK.
    """
    if study.task.name != "flask":
        return {}
    means = {
        name: means_by_skill(grade.parts for key, grade in study.grades.items() if key[0] == name)
        for name in study.contestants
    }
    return {name: [found[skill] for skill in SKILLS] for name, found in means.items() if len(found) == len(SKILLS)}


def _worst(study: Study, graded: dict[str, dict[Any, float]]) -> list[tuple[str, str]]:
    """Return a title and a text for each prompt on which a mixture was furthest behind the best other contestant.

    graded: grades by contestant, and then by sample id and index of the attempt

    The text has the prompt and the answers of both. At most `WORST` prompts are returned for each mixture.
    """
    samples = {sample.id: sample for sample in study.samples}
    texts = []
    for name, contestant in study.contestants.items():
        if not contestant.recipe.layers:
            continue
        found = []
        for attempt, value in graded[name].items():
            others = {other: values[attempt] for other, values in graded.items() if other != name and attempt in values}
            if others and (best := max(others, key=lambda other: others[other])) and others[best] > value:
                found.append((others[best] - value, attempt, best))
        found.sort(key=lambda each: (-each[0], each[1]))
        for by, (sample, turn), best in found[:WORST]:
            mine, theirs = study.outputs.get((name, sample, turn)), study.outputs.get((best, sample, turn))
            if mine is None or theirs is None:
                continue
            asked = "\n\n".join(samples[sample].turns)
            text = f"{asked}\n\n── {name}\n{mine.answers[-1]}\n\n── {best}\n{theirs.answers[-1]}"
            texts.append((f"{sample}: {name} was worse than {best} by {by:.3g}", text))
    return texts
