"""Writes the result of an experiment: the table as CSV, the figure as SVG and PNG, and a report as HTML."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partsong.bench.figures import bars, lines, radar, save, scatter
from partsong.bench.paper.exhibits import Exhibit
from partsong.bench.paper.numbers import FIGURE_3
from partsong.bench.report import Section, page
from partsong.bench.sheet import csv_of
from partsong.files import write_file


def draw(
    folder: Path,
    exhibit: Exhibit,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    rows: Sequence[dict[str, Any]],
    notes: Sequence[str],
) -> list[str]:
    """Write the result of an experiment into a folder, and return the names of the files.

    headings, cells: table of the result
    rows: the rows of the table as plain values, with the keys that the experiment's kind of figure needs
    notes: sentences to list below the table
    """
    write_file(folder / f"{exhibit.name}.csv", csv_of(headings, cells))
    written = [f"{exhibit.name}.csv"]
    figure = _figure(exhibit, rows)
    picture = ""
    if figure is not None:
        picture = save(figure, folder / exhibit.name)
        written += [f"{exhibit.name}.svg", f"{exhibit.name}.png"]
    sections = [Section("", headings, cells, picture)]
    efforts = [
        (row["row"], row["gflops_a_token"], row["here"]["value"], row["front_by_compute"])
        for row in rows
        if exhibit.kind == "cost" and row["here"] and row["gflops_a_token"] is not None
    ]
    if efforts:
        drawn = save(scatter(efforts, "GFLOPs a token", exhibit.measure), folder / f"{exhibit.name}-compute")
        sections.append(Section("By compute", [], [], drawn))
        written += [f"{exhibit.name}-compute.svg", f"{exhibit.name}-compute.png"]
    write_file(folder / "report.html", page(f"{exhibit.name}: {exhibit.title}", sections, notes))
    return [*written, "report.html"]


def _figure(exhibit: Exhibit, rows: Sequence[dict[str, Any]]) -> Any:
    """Return the matplotlib figure for the experiment's kind; `None` if nothing was measured."""
    match exhibit.kind:
        case "skills":
            names = [name for name in rows[0] if name != "row"]
            series = {
                name: [value if isinstance(value, float) else value["mean"] for row in rows if (value := row.get(name))]
                for name in names
            }
            whole = {name: values for name, values in series.items() if len(values) == len(FIGURE_3)}
            return radar(list(FIGURE_3), whole, (1, 5)) if whole else None
        case "rho":
            found = [(row["row"], row["here"]) for row in rows if row["here"]]
            values = {
                name: [
                    (label, here[name]["mean"], here[name]["low"], here[name]["high"])
                    for label, here in found
                    if name in here
                ]
                for name in ("BLEU-5", "TF-IDF", "Levenshtein")
            }
            return bars(values, "Spearman's rho") if found else None
        case "layers":
            series_of: dict[str, list[tuple[float, float]]] = {}
            for row in rows:
                if row["here"]:
                    series_of.setdefault(row["series"], []).append((row["layers"], row["here"]["value"]))
            return lines(series_of, "layers", exhibit.measure) if series_of else None
        case "cost":
            points = [
                (row["row"], float(row["dollars"]), row["here"]["value"], row["front"])
                for row in rows
                if row["here"] and row["dollars"] is not None
            ]
            return scatter(points, "dollars an answer", exhibit.measure) if points else None
        case _:
            measured = [
                (row["row"], row["here"]["value"], row["here"]["low"], row["here"]["high"])
                for row in rows
                if row["here"]
            ]
            return bars({"": measured}, exhibit.measure) if measured else None
