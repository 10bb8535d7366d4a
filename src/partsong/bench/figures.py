"""Draws figures with matplotlib: bars with intervals, lines, a scatter plot with its Pareto front, and a radar chart.

The global state of matplotlib is not used. The colours are those of Okabe and Ito, which colour-blind people can tell
apart, and the markers differ as well. The same data gives the same bytes: no file has a time of creation in it.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsong.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
SIGNS = ("o", "s", "^", "D", "v", "P", "X", "*")
Bar = tuple[str, float, float, float]  # label, value, low, high
LONGEST = 48  # characters of a label; a longer one would leave no room for the figure
Point = tuple[str, float, float, bool]  # label, x, y, and whether it is on the front


def bars(series: Mapping[str, Sequence[Bar]], axis: str) -> "Figure":
    """Draw horizontal bars with their intervals, one bar for each label and series.

    series: bars by name of the series; the name is in the legend if there are several series
    axis: title of the axis of values
    """
    labels = list(dict.fromkeys(label for each in series.values() for label, *_ in each))
    figure, axes = _new(height=max(2.0, 0.8 + 0.32 * len(labels) * max(1, len(series))))
    thick = 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        heights = [labels.index(label) + (index - (len(series) - 1) / 2) * thick for label, *_ in values]
        widths = [value for _, value, _, _ in values]
        reach = [[value - low for _, value, low, _ in values], [high - value for _, value, _, high in values]]
        axes.barh(heights, widths, thick, label=_label(name) or None, color=COLOURS[index % 8], xerr=reach, capsize=2)
    axes.set_yticks(range(len(labels)), [_label(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    if len(series) > 1:
        axes.legend()
    return figure


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> "Figure":
    """Draw a line with markers for each series.

    series: points (x, y) by name of the series
    x, y: titles of the axes
    """
    figure, axes = _new()
    for index, (name, points) in enumerate(series.items()):
        style = {"color": COLOURS[index % 8], "marker": SIGNS[index % 8], "label": _label(name)}
        axes.plot([each[0] for each in points], [each[1] for each in points], **style)
    axes.set_xticks(sorted({each[0] for points in series.values() for each in points}))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize="small")
    return figure


def scatter(points: Sequence[Point], x: str, y: str) -> "Figure":
    """Draw a marker for each point, with a legend below the plot.

    x, y: titles of the axes

    Points on the Pareto front have filled markers, and a dashed line joins them. Labels beside the points would cover
    each other, since a baseline costs as much as its mixture.
    """
    figure, axes = _new(height=4.2 + 0.2 * len(points))
    front = sorted((each for each in points if each[3]), key=lambda each: each[1])
    axes.step([each[1] for each in front], [each[2] for each in front], where="post", color="#999999", linestyle="--")
    for index, (label, across, up, on) in enumerate(points):
        sign = SIGNS[(index + index // 8) % 8]  # so that the ninth differs from the first
        style = {"color": COLOURS[index % 8], "fillstyle": "full" if on else "none", "linestyle": ""}
        axes.plot(across, up, sign, label=_label(label), **style)
    figure.legend(loc="outside lower left", fontsize="small", frameon=False)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.margins(x=0.15, y=0.15)
    return figure


def radar(spokes: Sequence[str], series: Mapping[str, Sequence[float]], scale: tuple[float, float]) -> "Figure":
    """Draw a radar chart with a closed line for each series.

    spokes: names of the spokes
    series: one value for each spoke, by name of the series
    scale: values at the centre and at the rim
    """
    from math import pi

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    axes: Any = figure.add_subplot(projection="polar")
    angles = [2 * pi * index / len(spokes) for index in range(len(spokes))]
    for index, (name, values) in enumerate(series.items()):
        axes.plot([*angles, angles[0]], [*values, values[0]], color=COLOURS[index % 8], label=_label(name))
    axes.set_xticks(angles, [_label(spoke) for spoke in spokes])
    axes.set_ylim(*scale)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), fontsize="small")
    return figure


def save(figure: "Figure", path: Path) -> str:
    """Write a figure to `path` with the suffixes .svg and .png, and return the SVG document."""
    from matplotlib import rc_context

    drawn, painted = io.StringIO(), io.BytesIO()
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": "partsong", "svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box in the PNG; the SVG has it as text
        figure.savefig(drawn, format="svg", metadata={"Date": None})
        figure.savefig(painted, format="png", dpi=150, metadata={"Software": None})
    write_file(path.with_suffix(".svg"), drawn.getvalue().encode())
    write_file(path.with_suffix(".png"), painted.getvalue())
    return drawn.getvalue()


def _label(text: str) -> str:
    """Return a name in a form that matplotlib draws literally, on one line of at most `LONGEST` characters.

    The middle of a longer name is left out. Dollar signs are escaped, because matplotlib reads the text between two
    dollar signs as a formula. A space is put before a leading underscore, because matplotlib leaves names with a
    leading underscore out of the legend.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]}…{line[1 - LONGEST // 2 :]}"
    line = line.replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line


def _new(height: float = 4.2) -> "tuple[Figure, Any]":
    """Return an empty figure, `height` inches high, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
