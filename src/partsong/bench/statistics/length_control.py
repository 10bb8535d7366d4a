"""The length-controlled win rate: an estimate of what a judge would prefer if both answers were equally long.

The model is a logistic regression of the preference on tanh(length difference), the difficulty of the instruction and a
constant. All three have an L1 penalty (Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475). The weight
of the penalty is chosen by cross-validation. A proximal Newton method in NumPy solves all folds and weights together:
the import of a library would take longer than all the fits.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

GRID: tuple[float, ...] = tuple(10.0 ** (-4 + 8 * step / 9) for step in range(10))  # as scikit-learn's `Cs=10`
FOLDS = 5
GAMED_WEIGHT = 0.1  # of each row of the two gamed baselines: 0.2, shared by two
STEPS, SWEEPS = 60, 200
CLOSE = 1e-9


class Gamed(Struct, frozen=True):
    """Rows of the gamed baselines, which stabilise the fit: a model told to be brief or verbose, against itself."""

    features: Numbers
    preferences: Numbers


class LengthControlled(Struct, frozen=True):
    """The result of a fit, in percent.

    weights: of length, difficulty and the constant
    c: inverse weight of the penalty; `None` if the weights were given
    """

    win_rate: float
    standard_error: float
    weights: tuple[float, float, float]
    c: float | None


def features_of(lengths: Numbers, baseline_lengths: Numbers, difficulty: Numbers) -> Numbers:
    """The three columns of the regression. Length differences are divided by their standard deviation."""
    difference = baseline_lengths - lengths
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    standardised = difference / spread if spread else np.zeros(len(difference))
    return np.column_stack((np.tanh(standardised), difficulty, np.ones(len(difficulty))))


def length_controlled(weights: Numbers, difficulty: Numbers, c: float | None = None) -> LengthControlled:
    """The win rate that a fitted model predicts for answers as long as those of the baseline."""
    predicted = _sigmoid(weights[2] + weights[1] * difficulty)
    error = float(predicted.std(ddof=1)) / len(predicted) ** 0.5 if len(predicted) > 1 else float("nan")
    length, hard, constant = (float(weight) for weight in weights)
    return LengthControlled(100 * float(predicted.mean()), 100 * error, (length, hard, constant), c)


def fit_length_controlled(
    features: Numbers, preferences: Numbers, difficulty: Numbers, gamed: Gamed | None = None, *, c: float | None = None
) -> LengthControlled:
    """Fit preferences from 0 to 1, and predict for `difficulty`. Without `c`, cross-validation chooses from `GRID`."""
    weight = np.ones(len(preferences))
    if gamed is not None:
        weight = np.concatenate((np.full(len(gamed.preferences), GAMED_WEIGHT), weight))
        features = np.concatenate((gamed.features, features))
        preferences = np.concatenate((gamed.preferences, preferences))
    chosen = cross_validated(features, preferences, weight) if c is None else c
    fitted = fit_penalised(features, preferences, weight[:, None], np.array([chosen]))[:, 0]
    return length_controlled(fitted, difficulty, chosen)


def resampled(
    features: Numbers,
    preferences: Numbers,
    difficulty: Numbers,
    c: float,
    gamed: Gamed | None = None,
    *,
    resamples: int = 400,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of the win rate over instructions, with a new fit for each resample.

    The official standard error is narrower: it covers the predicted preferences, but not the error of the fit itself.
    """
    count = len(preferences)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).T.astype(float)
    weight = drawn
    if gamed is not None:
        rows = len(gamed.preferences)
        weight = np.concatenate((np.full((rows, resamples), GAMED_WEIGHT), drawn))
        features = np.concatenate((gamed.features, features))
        preferences = np.concatenate((gamed.preferences, preferences))
    fitted = fit_penalised(features, preferences, weight, np.full(resamples, c))
    predicted = _sigmoid(fitted[2] + np.outer(difficulty, fitted[1]))
    rates = 100 * (predicted * drawn).sum(axis=0) / count
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


def folds_of(count: int) -> NDArray[np.intp]:
    """The index of each row's fold. Rows take turns from the last one on, as in scikit-learn with equal groups."""
    return np.arange(count)[::-1] % FOLDS


def cross_validated(features: Numbers, preferences: Numbers, weight: Numbers) -> float:
    """The value in `GRID` with the lowest mean log loss over the folds; of equal ones, the smallest."""
    fold = folds_of(len(preferences))
    training = (fold[:, None] != np.arange(FOLDS)) * weight[:, None]
    fitted = fit_penalised(features, preferences, np.repeat(training, len(GRID), axis=1), np.tile(GRID, FOLDS))
    scores = features @ fitted
    losses = (np.logaddexp(0, scores) - preferences[:, None] * scores) * weight[:, None]
    means = [
        losses[fold == one, one * len(GRID) : (one + 1) * len(GRID)].mean(axis=0)
        for one in range(FOLDS)
        if (fold == one).any()
    ]
    return GRID[int(np.argmin(np.mean(means, axis=0)))]


def fit_penalised(features: Numbers, preferences: Numbers, weight: Numbers, c: Numbers) -> Numbers:
    """Minimise |w|₁ + c · Σ weight · log loss, for each column of `weight` with its `c`; a column of w for each."""
    count, problems = features.shape[1], len(c)
    solved = np.zeros((count, problems))
    # At zero the slope is known without a search: where no part of it beats the penalty, zero is the answer.
    slopes = c * np.abs(features.T @ (weight * (0.5 - preferences[:, None])))
    live = np.flatnonzero((slopes > 1).any(axis=0))
    for _ in range(STEPS):
        if not len(live):
            break
        here, mass, scale = solved[:, live], weight[:, live], c[live]
        scores = features @ here
        likely = _sigmoid(scores)
        slope = scale * (features.T @ (mass * (likely - preferences[:, None])))
        bend = mass * likely * (1 - likely)
        curve = np.empty((count, count, len(live)))
        for row in range(count):
            for column in range(row, count):
                curve[row, column] = curve[column, row] = scale * ((features[:, row] * features[:, column]) @ bend)
        move = _penalised_move(here, slope, curve)
        promised = (slope * move).sum(axis=0) + np.abs(here + move).sum(axis=0) - np.abs(here).sum(axis=0)
        before = _objective(here, scores, preferences, mass, scale)
        length, moved = np.ones(len(live)), features @ move
        for _ in range(30):
            after = _objective(here + length * move, scores + length * moved, preferences, mass, scale)
            worse = after > before + 1e-4 * length * promised + 1e-12 * np.abs(before)
            if not worse.any():
                break
            length = np.where(worse, length / 2, length)
        solved[:, live] = here + length * move
        live = live[np.abs(move).max(axis=0) > CLOSE * (1 + np.abs(here).max(axis=0))]
    return solved


def _penalised_move(here: Numbers, slope: Numbers, curve: Numbers) -> Numbers:
    """For each problem, the step to the minimum of its quadratic model with the penalty, by coordinate descent."""
    move = np.zeros_like(here)
    for _ in range(SWEEPS):
        greatest = 0.0
        for row in range(len(here)):
            stiffness = curve[row, row] + 1e-12
            pull = slope[row] + (curve[row] * move).sum(axis=0)
            aim = here[row] + move[row] - pull / stiffness
            new = np.sign(aim) * np.maximum(np.abs(aim) - 1 / stiffness, 0) - here[row]
            greatest = max(greatest, float(np.abs(new - move[row]).max()))
            move[row] = new
        if greatest < CLOSE / 10:
            break
    return move


def _objective(weights: Numbers, scores: Numbers, preferences: Numbers, mass: Numbers, c: Numbers) -> Numbers:
    losses = mass * (np.logaddexp(0, scores) - preferences[:, None] * scores)
    return np.asarray(np.abs(weights).sum(axis=0) + c * losses.sum(axis=0))


def _sigmoid(scores: Numbers) -> Numbers:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))
