"""Scores MT-Bench from stored judgments. The grade is read from the judge's text, not from the stored number.

A line of the file is one judgment in JSON, as FastChat writes judgments: `question_id`, `turn` (1 or 2), `model`,
`judgment` (the judge's text), and `score` if known. A judgment without a grade counts as missing, never as 0 or -1.
"""

import re
from pathlib import Path

import msgspec
from msgspec import Struct

from partsong.errors import InputError

# A grade, perhaps with its scale, in double brackets or else in single ones: [[7]], [[ 7.5 ]], [[7/10]].
NUMBER = r"\s*(\d{1,4}(?:\.\d{1,4})?)\s*(?:/\s*(\d{1,4}(?:\.\d{1,4})?)\s*)?"
RATING = (re.compile(rf"\[\[{NUMBER}\]\]"), re.compile(rf"\[{NUMBER}\]"))
LEAST, MOST = 1.0, 10.0  # grades
# The 80 questions come in tens, in this order (Zheng et al., arXiv 2306.05685, and FastChat's question file).
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
FIRST = 81  # id of the first question


class Judgment(Struct, frozen=True):
    """A line of the file: a judge's judgment of one turn.

    turn: 1 or 2
    judgment: text of the judge
    score: the grade that FastChat read from the text; -1 if FastChat found no grade
    """

    question_id: int
    turn: int
    model: str
    judgment: str
    score: float | None = None


class Score(Struct, frozen=True):
    """The mean grades of one model, from 1 to 10.

    model: name of the model
    n: number of judgments
    unreadable: number of judgments without a grade in the judge's text
    differing: number of judgments whose grade differs from the stored score
    turns: mean grade of the first and of the second turn; `None` for a turn without grades
    mean: mean of all grades; `None` without grades
    categories: mean grade by category of the questions
    """

    model: str
    n: int
    unreadable: int
    differing: int
    turns: tuple[float | None, float | None]
    mean: float | None
    categories: dict[str, float]


def grade_of(judgment: str) -> float | None:
    """Return the last grade in the judge's text: a number in double brackets, or else in single brackets.

    The last grade counts, because a judge that discusses several grades names its own grade last. Returns `None` if the
    number is not from 1 to 10, or has another scale than 10, as in [[4/5]].
    """
    for pattern in RATING:
        if found := pattern.findall(judgment):
            grade, scale = found[-1]
            fits = LEAST <= float(grade) <= MOST and float(scale or MOST) == MOST
            return float(grade) if fits else None
    return None


def score_file(path: Path) -> list[Score]:
    """Score every model in a file of JSON lines, one judgment a line. A file ending in .zst is decompressed first.

    Raises `InputError` if the file cannot be read or is empty. If a line is not a judgment, the message has its number.
    """
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
