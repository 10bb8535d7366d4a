"""Stored judgments scored again: small made-up ones, and the public ones where they are at hand."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from partsong.bench.scoring.alpaca_eval import read_folder, read_weights, score_folder
from partsong.bench.scoring.mt_bench import grade_of, score_file
from partsong.bench.statistics.length_control import length_controlled
from partsong.cli.main import run
from partsong.errors import InputError

DATA = Path(os.environ.get("PARTSONG_ALPACA_EVAL") or Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval2")
public = pytest.mark.skipif(
    not (DATA / "expected.json").is_file(),
    reason="the public AlpacaEval data is not here: PARTSONG_ALPACA_EVAL may name its folder",
)
ODD = {"dbrx-instruct", "NullModel", "llama-2-70b-chat", "platolm-7b"}  # inconsistent as they were published


def write(path: Path, columns: Mapping[str, Any]) -> None:
    parquet.write_table(pa.table(dict(columns)), path)


def folder(path: Path, count: int = 400, *, bias: float = 0.0, skill: float = 0.0, seed: int = 1) -> Path:
    """A judged model whose answers are longer or shorter by chance, and a judge who likes length by `bias`."""
    chance = np.random.default_rng(seed)
    difficulty = chance.normal(size=count)
    longer = chance.integers(-80, 160, size=count)
    likes = skill + 0.5 * difficulty + bias * np.tanh(longer / longer.std(ddof=1))
    preference = 1 + 1 / (1 + np.exp(-likes))
    index = list(range(count))
    write(
        path / "instructions.parquet",
        {"index": index, "output": ["x" * 100] * count, "instruction_difficulty": difficulty},
    )
    write(path / "preferences.parquet", {"m": preference})
    write(path / "outputs.parquet", {"model": ["m"] * count, "index": index, "output": ["y" * n for n in 100 + longer]})
    return path


def test_a_judge_who_likes_length_is_corrected(tmp_path: Path) -> None:
    (biased,) = score_folder(folder(tmp_path, bias=3.0))
    assert biased.n == 400
    assert biased.win_rate > 60
    assert abs(biased.length_controlled_winrate - 50) < 2
    assert biased.weights[0] < -2  # the official sign: the baseline's length less the model's


def test_without_that_liking_nothing_is_corrected(tmp_path: Path) -> None:
    (fair,) = score_folder(folder(tmp_path, skill=0.8))
    assert abs(fair.length_controlled_winrate - fair.win_rate) < 1


def test_counts_ties_and_errors(tmp_path: Path) -> None:
    folder(tmp_path, count=4)
    write(tmp_path / "preferences.parquet", {"m": [2.0, 1.0, 0.0, None]})
    (score,) = score_folder(tmp_path)
    assert (score.n, score.n_wins, score.n_wins_base, score.n_draws) == (3, 1, 1, 1)
    assert score.win_rate == score.discrete_win_rate == 50
    assert score.standard_error == pytest.approx(100 * 0.5 / 3**0.5)


def test_rows_are_joined_by_their_instruction(tmp_path: Path) -> None:
    folder(tmp_path)
    in_order = score_folder(tmp_path)
    table = parquet.read_table(tmp_path / "preferences.parquet").to_pydict()["m"]
    write(tmp_path / "preferences.parquet", {"m": table[::-1], "index": list(range(400))[::-1]})
    assert score_folder(tmp_path)[0].length_controlled_winrate == pytest.approx(in_order[0].length_controlled_winrate)


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("instructions.parquet", {"index": [1]}, "lacks the column output"),
        ("preferences.parquet", {"m": [1.0]}, "one row for each of the 400"),
        ("preferences.parquet", {"m": [3.0] * 400}, "preferences are from 1 to 2"),
        ("outputs.parquet", {"model": ["m"], "index": [0], "output": ["y"]}, "have no length"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, columns: dict[str, Any], said: str) -> None:
    folder(tmp_path)
    write(tmp_path / name, columns)
    with pytest.raises(InputError, match=said):
        score_folder(tmp_path)


def test_the_command_prints_a_table_or_json(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    folder(tmp_path)
    assert run(["bench", "score", "alpaca_eval", str(tmp_path), "--json"]) == 0
    (model,) = json.loads(capfdbinary.readouterr().out)["models"]
    assert model["model"] == "m"
    assert model["length_controlled_winrate"] > 0
    assert run(["bench", "score", "alpaca_eval", str(tmp_path), "--c", "1"]) == 0
    assert b"length-controlled" in capfdbinary.readouterr().out
    assert run(["bench", "score", "alpaca_eval", str(tmp_path / "no")]) == 2
    assert b"there is no such file" in capfdbinary.readouterr().err
    assert run(["bench", "score", "alpaca_eval", str(tmp_path), "--c", "0"]) == 2


@public
def test_the_public_results_are_those_of_the_official_code() -> None:
    expected = json.loads((DATA / "expected.json").read_text("utf-8"))["sklearn1.9_numpy2.4"]
    scores = score_folder(DATA)
    assert len(scores) == 38
    off = []
    for score in scores:
        official = expected[score.model]["full"]
        for name in ("n", "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "discrete_win_rate"):
            assert getattr(score, name) == pytest.approx(official[name], abs=1e-6), (score.model, name)
        if score.n == 805:
            off.append(abs(score.length_controlled_winrate - official["length_controlled_winrate"]))
    assert max(off) <= 0.10
    assert sum(each <= 0.01 for each in off) >= 0.9 * len(off)


@public
def test_given_weights_lead_to_the_leaderboard() -> None:
    difficulty = read_folder(DATA).difficulty
    with (DATA / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    compared = 0
    for model, weights in read_weights(DATA / "glm_weights.csv").items():
        if model in published and model not in ODD:
            judged = int(float(published[model]["n_total"]))
            # Where judgments were missing, the leaderboard has averaged over all instructions or over the first ones.
            rates = [length_controlled(weights, rows).win_rate for rows in (difficulty, difficulty[:judged])]
            official = float(published[model]["length_controlled_winrate"])
            assert min(abs(rate - official) for rate in rates) < 1e-6, model
            compared += 1
    assert compared > 150


@public
def test_every_stored_grade_of_mt_bench_is_read_again() -> None:
    (score,) = score_file(DATA / "mtbench_judgments.jsonl.zst")
    assert (score.n, score.unreadable, score.differing) == (160, 0, 0)
    assert [round(turn or 0, 2) for turn in score.turns] == [9.24, 9.18]
    assert len(score.categories) == 8


@pytest.mark.parametrize(
    ("words", "grade"),
    [
        ("Good. Rating: [[9]]", 9),
        ("Rating: [7.5]", 7.5),
        ("[[3]] or rather [[4]]", 4),
        ("ten", None),
        ("[[11]]", None),
        ("Rating: [[7/10]]", 7),
        ("[[ 7 ]]", 7),
        ("[[ 7.5 / 10 ]]", 7.5),
        ("[8 / 10]", 8),
        ("[[4/5]]", None),
        ("[[9]] as I said in [1]", 9),
        ("[[5]], at most [[11]]", None),
        ("[[rating]] is [[6]]", 6),
        ("[" * 9999, None),
    ],
)
def test_a_grade_is_read_or_missing(words: str, grade: float | None) -> None:
    assert grade_of(words) == grade


def test_mt_bench_counts_what_cannot_be_read(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = [
        {"question_id": 81, "turn": 1, "model": "m", "judgment": "[[8]]", "score": 8},
        {"question_id": "112", "turn": "2", "model": "m", "judgment": "[[6]]", "score": 5},
        {"question_id": 82, "turn": 1, "model": "m", "judgment": "I cannot say.", "score": -1},
    ]
    path = tmp_path / "judgments.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (score,) = score_file(path)
    assert (score.n, score.unreadable, score.differing, score.turns, score.mean) == (3, 1, 1, (8, 6), 7)
    assert score.categories == {"writing": 8, "math": 6}
    assert run(["bench", "score", "mt_bench", str(path)]) == 0
    assert b"8.00" in capfdbinary.readouterr().out
    path.write_text('{"question_id": 81, "turn": 3, "model": "m", "judgment": ""}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 1: turn is 3"):
        score_file(path)
