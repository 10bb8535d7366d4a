"""Scores AlpacaEval 2.0 from stored preferences: win rate, its standard error, and the length-controlled win rate.

Preferences, lengths and difficulties are joined by instruction. The official code joins difficulties by row number,
which is wrong if a preference of a model is missing. The option `upstream_row_order` joins by row number too, to
compare with published figures.
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
    """The scores of one model against the baseline.

    model: name of the model
    n: number of judged answers
    win_rate: mean preference, in percent
    standard_error: standard error of `win_rate`, in percentage points
    n_wins, n_wins_base, n_draws: number of preferences for the model, for the baseline, and for neither
    discrete_win_rate: share of the wins, in percent, with draws counted half
    length_controlled_winrate: win rate estimated for answers as long as the baseline's, in percent
    lc_standard_error: standard error of `length_controlled_winrate`, in percentage points
    weights: weights of the length difference, of the difficulty and of the constant
    c: inverse strength of the penalty of the fit; `None` if the weights were read from a file
    """

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
    """The content of a folder. All arrays have the shape (number of instructions,), in the order of the instructions.

    difficulty: difficulties of the instructions
    baseline_lengths: lengths of the baseline's outputs, in characters
    preferences: from 1 (the baseline is preferred) to 2 (the model), or 0 for a tie, by model; NaN if not judged
    lengths: lengths of the model's outputs in characters, by model; NaN if unknown
    gamed: rows that stabilise the fit; `None` if their file is not in the folder
    """

    difficulty: Numbers
    baseline_lengths: Numbers
    preferences: dict[str, Numbers]
    lengths: dict[str, Numbers]
    gamed: Gamed | None


def score_folder(
    path: Path, *, c: float | None = None, weights: Path | None = None, upstream_row_order: bool = False
) -> list[Score]:
    """Score every model that has preferences in the folder.

    path: the folder, with instructions.parquet, preferences.parquet, and lengths.parquet or outputs.parquet
    c: inverse strength of the penalty; by default chosen by cross-validation
    weights: CSV file of fitted weights to use instead of a fit; models without a row in the file are then left out
    upstream_row_order: whether difficulties are joined by row number, as in the official code; false by default

    Raises `InputError` for an unusable file, for a model with fewer than two preferences, or for `c` with `weights`.
    """
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
    """Read the files of a folder. Raises `InputError` with the file and the missing column, row or file."""
    instructions = read_table(path / "instructions.parquet", ("index", "output", "instruction_difficulty"))
    rows = {index: row for row, index in enumerate(instructions["index"])}
    judged = read_table(path / "preferences.parquet", ())
    index = judged.pop("index", None)
    if index is None and any(len(column) != len(rows) for column in judged.values()):
        raise InputError(f"{path / 'preferences.parquet'}: one row for each of the {len(rows)} instructions is needed")
    preferences = {model: _ordered(column, index, rows, path) for model, column in judged.items()}
    lengths = _lengths(path, set(preferences), rows)
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
    """Score one model. `weights` are fitted weights of shape (3,); by default they are fitted here."""
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
    """Read fitted weights from a CSV file, by model: arrays of the shape (3,).

    The columns are model, length, difficulty and constant, below a line of headings. Raises `InputError` if the file
    cannot be read, or if a row is not a name and three numbers.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row[0]: np.array(row[1:4], dtype=np.float64) for row in list(csv.reader(file))[1:]}
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, IndexError) as problem:
        raise InputError(f"{path}: a row is a model's name and three numbers: {problem}") from None


def _lengths(path: Path, models: set[str], rows: dict[Any, int]) -> dict[str, Numbers]:
    """Return the lengths of each model's outputs in characters, in the order of the instructions.

    rows: index of the row of each instruction, by the instruction's id

    Lengths come from lengths.parquet. For models that are missing there, they are counted in outputs.parquet.
    """
    found: dict[str, Numbers] = {}
    if (path / "lengths.parquet").exists():
        table = read_table(path / "lengths.parquet", ())
        index = table.pop("index", None)
        found = {model: _ordered(table[model], index, rows, path) for model in models & table.keys()}
    if missing := models - found.keys():
        for model in missing:
            found[model] = np.full(len(rows), np.nan)
        outputs = read_table(path / "outputs.parquet", ("model", "index", "output"))
        for model, index, output in zip(outputs["model"], outputs["index"], outputs["output"], strict=True):
            if model in missing and index in rows:
                found[model][rows[index]] = len(output)
    return found


def _ordered(column: list[Any], index: list[Any] | None, rows: dict[Any, int], path: Path) -> Numbers:
    """Return a column as an array in the order of the instructions, with NaN for missing values.

    index: id of the instruction of each value; `None` if the values are in the order of the instructions
    rows: index of the row of each instruction, by the instruction's id
    path: folder for the error message

    Raises `InputError` if a value belongs to no instruction.
    """
    ordered = np.full(len(rows), np.nan)
    for number, value in enumerate(column):
        row = number if index is None else rows.get(index[number])
        if row is None or row >= len(rows):
            raise InputError(f"{path}: row {number + 1} belongs to no instruction of instructions.parquet")
        ordered[row] = np.nan if value is None else value
    return ordered


def read_gamed(path: Path) -> Gamed | None:
    """Read the rows that stabilise the fit (see `Gamed`) from a CSV file; `None` if the file does not exist.

    The columns are `preference`, `std_delta_len` (standardised length difference) and `instruction_difficulty`.
    """
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
    """Read all columns of a Parquet file, each as a list of values by name.

    columns: names of the columns that the file must have

    Raises `InputError` if the file does not exist, is no Parquet file, or lacks one of `columns`.
    """
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
