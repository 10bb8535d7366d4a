"""Style control: estimates how often a model would win against the baseline if both answers had the same style.

Style means four counts: words, and headings, list items and bold phrases per word. As in Arena-Hard, a Bradley-Terry
model has a strength for each model, and a weight for the difference in each of the four counts. Arena-Hard counts the
length in tokens instead of words.
"""

import re
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

PENALTY = 1e-6  # on the squared weights, so that a model that always wins has a finite strength
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Style(Struct, frozen=True):
    """The style of an answer, as counts. Headings, list items and bold phrases inside code blocks are not counted."""

    words: int
    headings: int
    items: int
    bold: int


class Battle(Struct, frozen=True):
    """One verdict of a judge about an answer of a model and an answer of the baseline.

    model: name of the model
    style: style of the model's answer
    baseline: style of the baseline's answer
    share: 1 if the judge prefers the model's answer, 0 if the baseline's, and 0.5 for a tie
    weight: weight of the verdict in the fit; 1 by default
    """

    model: str
    style: Style
    baseline: Style
    share: float
    weight: float = 1.0


def style_of(text: str) -> Style:
    """Count the words, headings, list items and bold phrases of a Markdown text."""
    plain = _CODE.sub("", text)
    return Style(len(text.split()), *(len(pattern.findall(plain)) for pattern in (_HEADING, _ITEM, _BOLD)))


def style_controlled(battles: Sequence[Battle]) -> dict[str, float]:
    """Estimate each model's share of the verdicts if its answers had the same style as the baseline's.

    Returns the shares by name of the model, from 0 to 1; a tie counts one half. `battles` must not be empty. One fit
    over all battles estimates the influence of style, which is the same for all models.
    """
    models = list(dict.fromkeys(battle.model for battle in battles))
    columns = {model: index for index, model in enumerate(models)}
    who = np.zeros((len(battles), len(models)))
    who[np.arange(len(battles)), [columns[battle.model] for battle in battles]] = 1
    style = np.array([_difference(battle.style, battle.baseline) for battle in battles])
    spread = style.std(axis=0)
    # Differences are scaled but not centred on their mean, so that 0 still means the same style.
    style = style / np.where(spread > 0, spread, 1.0)
    shares = np.array([battle.share for battle in battles])
    weights = np.array([battle.weight for battle in battles])
    fitted = _fit(np.column_stack((who, style)), shares, weights)
    return {model: float(1 / (1 + np.exp(-fitted[index]))) for model, index in columns.items()}


def _difference(one: Style, other: Style) -> tuple[float, ...]:
    """Return four differences of two styles: in words, and in headings, list items and bold phrases per word.

    Each difference is from −1 to 1: positive if `one` has more, and 0 if both are equal.
    """
    length = (one.words - other.words) / max(one.words + other.words, 1)
    marks = []
    for mine, theirs in ((one.headings, other.headings), (one.items, other.items), (one.bold, other.bold)):
        a, b = mine / max(one.words, 1), theirs / max(other.words, 1)
        marks.append((a - b) / (a + b + 1))
    return (length, *marks)


def _fit(features: Numbers, shares: Numbers, weights: Numbers) -> Numbers:
    """Return the weights of a logistic regression with a very small L2 penalty, found by Newton's method: shape (k,).

    features: shape (number of battles, k)
    shares: from 0 to 1, shape (number of battles,)
    weights: weight of each battle, shape (number of battles,)
    """
    fitted = np.zeros(features.shape[1])
    for _ in range(100):
        likely = 0.5 * (1 + np.tanh(0.5 * features @ fitted))
        slope = features.T @ (weights * (likely - shares)) + PENALTY * fitted
        bend = (features.T * (weights * likely * (1 - likely))) @ features + PENALTY * np.eye(len(fitted))
        step = np.linalg.solve(bend, slope)
        fitted = fitted - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return np.asarray(fitted)
