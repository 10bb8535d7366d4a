"""Similarities against well-known implementations, and correlations against worked examples."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import sacrebleu
from scipy.stats import spearmanr

from partsong.bench.scoring.similar import similar_in
from partsong.bench.statistics.correlation import mean_rho, partial, spearman
from partsong.bench.statistics.similarity import MEASURES, similarities, tokens_of
from partsong.errors import InputError
from tests.bench.test_bench_score import DATA, public

TEXTS = [
    "The sky is blue because air scatters short waves more than long ones.",
    "Because air scatters short waves more than long ones, the sky is blue.",
    "It is blue.",
    "the the the the the sky sky",
    "Nobody knows; ask a physicist, or look it up — it has to do with light!",
    "",
    "天空是蓝色的",
]


def test_bleu_is_that_of_sacrebleu() -> None:
    found = similarities([(text, TEXTS) for text in TEXTS])
    for row, text in enumerate(TEXTS):
        hypothesis = " ".join(tokens_of(text))
        for order in (3, 4, 5):
            metric = sacrebleu.BLEU(tokenize="none", max_ngram_order=order, effective_order=True, smooth_method="exp")
            for column, other in enumerate(TEXTS):
                mine = found[f"BLEU-{order}"][row][column]
                shared = set(tokens_of(text)) & set(tokens_of(other))
                theirs = metric.sentence_score(hypothesis, [" ".join(tokens_of(other))]).score / 100
                assert mine == pytest.approx(theirs if shared else 0.0, abs=1e-9), (text, other, order)


def test_equal_texts_are_alike_and_unlike_ones_are_not() -> None:
    found = similarities([("alpha beta gamma delta epsilon", ["alpha beta gamma delta epsilon", "one two three"])])
    for name in MEASURES:
        assert found[name][0].tolist() == pytest.approx([1.0, 0.0]), name


def test_tf_idf_is_worked_out_by_hand() -> None:
    """Three texts; a stands in all of them, b in two, c in one."""
    found = similarities([("a b", ["a c", "a b b"])])
    a, b, c = (np.log(4 / (1 + count)) + 1 for count in (3, 2, 1))
    first = a * a / (np.hypot(a, b) * np.hypot(a, c))
    second = (a * a + 2 * b * b) / (np.hypot(a, b) * np.hypot(a, 2 * b))
    assert found["TF-IDF"][0].tolist() == pytest.approx([first, second])


def test_levenshtein_counts_tokens() -> None:
    found = similarities([("one two three four", ["one two four", "one 2 three four"])])
    assert found["Levenshtein"][0].tolist() == pytest.approx([0.75, 0.75])


def test_rho_is_that_of_scipy_and_constant_rows_are_left_out() -> None:
    chance = np.random.default_rng(1)
    a, b = chance.normal(size=(2, 40, 7))
    b[0] = 3
    b[1, :4] = 2.5  # ties
    rows, others = list(a), list(b)
    expected = [spearmanr(x, y).statistic for x, y in zip(rows[1:], others[1:], strict=True)]
    found = mean_rho(rows, others)
    assert found is not None
    assert (found.n, found.without) == (39, 1)
    assert found.mean == pytest.approx(float(np.mean(expected)))
    assert found.low < found.mean < found.high
    assert spearman(np.array([1.0]), np.array([1.0])) is None


def test_what_both_have_in_common_is_taken_out() -> None:
    """Two that only seem to go together, since both follow a third."""
    chance = np.random.default_rng(2)
    third = chance.normal(size=2000)
    a, b = third + 0.5 * chance.normal(size=2000), third + 0.5 * chance.normal(size=2000)
    rho, left = spearman(a, b), partial(a, b, third)
    assert rho is not None
    assert left is not None
    assert rho > 0.7
    assert abs(left) < 0.06


def test_stored_outputs_are_joined_by_instruction(tmp_path: Path) -> None:
    """Rows of outputs and of preferences in different orders; the aggregate repeats what is liked."""
    count = 12
    rows: dict[str, list[object]] = {"model": [], "index": [], "output": []}
    for index in range(count):
        for model, text in (
            ("mix", f"answer {index} number one it is"),
            ("good", f"answer {index} number one it is indeed"),
            ("middle", f"answer {index} or so"),
            ("bad", "no idea whatever"),
        ):
            for name, value in (("model", model), ("index", index), ("output", text)):
                rows[name].append(value)
    parquet.write_table(pa.table(rows), tmp_path / "outputs.parquet")
    order = list(range(count))[::-1]
    liked = {"good": 1.9, "middle": 1.5, "bad": 1.1}
    columns = {"index": order, **{model: [value - index / 100 for index in order] for model, value in liked.items()}}
    parquet.write_table(pa.table(columns), tmp_path / "preferences.parquet")
    found = similar_in(tmp_path, "mix")
    assert found.models == 3
    assert found.rho["TF-IDF"].mean == pytest.approx(1)
    assert found.rho["TF-IDF"].n == count
    with pytest.raises(InputError, match="has no model other; it has bad, good, middle, mix"):
        similar_in(tmp_path, "other")


def test_rows_without_an_index_are_those_of_the_instructions(tmp_path: Path) -> None:
    """Preferences stand in the order of instructions.parquet, whatever the numbers of the instructions are."""
    chance = np.random.default_rng(3)
    order = [int(number) * 7 for number in chance.permutation(20)]
    words = [f"w{number}" for number in range(40)]
    rows: dict[str, list[object]] = {"model": [], "index": [], "output": []}
    liked: dict[str, list[float]] = {f"m{number}": [] for number in range(5)}
    for index in sorted(order):
        texts = {f"m{number}": words[: 10 + 6 * ((number + index) % 5)] for number in range(5)}
        for model, text in {"mix": words, **texts}.items():
            for name, value in (("model", model), ("index", index), ("output", " ".join(text))):
                rows[name].append(value)
    for index in order:
        for number in range(5):
            liked[f"m{number}"].append(1 + ((number + index) % 5) / 5)
    parquet.write_table(pa.table(rows), tmp_path / "outputs.parquet")
    parquet.write_table(pa.table({"index": order}), tmp_path / "instructions.parquet")
    parquet.write_table(pa.table(dict(liked)), tmp_path / "preferences.parquet")
    found = similar_in(tmp_path, "mix").rho
    assert (found["TF-IDF"].n, found["length alone"].n) == (20, 20)
    assert found["TF-IDF"].mean == pytest.approx(1)
    assert found["length alone"].mean == pytest.approx(1)  # here it explains everything, so that nothing is left
    assert "TF-IDF, length taken out" not in found
    parquet.write_table(pa.table({"index": order[1:]}), tmp_path / "instructions.parquet")
    with pytest.raises(InputError, match="one row for each of the 19 instructions"):
        similar_in(tmp_path, "mix")


def test_of_three_values_nothing_can_be_taken_out() -> None:
    a, b, third = np.array([1.0, 2, 3]), np.array([1.0, 3, 2]), np.array([2.0, 1, 3])
    assert spearman(a, b) == pytest.approx(0.5)
    assert partial(a, b, third) is None


@public
def test_the_public_data_gives_the_published_picture() -> None:
    found = similar_in(DATA, "Together-MoA")
    for name, rho in (("BLEU-5", 0.44), ("TF-IDF", 0.41), ("Levenshtein", 0.38)):
        assert found.rho[name].mean == pytest.approx(rho, abs=0.03)
    assert found.rho["length alone"].mean > found.rho["BLEU-5"].mean > found.rho["BLEU-5, length taken out"].high
