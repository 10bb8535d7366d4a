"""Scores MT-Bench from stored judgments. The grade is read from the words of the judge, not from the stored number.

A line of the file is one judgment, as FastChat writes it: `question_id`, `turn` (1 or 2), `model`, `judgment` (the
words of the judge), and `score` if known. A judgment without a grade counts as missing, never as 0 or -1.
"""

import re
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import InputError

# A grade, perhaps with its scale, in double brackets or else in single ones: [[7]], [[ 7.5 ]], [[7/10]].
NUMBER = r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*(?:/\s*(\d{1,4}(?:\.\d{1,4})?)\s*)?"
RATING = (re.compile(rf"\[\[{NUMBER}\]\]"), re.compile(rf"\[{NUMBER}\]"))
LEAST, MOST = 1.0, 10.0
# The 80 questions come in tens, in this order (Zheng et al., arXiv 2306.05685, and FastChat's question file).
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
FIRST = 81


class Judgment(Struct, frozen=True):
    """One stored judgment."""

    question_id: int
    turn: int
    model: str
    judgment: str
    score: float | None = None


class Score(Struct, frozen=True):
    """The mean grades of one model.

    n: number of judgments
    unreadable: number of judgments without a grade
    differing: number of judgments whose grade differs from the stored score
    turns: mean of the first and of the second turn; `None` if nothing was judged
    mean: mean of all grades; `None` if nothing was judged
    categories: mean of each category
    """

    model: str
    n: int
    unreadable: int
    differing: int
    turns: tuple[float | None, float | None]
    mean: float | None
    categories: dict[str, float]


def grade_of(judgment: str) -> float | None:
    """The last grade from 1 to 10 in the judge's words, in double brackets, else in single ones.

    A judge that weighs several grades names its own last. A grade of another scale than 10 is none.
    """
    for pattern in RATING:
        if found := pattern.findall(judgment):
            grade, scale = found[-1]
            fits = LEAST <= float(grade) <= MOST and float(scale or MOST) == MOST
            return float(grade) if fits else None
    return None


def score_file(path: Path) -> list[Score]:
    """Score every model in the file. Raises `InputError`, naming file and line."""
    judged: dict[str, list[tuple[Judgment, float | None]]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            judgment = msgspec.json.decode(line, type=Judgment, strict=False)
        except msgspec.DecodeError as problem:
            raise InputError(f"{path}, line {number}: {problem}") from None
        if judgment.turn not in (1, 2):
            raise InputError(f"{path}, line {number}: turn is {judgment.turn}, but must be 1 or 2")
        judged.setdefault(judgment.model, []).append((judgment, grade_of(judgment.judgment)))
    if not judged:
        raise InputError(f"{path}: holds no judgment")
    return [_score(model, each) for model, each in judged.items()]


def _score(model: str, judged: list[tuple[Judgment, float | None]]) -> Score:
    graded = [(judgment, grade) for judgment, grade in judged if grade is not None]
    turns = [_mean([grade for judgment, grade in graded if judgment.turn == turn]) for turn in (1, 2)]
    by_category: dict[str, list[float]] = {}
    for judgment, grade in graded:
        index = (judgment.question_id - FIRST) // 10
        if 0 <= index < len(CATEGORIES):
            by_category.setdefault(CATEGORIES[index], []).append(grade)
    return Score(
        model,
        len(judged),
        len(judged) - len(graded),
        sum(judgment.score is not None and judgment.score != grade for judgment, grade in graded),
        (turns[0], turns[1]),
        _mean([grade for _, grade in graded]),
        {name: sum(grades) / len(grades) for name, grades in by_category.items()},
    )


def _mean(grades: list[float]) -> float | None:
    return sum(grades) / len(grades) if grades else None


def _lines(path: Path) -> list[bytes]:
    try:
        if path.suffix != ".zst":
            return path.read_bytes().splitlines()
        import zstandard

        with path.open("rb") as file:
            return zstandard.ZstdDecompressor().stream_reader(file).read().splitlines()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
