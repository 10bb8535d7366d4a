"""Scores FLASK from stored reviews. Grades are read from the judge's text again, if the text is stored.

A line of the file is one review in JSON, as the public code writes reviews. It has `question_id`, `model` if known, and
`review` (the judge's text, which ends with the grades as a JSON object) or `score` (the grades by skill).
"""

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from partsong.bench.tasks.flask import LEAST, MOST, means_by_skill, skill_named
from partsong.bench.tasks.published import read_lines


class Review(Struct):
    """A line of the file: a judge's review of one answer."""

    question_id: int | str
    review: str = ""
    score: dict[str, Any] = {}
    model: str = ""


class Score(Struct, frozen=True):
    """The mean grades of one model.

    model: name of the model
    n: number of reviews
    unreadable: number of reviews without any grade
    skills: mean grade from 1 to 5, over the reviews that grade the skill, by skill
    """

    model: str
    n: int
    unreadable: int
    skills: dict[str, float]


def score_file(path: Path) -> list[Score]:
    """Score every model in a file of JSON lines, one review a line.

    A review without `model` counts for a model with the name of the file. Raises `InputError` if the file cannot be
    read or is empty. If a line cannot be decoded, the message has the number of the line.
    """
    reviews: dict[str, list[dict[str, float] | None]] = {}
    for review in read_lines(path, Review):
        grades = _plain(_object_in(review.review) or review.score)
        reviews.setdefault(review.model or path.stem, []).append(grades or None)
    return [
        Score(model, len(found), found.count(None), means_by_skill(each for each in found if each is not None))
        for model, found in reviews.items()
    ]


def _object_in(words: str) -> dict[str, Any]:
    """Return the last JSON object in a judge's text; empty if there is no object."""
    for text in reversed(re.findall(r"\{[^{}]+\}", words)):
        try:
            return msgspec.json.decode(text.replace("'", '"').replace(": N/A", ': "N/A"'), type=dict[str, Any])
        except msgspec.DecodeError:
            continue
    return {}


def _plain(grades: dict[str, Any]) -> dict[str, float]:
    """Return the grades from 1 to 5, by skill. Unknown skills and values that are no such grade are left out."""
    return {
        skill: float(value)
        for name, value in grades.items()
        if (skill := skill_named(name)) and isinstance(value, int | float) and LEAST <= value <= MOST
    }
