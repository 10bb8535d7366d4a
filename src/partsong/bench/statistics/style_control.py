"""Style control: estimates how often a model would win against the baseline if both answers had the same style.

As in Arena-Hard, a Bradley-Terry model is fitted together with four differences of style: length, and the number of
headings, list items and bold phrases per word. Length is counted in words; the original counts tokens.
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
    """The style of an answer, as counts. Headings, list items and bold phrases inside code do not count."""

    words: int
    headings: int
    items: int
    bold: int


class Battle(Struct, frozen=True):
    """One verdict: the share from 0 to 1 that `model` gets of it against the baseline, and its weight."""

    model: str
    style: Style
    baseline: Style
    share: float
    weight: float = 1.0


def style_of(text: str) -> Style:
    """The style of an answer."""
    plain = _CODE.sub("", text)
    return Style(len(text.split()), *(len(pattern.findall(plain)) for pattern in (_HEADING, _ITEM, _BOLD)))


def style_controlled(battles: Sequence[Battle]) -> dict[str, float]:
    """For each model, the share of verdicts, from 0 to 1, that it would get with the style of the baseline."""
    models = list(dict.fromkeys(battle.model for battle in battles))
    columns = {model: index for index, model in enumerate(models)}
    who = np.zeros((len(battles), len(models)))
    who[np.arange(len(battles)), [columns[battle.model] for battle in battles]] = 1
    style = np.array([_difference(battle.style, battle.baseline) for battle in battles])
    spread = style.std(axis=0)
    style = style / np.where(spread > 0, spread, 1.0)  # not centred on the mean, so that 0 means the same style
    shares = np.array([battle.share for battle in battles])
    weights = np.array([battle.weight for battle in battles])
    fitted = _fit(np.column_stack((who, style)), shares, weights)
    return {model: float(1 / (1 + np.exp(-fitted[index]))) for model, index in columns.items()}


def _difference(one: Style, other: Style) -> tuple[float, ...]:
    """The differences of two styles in length, headings, list items and bold phrases: from −1 to 1, 0 if equal."""
    length = (one.words - other.words) / max(one.words + other.words, 1)
    marks = []
    for mine, theirs in ((one.headings, other.headings), (one.items, other.items), (one.bold, other.bold)):
        a, b = mine / max(one.words, 1), theirs / max(other.words, 1)
        marks.append((a - b) / (a + b + 1))
    return (length, *marks)


def _fit(features: Numbers, shares: Numbers, weights: Numbers) -> Numbers:
    """The weights of a logistic regression, found by Newton's method, with a very small penalty."""
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
