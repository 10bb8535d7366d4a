"""AlpacaEval 2.0 from stored preferences: win rate, its standard error, and the length-controlled win rate.

Rows are joined by the instruction that they belong to. The official code joins difficulties by row position, which is
wrong where a model lacks a preference; `upstream_row_order` does the same, for comparing with published figures.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from partsong.bench.statistics.length_control import (
    Gamed,
    Numbers,
    features_of,
    fit_length_controlled,
    length_controlled,
)
from partsong.errors import InputError

NOTE = (
    "The length-controlled win rate can be gamed: a constant non-answer (NullModel) reaches 86.5 on the public data. "
    "Read the answers too."
)


class Score(Struct, frozen=True):
    """One model against the baseline, in percent; `c` is None where the weights were given."""

    model: str
    n: int
    win_rate: float
    standard_error: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    discrete_win_rate: float
    length_controlled_winrate: float
    lc_standard_error: float
    weights: tuple[float, float, float]
    c: float | None


class Folder(Struct, frozen=True):
    """What a folder holds: preferences and lengths by model, in the order of the instructions; NaN: not judged."""

    difficulty: Numbers
    baseline_lengths: Numbers
    preferences: dict[str, Numbers]
    lengths: dict[str, Numbers]
    gamed: Gamed | None


def score_folder(
    path: Path, *, c: float | None = None, weights: Path | None = None, upstream_row_order: bool = False
) -> list[Score]:
    """Score every model that has preferences in the folder; with a file of fitted `weights`, those that it has."""
    folder = read_folder(path)
    if weights is None:
        return [_score(folder, model, c, upstream_row_order) for model in folder.preferences]
    if c is not None:
        raise InputError("weights that are given need no fit: leave --c away")
    given = read_weights(weights)
    return [
        _score(folder, model, c, upstream_row_order, given[model]) for model in folder.preferences if model in given
    ]


def read_folder(path: Path) -> Folder:
    """Read a folder; raises `InputError` with the file, and what it lacks."""
    instructions = read_table(path / "instructions.parquet", ("index", "output", "instruction_difficulty"))
    place = {index: row for row, index in enumerate(instructions["index"])}
    judged = read_table(path / "preferences.parquet", ())
    index = judged.pop("index", None)
    if index is None and any(len(column) != len(place) for column in judged.values()):
        raise InputError(f"{path / 'preferences.parquet'}: one row for each of the {len(place)} instructions is needed")
    preferences = {model: _placed(column, index, place, path) for model, column in judged.items()}
    lengths = _lengths(path, set(preferences), place)
    return Folder(
        np.array(instructions["instruction_difficulty"], dtype=np.float64),
        np.array([len(output) for output in instructions["output"]], dtype=np.float64),
        preferences,
        lengths,
        read_gamed(path / "gamed_baselines_reconstructed.csv"),
    )


def _score(
    folder: Folder, model: str, c: float | None, upstream_row_order: bool, weights: Numbers | None = None
) -> Score:
    raw = folder.preferences[model]
    there = np.flatnonzero(np.isfinite(raw))
    if len(there) < 2:
        raise InputError(f"{model}: at least two preferences are needed, {len(there)} found")
    wins = np.where(raw[there] == 0, 1.5, raw[there]) - 1
    if (wins < 0).any() or (wins > 1).any():
        raise InputError(f"{model}: preferences are from 1 to 2 (0: tie)")
    lengths = folder.lengths[model][there]
    if not np.isfinite(lengths).all():
        raise InputError(f"{model}: {int((~np.isfinite(lengths)).sum())} judged answers have no length and no output")
    difficulty = folder.difficulty[: len(there)] if upstream_row_order else folder.difficulty[there]
    if weights is not None:
        fitted = length_controlled(weights, difficulty)
    else:
        features = features_of(lengths, folder.baseline_lengths[there], difficulty)
        fitted = fit_length_controlled(features, wins, difficulty, folder.gamed, c=c)
    won, lost, tied = (int(np.count_nonzero(test)) for test in (wins > 0.5, wins < 0.5, wins == 0.5))
    return Score(
        model=model,
        n=len(there),
        win_rate=100 * float(wins.mean()),
        standard_error=100 * float(wins.std(ddof=1)) / len(there) ** 0.5,
        n_wins=won,
        n_wins_base=lost,
        n_draws=tied,
        discrete_win_rate=100 * (won + tied / 2) / len(there),
        length_controlled_winrate=fitted.win_rate,
        lc_standard_error=fitted.standard_error,
        weights=fitted.weights,
        c=fitted.c,
    )


def read_weights(path: Path) -> dict[str, Numbers]:
    """Fitted weights, a row a model: its name, then those of length, difficulty and the constant, below a heading."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row[0]: np.array(row[1:4], dtype=np.float64) for row in list(csv.reader(file))[1:]}
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, IndexError) as problem:
        raise InputError(f"{path}: a row is a model's name and three numbers: {problem}") from None


def _lengths(path: Path, models: set[str], place: dict[Any, int]) -> dict[str, Numbers]:
    """From lengths.parquet where it has the model, else counted in outputs.parquet, by the instruction's index."""
    found: dict[str, Numbers] = {}
    if (path / "lengths.parquet").exists():
        table = read_table(path / "lengths.parquet", ())
        index = table.pop("index", None)
        found = {model: _placed(table[model], index, place, path) for model in models & table.keys()}
    if missing := models - found.keys():
        for model in missing:
            found[model] = np.full(len(place), np.nan)
        outputs = read_table(path / "outputs.parquet", ("model", "index", "output"))
        for model, index, output in zip(outputs["model"], outputs["index"], outputs["output"], strict=True):
            if model in missing and index in place:
                found[model][place[index]] = len(output)
    return found


def _placed(column: list[Any], index: list[Any] | None, place: dict[Any, int], path: Path) -> Numbers:
    placed = np.full(len(place), np.nan)
    for row, value in enumerate(column):
        at = row if index is None else place.get(index[row])
        if at is None or at >= len(place):
            raise InputError(f"{path}: row {row + 1} belongs to no instruction of instructions.parquet")
        placed[at] = np.nan if value is None else value
    return placed


def read_gamed(path: Path) -> Gamed | None:
    """The rows that hold the fit in place; `None` where there is no such file."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (float(row["preference"]), float(row["std_delta_len"]), float(row["instruction_difficulty"]))
            for row in csv.DictReader(file)
        ]
    preference, length, difficulty = np.array(rows).T
    return Gamed(np.column_stack((np.tanh(length), difficulty, np.zeros(len(rows)))), preference)


def read_table(path: Path, columns: tuple[str, ...]) -> dict[str, list[Any]]:
    """The columns of a Parquet file, which must have these. Raises `InputError`."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table as read_parquet

    if not path.is_file():
        raise InputError(f"{path}: there is no such file; see docs/bench.md for what the folder holds")
    try:
        table = read_parquet(path)
    except ArrowException as problem:
        raise InputError(f"{path}: no Parquet file: {problem}") from problem
    if lacking := [column for column in columns if column not in table.column_names]:
        raise InputError(f"{path}: lacks the column {', '.join(lacking)}")
    return {name: table[name].to_pylist() for name in table.column_names}
