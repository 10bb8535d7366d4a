"""Scores FLASK from stored reviews. Grades are read from the words of the judge again, if these are stored.

A line of the file is one review, as the public code writes it: `question_id`, `model` if known, and `review` (the words
of the judge, which end with the grades as a JSON object) or `score` (the grades).
"""

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from partsong.bench.tasks.flask import LEAST, MOST, means_by_skill, skill_named
from partsong.bench.tasks.published import read_lines


class Review(Struct):
    question_id: int | str
    review: str = ""
    score: dict[str, Any] = {}
    model: str = ""


class Score(Struct, frozen=True):
    """The mean of each skill of one model, over the questions that need it. `unreadable` reviews have no grades."""

    model: str
    n: int
    unreadable: int
    skills: dict[str, float]


def score_file(path: Path) -> list[Score]:
    """Score every model in the file. Raises `InputError`, naming the line."""
    reviews: dict[str, list[dict[str, float] | None]] = {}
    for review in read_lines(path, Review):
        grades = _plain(_object_in(review.review) or review.score)
        reviews.setdefault(review.model or path.stem, []).append(grades or None)
    return [
        Score(model, len(found), found.count(None), means_by_skill(each for each in found if each is not None))
        for model, found in reviews.items()
    ]


def _object_in(words: str) -> dict[str, Any]:
    """The last JSON object in the text; empty if there is none."""
    for text in reversed(re.findall(r"\{[^{}]+\}", words)):
        try:
            return msgspec.json.decode(text.replace("'", '"').replace(": N/A", ': "N/A"'), type=dict[str, Any])
        except msgspec.DecodeError:
            continue
    return {}


def _plain(grades: dict[str, Any]) -> dict[str, float]:
    """The grades from 1 to 5 by skill, without unknown names and without skills that do not apply."""
    return {
        skill: float(value)
        for name, value in grades.items()
        if (skill := skill_named(name)) and isinstance(value, int | float) and LEAST <= value <= MOST
    }
