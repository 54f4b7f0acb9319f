"""Comparing accuracy-size curves: the size of a baseline at a given accuracy, and its accuracy at a given size.

The rule for sizes is the paper's footnote 2: "The best baseline refers to the smallest model among SVD, FWSVD, ASVD,
and AFM that achieves accuracy matched to IMPACT. If no baseline exactly matches the accuracy, the model size is
interpolated linearly between two adjacent compression points." A curve is a method's models and the dense model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results.numbers.statistics import FloatArray


@dataclass(frozen=True)
class Match:
    """The smallest baseline model of an accuracy: which method, and its size in the unit of the points given."""

    method: str
    size: float


def matched_size(baselines: Mapping[str, Sequence[tuple[float, float]]], accuracy: float) -> Match | None:
    """The smallest baseline model whose accuracy is ``accuracy`` by footnote 2, or None where no curve reaches it.

    Args:
        baselines: for each method its points (size, accuracy), the dense model among them. A point of exactly this
            accuracy counts at its own size; otherwise sizes are interpolated between points adjacent in size, never
            extrapolated.
    """
    matches = []
    for method, points in baselines.items():
        sizes, accuracies = np.array(points, dtype=np.float64).T
        size = sizes_at_accuracy(sizes, accuracies[:, None], np.array([accuracy]))[0]
        if not np.isnan(size):
            matches.append(Match(method, float(size)))
    return min(matches, key=lambda match: match.size, default=None)


def sizes_at_accuracy(sizes: FloatArray, accuracies: FloatArray, target: FloatArray) -> FloatArray:
    """`matched_size` of one method in many resamples at once.

    Args:
        sizes: (points,), in any order.
        accuracies: (points, resamples).
        target: (resamples,), the accuracy to match.

    Returns:
        (resamples,), the smallest matching size, nan where the curve does not reach the target.
    """
    order = np.argsort(sizes)
    sizes, accuracies = sizes[order], accuracies[order]
    offset = accuracies - target
    candidates = [np.where(offset == 0, sizes[:, None], np.inf)]
    if len(sizes) > 1:
        below, above = offset[:-1], offset[1:]
        crossing = below * above < 0
        share = below / np.where(crossing, below - above, 1.0)
        step = np.diff(sizes)[:, None]
        candidates.append(np.where(crossing, sizes[:-1, None] + share * step, np.inf))
    smallest: FloatArray = np.concatenate(candidates).min(axis=0)
    return np.where(np.isinf(smallest), np.nan, smallest)


def size_bounds_at_accuracy(
    sizes: FloatArray, accuracies: FloatArray, target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What the curve says of the size it needs for the target accuracy, where footnote 2 may be silent.

    Shapes as in `sizes_at_accuracy`. Where the curve reaches the target both bounds are the matched size. Where every
    point is less accurate, only a model larger than the largest could match: (largest, inf). Where every point is more
    accurate, the smallest point already does better: (0, smallest).
    """
    matched = sizes_at_accuracy(sizes, accuracies, target)
    too_accurate = target > accuracies.max(axis=0)
    low = np.where(too_accurate, sizes.max(), 0.0)
    high = np.where(too_accurate, np.inf, sizes.min())
    unmatched = np.isnan(matched)
    return np.where(unmatched, low, matched), np.where(unmatched, high, matched)


def values_at_size(sizes: FloatArray, values: FloatArray, at: FloatArray | float) -> FloatArray:
    """Values of one method at one size or several, interpolated linearly in size between adjacent points.

    Args:
        sizes: (points,), in any order.
        values: (points, draws), finite.
        at: (...).

    Returns:
        (..., draws).

    Raises:
        ValueError: a size is outside the curve; nothing is extrapolated.
    """
    outside = (np.less(at, sizes.min()) | np.greater(at, sizes.max())).ravel()
    if outside.any():
        size = np.ravel(at)[outside][0]
        raise ValueError(f"size {size:g} is outside the curve's {sizes.min():g} to {sizes.max():g}")
    order = np.argsort(sizes)
    sizes, values = sizes[order], values[order]
    right = np.searchsorted(sizes, at)
    left = np.maximum(right - 1, 0)
    exact = sizes[right] == at
    share = np.where(exact, 1.0, (at - sizes[left]) / np.where(exact, 1.0, sizes[right] - sizes[left]))[..., None]
    between: FloatArray = (1 - share) * values[left] + share * values[right]
    return between
