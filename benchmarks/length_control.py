"""The length-controlled fit on made-up judgments, beside the fit by scikit-learn that the official code makes.

    python benchmarks/length_control.py

Needs scikit-learn. Both fits get the same three features and soft labels of 805 instructions, ten values of C, and five
folds.
"""

import subprocess
import sys
import time

import numpy as np


def judged(seed: int, count: int = 805) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    difficulty = chance.normal(size=count)
    length = chance.normal(size=count)
    likes = 0.4 * difficulty + 0.6 * np.tanh(length) + chance.normal(size=count) - 0.3
    return np.column_stack((np.tanh(length), difficulty, np.ones(count))), 1 / (1 + np.exp(-2 * likes)), difficulty


def official(features: np.ndarray, preferences: np.ndarray) -> object:
    """Every row twice, once for each label, weighed by its share; C by grouped cross-validation."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold

    count = len(preferences)
    rows = np.concatenate((features, features))
    labels = np.concatenate((np.ones(count), np.zeros(count)))
    weights = np.concatenate((preferences, 1 - preferences))
    groups = np.concatenate((np.arange(count), np.arange(count)))
    folds = list(GroupKFold(5).split(rows, labels, groups))
    model = LogisticRegressionCV(
        Cs=10, cv=folds, penalty="l1", solver="liblinear", fit_intercept=False, scoring="neg_log_loss"
    )
    return model.fit(rows, labels, sample_weight=weights)


def main() -> None:
    import warnings

    from partsong.bench.statistics.length_control import fit_length_controlled

    warnings.simplefilter("ignore")
    problems = [judged(seed) for seed in range(8)]
    official(*problems[0][:2])
    fit_length_controlled(*problems[0])
    ours = theirs = 0.0
    for features, preferences, difficulty in problems:
        began = time.perf_counter()
        fit_length_controlled(features, preferences, difficulty)
        between = time.perf_counter()
        official(features, preferences)
        ours, theirs = ours + between - began, theirs + time.perf_counter() - between
    each = [1000 * total / len(problems) for total in (ours, theirs)]
    print(f"a fit: {each[0]:.0f} ms here, {each[1]:.0f} ms by scikit-learn: {theirs / ours:.1f} times")
    imports = []
    for name in ("partsong.bench.statistics.length_control", "sklearn.linear_model"):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
        imports.append(time.perf_counter() - began)
    print(f"import, with the interpreter: {imports[0]:.2f} s here, {imports[1]:.2f} s of scikit-learn")


if __name__ == "__main__":
    main()
