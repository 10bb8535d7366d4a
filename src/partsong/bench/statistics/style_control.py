"""Style control: how often a model would win against the baseline, were both answers written in the same style.

A Bradley-Terry model with four differences of style beside it, as Arena-Hard does: length, and headings, lists and bold
words for each word. Lengths are counted in words, where the original counts the tokens of one vocabulary.
"""

import re
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

PENALTY = 1e-6  # on the squares, so that a model that wins every time still has a finite strength
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Style(Struct, frozen=True):
    """What a judge sees at a glance. Code does not count as headings, lists and bold words."""

    words: int
    headings: int
    items: int
    bold: int


class Battle(Struct, frozen=True):
    """One verdict: the share of it that `model` got against the baseline, and what it weighs."""

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
    """For each model the share of verdicts, from 0 to 1, that it would get with the baseline's style."""
    models = list(dict.fromkeys(battle.model for battle in battles))
    place = {model: number for number, model in enumerate(models)}
    who = np.zeros((len(battles), len(models)))
    who[np.arange(len(battles)), [place[battle.model] for battle in battles]] = 1
    style = np.array([_difference(battle.style, battle.baseline) for battle in battles])
    spread = style.std(axis=0)
    style = style / np.where(spread > 0, spread, 1.0)  # not moved to its mean: 0 is to mean the same style
    shares = np.array([battle.share for battle in battles])
    weights = np.array([battle.weight for battle in battles])
    fitted = _fit(np.column_stack((who, style)), shares, weights)
    return {model: float(1 / (1 + np.exp(-fitted[number]))) for model, number in place.items()}


def _difference(one: Style, other: Style) -> tuple[float, ...]:
    """From −1 to 1 each, 0 for the same style."""
    length = (one.words - other.words) / max(one.words + other.words, 1)
    marks = []
    for mine, theirs in ((one.headings, other.headings), (one.items, other.items), (one.bold, other.bold)):
        a, b = mine / max(one.words, 1), theirs / max(other.words, 1)
        marks.append((a - b) / (a + b + 1))
    return (length, *marks)


def _fit(features: Numbers, shares: Numbers, weights: Numbers) -> Numbers:
    """Logistic regression by Newton's method, with a trace of a penalty."""
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
