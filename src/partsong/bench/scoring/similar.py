"""Correlates the similarity of stored outputs to an aggregated output with the preferences of a judge.

The folder has the layout of AlpacaEval (docs/bench.md). Outputs and preferences are joined by instruction, so the order
of the rows does not matter. The correlation of length and preference is computed too, because long texts have more in
common.
"""

from pathlib import Path

import numpy as np
from msgspec import Struct

from partsong.bench.scoring.alpaca_eval import read_table
from partsong.bench.statistics.correlation import Rho, mean_rho
from partsong.bench.statistics.similarity import MEASURES, similarities
from partsong.errors import InputError


class Similar(Struct, frozen=True):
    """Correlations between similarity to an aggregated output and preference, over the outputs of several models.

    aggregate: name of the model whose outputs are the aggregated outputs
    models: number of other models
    rho: mean of Spearman's rho over instructions, by label

    The labels in `rho` are the measures of similarity, such as "BLEU-5". With ", length taken out" appended, the label
    is for the partial rho with the length of the outputs held constant. "length alone" is for the rho between length
    and preference.
    """

    aggregate: str
    models: int
    rho: dict[str, Rho]


def similar_in(path: Path, aggregate: str, seed: int = 0) -> Similar:
    """Compute the correlations from the files of a folder.

    path: folder with outputs.parquet and preferences.parquet
    aggregate: model in outputs.parquet whose outputs are the aggregated outputs
    seed: seed of the bootstrap of the intervals; 0 by default

    Raises `InputError` if a file cannot be used, if `aggregate` has no outputs, or if fewer than two other models have
    outputs and preferences.
    """
    outputs = read_table(path / "outputs.parquet", ("model", "index", "output"))
    texts: dict[str, dict[int, str]] = {}
    for model, index, output in zip(outputs["model"], outputs["index"], outputs["output"], strict=True):
        texts.setdefault(model, {})[index] = output or ""
    if aggregate not in texts:
        raise InputError(f"{path / 'outputs.parquet'}: has no model {aggregate}; it has {', '.join(sorted(texts))}")
    judged = read_table(path / "preferences.parquet", ())
    index_of = judged.pop("index", None) or read_table(path / "instructions.parquet", ("index",))["index"]
    models = [model for model in judged if model in texts and model != aggregate]
    if len(models) < 2:
        raise InputError(f"{path}: at least two models with outputs and preferences are needed")
    if any(len(judged[model]) != len(index_of) for model in models):
        raise InputError(
            f"{path / 'preferences.parquet'}: one row for each of the {len(index_of)} instructions is needed"
        )
    row_of = {index: row for row, index in enumerate(index_of)}
    questions, grades, lengths = [], [], []
    for index, text in texts[aggregate].items():
        row = row_of.get(index)
        liked = {} if row is None else {model: judged[model][row] for model in models if index in texts[model]}
        there = [model for model, value in liked.items() if value is not None and np.isfinite(value)]
        if len(there) < 2:
            continue
        others = [texts[model][index] for model in there]
        questions.append((text, others))
        grades.append(np.array([liked[model] or 1.5 for model in there], dtype=np.float64))  # 0 is a tie
        lengths.append(np.array([len(other) for other in others], dtype=np.float64))
    likeness = similarities(questions)
    rho: dict[str, Rho] = {}
    for name in MEASURES:
        for label, beside in ((name, None), (f"{name}, length taken out", lengths)):
            if (found := mean_rho(likeness[name], grades, beside, seed=seed)) is not None:
                rho[label] = found
    if (found := mean_rho(lengths, grades, seed=seed)) is not None:
        rho["length alone"] = found
    return Similar(aggregate, len(models), rho)
