"""The length-controlled win rate: an estimate of the win rate if the answers of model and baseline were equally long.

A logistic regression predicts the judge's preference from tanh(length difference), the difficulty of the instruction
and a constant. All three weights have an L1 penalty (Dubois et al., "Length-Controlled AlpacaEval", arXiv 2404.04475).
The strength of the penalty is chosen by cross-validation. A proximal Newton method in NumPy solves all folds and
strengths together: the import of a library would take longer than all the fits.

In the arrays of this file, a row is an instruction, and n is the number of instructions. A preference is the
probability, from 0 to 1, that the judge prefers the model's answer to the baseline's. The difficulty is the number that
AlpacaEval publishes for each instruction. A `c` is the inverse strength of the penalty, as in scikit-learn: a greater
`c` penalises less.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

GRID: tuple[float, ...] = tuple(10.0 ** (-4 + 8 * step / 9) for step in range(10))  # as scikit-learn's `Cs=10`
FOLDS = 5  # of the cross-validation
GAMED_WEIGHT = 0.1  # weight of a gamed row, where an ordinary row has 1: the official 0.2, divided by two baselines
STEPS, SWEEPS = 60, 200  # most Newton steps, and most sweeps of coordinate descent in each step
CLOSE = 1e-9  # relative change of the weights below which a fit has converged


class Gamed(Struct, frozen=True):
    """Rows that stabilise the fit: the baseline model, told to be brief or to be verbose, compared with itself.

    features: shape (m, 3), with the columns of `features_of`; the column of the constant is 0
    preferences: shape (m,), from 0 to 1
    """

    features: Numbers
    preferences: Numbers


class LengthControlled(Struct, frozen=True):
    """The length-controlled win rate, and the fit that it comes from.

    win_rate: percent
    standard_error: standard error of the mean of the predicted preferences, in percentage points; NaN for one row
    weights: weights of the length difference, of the difficulty and of the constant
    c: inverse strength of the penalty; `None` if the weights were not fitted here
    """

    win_rate: float
    standard_error: float
    weights: tuple[float, float, float]
    c: float | None


def features_of(lengths: Numbers, baseline_lengths: Numbers, difficulty: Numbers) -> Numbers:
    """Return the features of the regression: shape (n, 3), with the columns tanh(length difference), difficulty and 1.

    lengths: lengths of the model's answers in characters, shape (n,)
    baseline_lengths: lengths of the baseline's answers in characters, shape (n,)
    difficulty: difficulties of the instructions, shape (n,)

    A length difference is the baseline's length minus the model's, divided by the standard deviation of the
    differences. If all differences are equal, the first column is 0.
    """
    difference = baseline_lengths - lengths
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    standardised = difference / spread if spread else np.zeros(len(difference))
    return np.column_stack((np.tanh(standardised), difficulty, np.ones(len(difficulty))))


def length_controlled(weights: Numbers, difficulty: Numbers, c: float | None = None) -> LengthControlled:
    """Return the win rate that fitted weights predict for answers as long as the baseline's.

    weights: weights of the length difference, of the difficulty and of the constant, shape (3,)
    difficulty: difficulties of the instructions to predict for, shape (n,)
    c: inverse strength of the penalty, which is only passed on to the result; `None` by default
    """
    predicted = _sigmoid(weights[2] + weights[1] * difficulty)
    error = float(predicted.std(ddof=1)) / len(predicted) ** 0.5 if len(predicted) > 1 else float("nan")
    length, hard, constant = (float(weight) for weight in weights)
    return LengthControlled(100 * float(predicted.mean()), 100 * error, (length, hard, constant), c)


def fit_length_controlled(
    features: Numbers, preferences: Numbers, difficulty: Numbers, gamed: Gamed | None = None, *, c: float | None = None
) -> LengthControlled:
    """Fit the regression, and return the win rate for answers as long as the baseline's.

    features: shape (n, 3), from `features_of`
    preferences: from 0 to 1, shape (n,)
    difficulty: difficulties of the instructions to predict for, shape (n,)
    gamed: additional rows for the fit alone; none by default
    c: inverse strength of the penalty; by default chosen from `GRID` by cross-validation
    """
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
    """Return both ends of the 95 % bootstrap interval of the length-controlled win rate, in percent.

    features, preferences, difficulty, gamed: as for `fit_length_controlled`
    c: inverse strength of the penalty, the same for all resamples
    resamples: number of bootstrap samples of the instructions, each with a fit of its own; 400 by default
    seed: seed of the bootstrap; 0 by default

    The official standard error is narrower: it covers the spread of the predicted preferences, but not the error of the
    fit.
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
    """Return the fold of each of `count` rows, from 0 to 4: shape (count,).

    The last row is in fold 0, the row before it in fold 1, and so on. So does scikit-learn's `GroupKFold` if all groups
    have the same size.
    """
    return np.arange(count)[::-1] % FOLDS


def cross_validated(features: Numbers, preferences: Numbers, weight: Numbers) -> float:
    """Return the `c` in `GRID` with the lowest log loss on held-out rows, averaged over the folds.

    features: shape (n, 3)
    preferences: from 0 to 1, shape (n,)
    weight: weight of each row, shape (n,)

    If several values have the lowest loss, the smallest is returned.
    """
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
    """Solve several penalised logistic regressions together: each minimises |w|₁ + c · Σ weight · log loss.

    features: shape (n, k), the same for all problems
    preferences: from 0 to 1, shape (n,), the same for all problems
    weight: weight of each row in each problem, shape (n, p)
    c: inverse strength of the penalty of each problem, shape (p,)

    Returns the weights w: shape (k, p), with a column for each problem.
    """
    count, problems = features.shape[1], len(c)
    solved = np.zeros((count, problems))
    # Where no component of the slope at w = 0 exceeds the slope of the penalty, w = 0 is the minimum.
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
    """Return the Newton step of each problem with the penalty included, found by coordinate descent: shape (k, p).

    here: current weights, shape (k, p)
    slope: gradient of the loss at `here`, shape (k, p)
    curve: Hessian of the loss at `here`, shape (k, k, p)
    """
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
    """Return the penalised loss of each problem: shape (p,). `scores` is `features @ weights`."""
    losses = mass * (np.logaddexp(0, scores) - preferences[:, None] * scores)
    return np.asarray(np.abs(weights).sum(axis=0) + c * losses.sum(axis=0))


def _sigmoid(scores: Numbers) -> Numbers:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))
