"""Intervals and tests for pass@1 accuracies. Accuracies are fractions in 0..1, ``n`` counts problems."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

FloatArray = npt.NDArray[np.float64]
CONFIDENCE, RESAMPLES = 0.95, 2000


@dataclass(frozen=True)
class Interval:
    """A two-sided interval, both ends in the unit of what it bounds."""

    low: float
    high: float


def standard_error(accuracy: float | FloatArray, n: npt.ArrayLike) -> FloatArray:
    """Binomial standard errors of accuracies over ``n`` problems, of shapes that broadcast."""
    errors: FloatArray = np.sqrt(accuracy * (1 - accuracy) / np.asarray(n))
    return errors


# tables ask for the same few counts again and again, and each is a search
@lru_cache(maxsize=4096)
def wilson_interval(correct: float, n: int) -> Interval:
    """95 % Wilson score interval of an accuracy of ``correct`` out of ``n`` problems (Wilson 1927, JASA 22:209-212).

    ``correct`` may be fractional, as the mean count over several seeds is: the interval is then interpolated between
    those of the two whole counts beside it. ``n`` stays the number of problems: a second seed brings no new problems.

    Raises:
        ValueError: ``n`` is not positive, or ``correct`` is outside 0..n.
    """
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"an accuracy needs 0 <= correct <= n and n > 0, got {correct} of {n}")
    below = int(np.floor(correct))
    weight = correct - below
    ends = np.array(binomtest(below, n).proportion_ci(CONFIDENCE, method="wilson"))
    if weight > 0:
        above = np.array(binomtest(below + 1, n).proportion_ci(CONFIDENCE, method="wilson"))
        ends = (1 - weight) * ends + weight * above
    return Interval(float(ends[0]), float(ends[1]))


def mcnemar_exact(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947, Psychometrika 12:153-157) of two models on the same
    problems: of those that one alone solved, each is as likely the first's as the second's.

    Args:
        first, second: booleans of shape (n,), whether each model solved each problem.

    Raises:
        ValueError: the vectors are not of one same length.
    """
    a, b = _paired(first, second)
    only_first, discordant = int(np.sum((a > 0) & (b == 0))), int(np.sum((a > 0) != (b > 0)))
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


# a table asks for the same two again and again: its benchmarks in turn
@lru_cache(maxsize=2)
def resample_counts(n: int, resamples: int, seed: int) -> FloatArray:
    """How often each of ``n`` problems is drawn in each bootstrap resample: shape (resamples, n), every row sums to n.

    One matrix, which is read-only, serves every model: a comparison between models is paired (Efron & Tibshirani 1993,
    ch. 8).
    """
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    counts.flags.writeable = False
    return counts


def resampled_accuracies(scores: npt.ArrayLike, counts: FloatArray) -> FloatArray:
    """Accuracy of every model in every resample: scores (models, n), counts (resamples, n) -> (models, resamples).

    Scores are 0 or 1, or means over seeds between them.
    """
    return np.asarray(scores, dtype=np.float64) @ counts.T / counts.shape[1]


def percentile_interval(draws: FloatArray) -> Interval:
    """95 % bootstrap percentile interval of draws of shape (resamples,); infinite draws are allowed."""
    tail = (1 - CONFIDENCE) / 2
    # 'nearest' keeps infinite draws from turning into nan through interpolation
    low, high = np.quantile(draws, [tail, 1 - tail], method="nearest")
    return Interval(float(low), float(high))


def paired_bootstrap(first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int) -> Interval:
    """Percentile interval of accuracy(first) - accuracy(second), resampling problems (Efron & Tibshirani 1993, ch. 13).

    Args:
        first, second: scores of shape (n,) on the same problems in the same order.

    Raises:
        ValueError: the vectors are not of one same length.
    """
    a, b = _paired(first, second)
    draws = resampled_accuracies((a - b)[None, :], resample_counts(len(a), RESAMPLES, seed))
    return percentile_interval(draws[0])


def _paired(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(
            f"paired scores must be two vectors over the same problems, got shapes {a.shape} and {b.shape}"
        )
    return a, b
