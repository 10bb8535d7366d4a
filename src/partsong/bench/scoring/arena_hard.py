"""Scores Arena-Hard from stored judgments: plain scores, and scores with style control.

The folder has the layout of the benchmark's repository. `model_judgment/JUDGE/MODEL.jsonl` holds the judgments. Each
judgment has two verdicts (games): in the first, the baseline's answer was shown first, and in the second, the model's.
The answers of models and baseline are in `model_answer/MODEL.jsonl`. Without answers there is no style control.
"""

from pathlib import Path
from typing import Any

from msgspec import Struct

from partsong.bench.statistics.intervals import Interval, mean_interval
from partsong.bench.statistics.style_control import Battle, style_controlled, style_of
from partsong.bench.tasks.arena_hard import VERDICTS, Stored, verdict_in, words_of
from partsong.bench.tasks.published import read_lines
from partsong.errors import InputError


class Judgment(Struct):
    """A line of a file of judgments: both verdicts (games) about one question.

    question_id: id of the question in version 0.1 of the benchmark
    uid: id of the question in version 2
    games: each with the judge's text as `judgment`, and in version 2 the verdict as `score`; `None` for a failed call
    """

    question_id: str | int = ""
    uid: str = ""
    model: str = ""
    games: list[dict[str, Any] | None] = []


class Score(Struct, frozen=True):
    """The score of one model against the baseline.

    model: name of the model
    n: number of questions with two verdicts
    unreadable: number of questions without two readable verdicts, which are left out
    score: weighted share of the verdicts that the model won, in percent
    low, high: ends of the 95 % interval of `score` over questions, in percent
    style_controlled: score estimated for answers in the baseline's style, in percent; `None` without stored answers
    """

    model: str
    n: int
    unreadable: int
    score: float
    low: float
    high: float
    style_controlled: float | None


def score_folder(path: Path, baseline: str | None = None) -> list[Score]:
    """Score every model with judgments in the folder.

    baseline: name of the baseline in `model_answer`; by default the only model with answers but without judgments

    Raises `InputError` if the folder has no judgments or no answers of `baseline`, or if a file has no readable
    judgment. If a line cannot be decoded, the message has the file and the number of the line.
    """
    files = sorted((path / "model_judgment").glob("*/*.jsonl"))
    if not files:
        raise InputError(f"{path}: has no model_judgment/JUDGE/MODEL.jsonl")
    answers = {
        file.stem: {str(each.uid or each.question_id): words_of(each) for each in read_lines(file, Stored)}
        for file in sorted((path / "model_answer").glob("*.jsonl"))
    }
    others = [name for name in answers if name not in {file.stem for file in files}]
    base = baseline or (others[0] if len(others) == 1 else None)
    if baseline is not None and baseline not in answers:
        raise InputError(f"{path}: has no model_answer/{baseline}.jsonl")
    scores: list[Score] = []
    battles: list[Battle] = []
    for file in files:
        model, found, unreadable = file.stem, list[tuple[str, list[tuple[float, int]]]](), 0
        for judgment in read_lines(file, Judgment):
            name, games = str(judgment.uid or judgment.question_id), [_verdict(game) for game in judgment.games]
            if len(games) != 2 or games[0] is None or games[1] is None:
                unreadable += 1
                continue
            (theirs, clear), mine = VERDICTS[games[0]], VERDICTS[games[1]]
            found.append((name, [(1 - theirs, clear), mine]))
        if not found:
            raise InputError(f"{file}: no judgment in it can be read")
        spread = mean_interval(
            [share for _, both in found for share, weight in both for _ in range(weight)],
            [name for name, both in found for _, weight in both for _ in range(weight)],
        )
        scores.append(_score(model, len(found), unreadable, spread, None))
        if base is not None and model in answers:
            battles += [
                Battle(model, style_of(answers[model][name]), style_of(answers[base][name]), *each)
                for name, both in found
                if name in answers[model] and name in answers[base]
                for each in both
            ]
    controlled = style_controlled(battles) if battles else {}
    return [_with_style(score, controlled.get(score.model)) for score in scores]


def _score(model: str, n: int, unreadable: int, spread: Interval, style: float | None) -> Score:
    return Score(model, n, unreadable, 100 * spread.mean, 100 * spread.low, 100 * spread.high, style)


def _with_style(score: Score, share: float | None) -> Score:
    style = None if share is None else 100 * share
    return Score(score.model, score.n, score.unreadable, score.score, score.low, score.high, style)


def _verdict(game: dict[str, Any] | None) -> str | None:
    """Return the verdict of a game, such as "A>B": the stored `score`, or else the verdict in the judge's text.

    Returns `None` if neither has a verdict.
    """
    if game is None:
        return None
    stored = game.get("score")
    if isinstance(stored, str) and stored in VERDICTS:
        return stored
    judgment = game.get("judgment")
    words = judgment.get("answer") if isinstance(judgment, dict) else judgment
    return verdict_in(words) if isinstance(words, str) else None
