"""What judging a sentence of the paper gives, by what numbers it is decided, and the words for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from results.numbers.printed import PrintedNumber
from results.numbers.statistics import CONFIDENCE, FloatArray, Interval, percentile_interval

Outcome = Literal["holds", "does not hold", "cannot be told apart", "not measured"]
PrintVerdict = Literal["follows", "does not follow", "cannot be derived"]
Kind = Literal["claim", "finding"]


@dataclass(frozen=True)
class Finding:
    """An outcome, the sentence that gives its figures, and these figures by name."""

    verdict: Outcome
    explanation: str
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Recomputed:
    """What recomputing a sentence from the printed numbers gives, and the numbers that decide it."""

    verdict: PrintVerdict
    explanation: str
    rests_on: tuple[PrintedNumber, ...]
    figures: Mapping[str, float | None] = field(default_factory=dict)


def follows(holds: bool) -> PrintVerdict:
    """The verdict on a sentence that its printed numbers settle."""
    return "follows" if holds else "does not follow"


def compared(low: float, high: float, claim: float, strictly: bool) -> Outcome:
    """Whether what lies between two ends is at least a claimed number, or more where that is meant strictly."""
    if low > claim or (low == claim and not strictly):
        return "holds"
    if high < claim or (high == claim and strictly):
        return "does not hold"
    return "cannot be told apart"


def agreed(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that all have; where they differ it cannot be told apart, without any it is not measured."""
    different = set(outcomes) or {"not measured"}
    return different.pop() if len(different) == 1 else "cannot be told apart"


@dataclass(frozen=True)
class Comparison:
    """A difference that ought to be above zero, such as IMPACT's accuracy minus another model's.

    It is (1 + resamples,) in points; it may support that it is above zero, or refute it, or either.
    """

    differences: FloatArray
    supports: bool
    refutes: bool

    @property
    def difference(self) -> float:
        """That of the accuracies themselves."""
        return float(self.differences[0])


def all_ahead(comparisons: Sequence[Comparison]) -> Finding:
    """Whether all of some differences are above zero.

    They are when every 95 % interval is above zero; they are not when, by a band that covers all comparisons at once
    (95 %, max-t bootstrap), some difference is below zero.

    Returns:
        The verdict, the interval of the smallest difference and the number of those that stand against the verdict in
        words that follow upon that difference, and its figures.
    """
    differences = np.array([comparison.differences for comparison in comparisons])
    observed, draws = differences[:, 0], differences[:, 1:]
    worst = int(np.argmin(observed))
    intervals = [percentile_interval(row) for row in draws]
    bottoms = np.where([c.supports for c in comparisons], [interval.low for interval in intervals], -np.inf)
    tops = np.where([c.refutes for c in comparisons], _simultaneous_upper_ends(observed, draws), np.inf)
    figures: dict[str, float | None] = {
        "smallest_difference_points": float(observed[worst]),
        "low_points": intervals[worst].low,
        "high_points": intervals[worst].high,
    }
    text = f"(95 % {pair(intervals[worst])})"
    if (bottoms > 0).all():
        return Finding("holds", text, figures)
    if (tops < 0).any():
        count = int((tops < 0).sum())
        return Finding("does not hold", f"{text}; {count} are below zero beyond sampling error", figures)
    unclear = int((bottoms <= 0).sum())
    return Finding("cannot be told apart", f"{text}; the sign is open in {unclear}", figures)


def _simultaneous_upper_ends(observed: FloatArray, draws: FloatArray) -> FloatArray:
    """Upper ends of a two-sided max-t band: observed (comparisons,), draws (comparisons, resamples)."""
    spread = draws.std(axis=1)
    # a comparison without any spread (all right against all wrong) has no error to standardise
    deviations = (observed - draws.T) / np.where(spread > 0, spread, 1.0)
    quantile = float(np.quantile(deviations.max(axis=1), (1 + CONFIDENCE) / 2))
    ends: FloatArray = observed + quantile * spread
    return ends


def finite(value: float) -> float | None:
    """A figure as JSON has it: None without a bound."""
    return float(value) if np.isfinite(value) else None


def bounded(low: float, high: float) -> str:
    """What lies between two ends in percent, in words; no reduction is beyond 100 %."""
    if low == high:
        return f"{low:.1f} %"
    if not np.isfinite(low):
        return f"at most {high:.1f} %" if np.isfinite(high) else "without bounds"
    return f"at least {low:.1f} %" if high == 100 or np.isinf(high) else f"between {low:.1f} and {high:.1f} %"


def pair(interval: Interval) -> str:
    """An interval's two ends in words."""
    return f"{interval.low:.1f} to {interval.high:.1f}".replace("-inf", "no lower bound").replace(
        "inf", "no upper bound"
    )
