"""Kinds of statement: what must be true of accuracy-size points for a sentence of the paper to hold."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from results.cells import DENSE
from results.evidence import BASELINES, METHOD, Evidence
from results.matching import accuracies_at_size
from results.printed import PrintVerdict, Recomputed, adjacent_numbers, follows, printed_numbers
from results.rounding import PERCENT_HALF_CELL, printed_reductions
from results.statistics import FloatArray, Interval, percentile_interval

Outcome = Literal["holds", "does not hold", "cannot be told apart", "not measured"]
Kind = Literal["claim", "finding"]

# the table of size reductions that the paper derives from each accuracy table
DERIVED_TABLE = {6: 10, 7: 11, 8: 12, 9: 13}


@dataclass(frozen=True)
class Finding:
    """An outcome, the sentence that gives its figures, and these figures by name."""

    verdict: Outcome
    explanation: str
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence of the paper; a finding is none, but a pattern of its numbers."""

    id: str
    sentence: str
    section: str
    kind: Kind = "claim"


@dataclass(frozen=True, kw_only=True)
class Statement(Sentence, ABC):
    """A sentence that measured cells can speak to; ``methods`` are those it compares IMPACT with."""

    methods: tuple[str, ...]

    @abstractmethod
    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        """The benchmarks it speaks of, one verdict each; None for one that speaks of sizes only."""

    @abstractmethod
    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        """What complete evidence of a run says."""

    @abstractmethod
    def on_print(self, number: int, benchmark: str | None) -> Recomputed:
        """What the printed accuracy table of that number says."""


def compared(low: float, high: float, claim: float, strictly: bool) -> Outcome:
    """Whether what lies between two ends is at least a claimed number, or more where that is meant strictly."""
    if low > claim or (low == claim and not strictly):
        return "holds"
    if high < claim or (high == claim and strictly):
        return "does not hold"
    return "cannot be told apart"


@dataclass(frozen=True)
class _Comparison:
    """IMPACT's model ``row`` against one baseline at ``size``, the nearest that the baseline's curve has.

    ``differences`` are IMPACT's accuracy minus the baseline's, (1 + resamples,) in points.
    """

    row: int
    own_size: float
    baseline: str
    size: float
    differences: FloatArray

    def __str__(self) -> str:
        if self.own_size < self.size:
            return f"{self.baseline}'s smallest model, which is larger than row {self.row}"
        if self.own_size > self.size:
            return f"{self.baseline}'s largest model, which is smaller than row {self.row}"
        return f"{self.baseline} at the size of row {self.row}"


@dataclass(frozen=True, kw_only=True)
class Outperforms(Statement):
    """At every row IMPACT is more accurate than every baseline at IMPACT's size.

    A baseline's accuracy there is interpolated between its adjacent points. Where a baseline has no model so small, its
    smallest one stands in: generous to the baseline, so such a comparison may support the statement but not refute it.
    Where IMPACT's model is larger than all of the baseline's, dense included, the largest stands in: that may only
    refute. It holds when every paired 95 % interval is above zero; it does not hold when, by a band that covers all
    comparisons at once (95 %, max-t bootstrap), some difference is below zero. Of printed numbers, which have no
    intervals, it follows when all differences are above zero, or zero against a larger model, and cannot be derived
    where none fails but a smaller model of IMPACT's is less accurate than the one that stands in.
    """

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return measured

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        assert benchmark is not None
        comparisons = self._comparisons(evidence, benchmark)
        found = all_above_zero(
            np.array([c.differences for c in comparisons]),
            supports=[c.own_size <= c.size for c in comparisons],
            refutes=[c.own_size >= c.size for c in comparisons],
        )
        return Finding(found.verdict, f"{_ahead(comparisons)} {found.explanation}.", found.figures)

    def on_print(self, number: int, benchmark: str | None) -> Recomputed:
        assert benchmark is not None
        comparisons = self._comparisons(Evidence.printed(number), benchmark)
        smaller = np.array([c.own_size < c.size for c in comparisons])
        observed = np.array([float(c.differences[0]) for c in comparisons])
        silent = smaller & (observed < 0)
        fails = ~smaller & (observed <= 0)
        verdict: PrintVerdict = "does not follow" if fails.any() else "cannot be derived" if silent.any() else "follows"
        worst = comparisons[int(np.argmin(observed))]
        open_ones = ", ".join(
            f"{c.baseline} (row {c.row})" for c, is_silent in zip(comparisons, silent, strict=True) if is_silent
        )
        nothing = f"; smaller and less accurate than every printed model of {open_ones}, which settles nothing"
        return Recomputed(
            verdict,
            f"{_ahead(comparisons)}{nothing if open_ones else ''}.",
            (
                *printed_numbers(number, _columns(benchmark), method=METHOD, row=worst.row),
                *adjacent_numbers(number, _columns(benchmark), worst.baseline, worst.size),
            ),
            {"smallest_difference_points": float(observed.min())},
        )

    def _comparisons(self, evidence: Evidence, benchmark: str) -> list[_Comparison]:
        own = evidence.curve(METHOD, benchmark)
        found = []
        for row, size, accuracy in zip(own.rows, own.sizes, own.accuracies, strict=True):
            for baseline in self.methods if row else ():
                curve = evidence.curve(baseline, benchmark)
                at = float(np.clip(size, curve.sizes.min(), curve.sizes.max()))
                differences = accuracy - accuracies_at_size(curve.sizes, curve.accuracies, at)
                found.append(_Comparison(row, float(size), baseline, at, differences))
        return found


def _ahead(comparisons: Sequence[_Comparison]) -> str:
    worst = min(comparisons, key=lambda c: float(c.differences[0]))
    ahead = sum(c.differences[0] > 0 for c in comparisons)
    return (
        f"IMPACT is ahead in {ahead} of {len(comparisons)} comparisons at its own sizes; the smallest difference is "
        f"{worst.differences[0]:+.1f} points against {worst}"
    )


def all_above_zero(differences: FloatArray, supports: Sequence[bool], refutes: Sequence[bool]) -> Finding:
    """Whether all of some differences, (comparisons, 1 + resamples) in points, are above zero.

    They are when every 95 % interval is above zero; they are not when, by a band that covers all comparisons at once
    (95 %, max-t bootstrap), some difference is below zero.

    Args:
        supports, refutes: of each comparison, which of the two outcomes it may show.

    Returns:
        The verdict, the interval of the smallest difference and the number of those that stand against the verdict in
        words that follow upon that difference, and its figures.
    """
    observed, draws = differences[:, 0], differences[:, 1:]
    worst = int(np.argmin(observed))
    intervals = [percentile_interval(row) for row in draws]
    bottoms = np.where(supports, [interval.low for interval in intervals], -np.inf)
    tops = np.where(refutes, _simultaneous_upper_ends(observed, draws), np.inf)
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


def _simultaneous_upper_ends(observed: FloatArray, draws: FloatArray, confidence: float = 0.95) -> FloatArray:
    """Upper ends of a two-sided max-t band: observed (comparisons,), draws (comparisons, resamples)."""
    spread = draws.std(axis=1)
    # a comparison without any spread (all right against all wrong) has no error to standardise
    deviations = (observed - draws.T) / np.where(spread > 0, spread, 1.0)
    quantile = float(np.quantile(deviations.max(axis=1), (1 + confidence) / 2))
    ends: FloatArray = observed + quantile * spread
    return ends


@dataclass(frozen=True, kw_only=True)
class SizeReduction(Statement):
    """A claim in percent about how much smaller IMPACT is than the best of some baselines at IMPACT's accuracy.

    The best baseline is footnote 2's (`results.matching`); ``over`` says whether the claim is about the largest or the
    smallest reduction among IMPACT's models, ``compressed_over`` limits it to those more than that many times smaller
    than the dense one. Where an IMPACT model is more accurate than every baseline model, dense included, its reduction
    lies between that against the dense model and 100 %; where a baseline's smallest model is smaller than every match
    and more accurate still, only an upper bound is known. Interval: 95 % bootstrap percentiles over problems of those
    bounds. The largest of several noisy values is biased upwards; the interval is not corrected for that.

    Of printed numbers, "over X %" follows when they satisfy it as they stand, and "up to X %" when some numbers that
    print as the table does have X as their largest reduction, to the digit printed.
    """

    claims: Mapping[str, float]
    over: Literal["largest", "smallest"]
    strictly: bool
    compressed_over: float = 0.0

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return [name for name in measured if name in self.claims]

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        assert benchmark is not None
        claim = self.claims[benchmark]
        own = evidence.curve(METHOD, benchmark)
        rows, lows, highs = [], [], []
        for row, size, accuracy in zip(own.rows, own.sizes, own.accuracies, strict=True):
            if row and evidence.sizes[DENSE, 0] > self.compressed_over * size:
                least, greatest, _ = evidence.best_match(self.methods, benchmark, accuracy)
                rows.append(row)
                with np.errstate(divide="ignore"):
                    lows.append(100 * (1 - size / least))
                    highs.append(100 * (1 - size / greatest))
        if not rows:
            return Finding("not measured", f"No IMPACT model here is over {self.compressed_over:g} times smaller.")
        pick = np.max if self.over == "largest" else np.min
        low, high = pick(np.array(lows), axis=0), pick(np.array(highs), axis=0)
        chosen = [
            row_low[0] == low[0] and row_high[0] == high[0] for row_low, row_high in zip(lows, highs, strict=True)
        ]
        interval = Interval(percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
        figures: dict[str, float | None] = {
            "claim_pct": claim,
            "lower_pct": finite(low[0]),
            "upper_pct": float(high[0]),
            "interval_low_pct": finite(interval.low),
            "interval_high_pct": interval.high,
        }
        return Finding(
            compared(interval.low, interval.high, claim, self.strictly),
            f"Measured, the {self.over} reduction at the same accuracy is {bounded(low[0], high[0])}"
            f"{f', at row {rows[chosen.index(True)]}' if any(chosen) else ''} (95 % {pair(interval)}); the claim is "
            f"{self._relation()} {claim:g} %.",
            figures,
        )

    def on_print(self, number: int, benchmark: str | None) -> Recomputed:
        assert benchmark is not None
        claim = self.claims[benchmark]
        dense = Evidence.printed(number).sizes[DENSE, 0]
        entries = [
            entry
            for entry in printed_reductions(number, benchmark, self.methods)
            if dense > self.compressed_over * entry.size
        ]
        pick = max if self.over == "largest" else min
        entry = pick(entries, key=lambda e: e.reduction_pct)
        reach = Interval(pick(e.reductions.low for e in entries), pick(e.reductions.high for e in entries))
        assert entry.match is not None, "the dense model is on every printed curve"
        reached = (
            entry.reduction_pct > claim
            if self.strictly
            else reach.low - PERCENT_HALF_CELL <= claim <= reach.high + PERCENT_HALF_CELL
        )
        rests_on = (
            *printed_numbers(number, _columns(benchmark), method=METHOD, row=entry.row),
            *adjacent_numbers(number, _columns(benchmark), entry.match.method, entry.match.size),
        )
        text = (
            f"The {self.over} reduction at the same accuracy is {entry.reduction_pct:.1f} % (rounding allows "
            f"{pair(reach)}), at row {entry.row} against {entry.match.method}"
        )
        best = next(e.match for e in printed_reductions(number, benchmark, BASELINES) if e.row == entry.row)
        if entry.match == best:
            derived = printed_numbers(
                DERIVED_TABLE[number], ["size_reduction_pct"], benchmark=benchmark, impact_size_b=entry.size
            )
            rests_on = (*rests_on, *derived)
            text += f"; Table {DERIVED_TABLE[number]} prints {derived[0].value:g} % for that row"
        figures: dict[str, float | None] = {
            "claim_pct": claim,
            "reduction_pct": entry.reduction_pct,
            "rounding_low_pct": reach.low,
            "rounding_high_pct": reach.high,
        }
        return Recomputed(follows(reached), f"{text}.", rests_on, figures)

    def _relation(self) -> str:
        return "over" if self.strictly else "up to"


@dataclass(frozen=True, kw_only=True)
class IsBestBaseline(Statement):
    """At the accuracy of every IMPACT model ``baseline`` is footnote 2's best of ``methods``.

    A model more accurate than all baselines contradicts nothing. It holds when so in over 97.5 % of the bootstrap's
    resamples of the problems, and does not hold when so in less than 2.5 %.
    """

    baseline: str

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return measured

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        assert benchmark is not None
        own = evidence.curve(METHOD, benchmark)
        best = []
        for row, accuracy in zip(own.rows, own.accuracies, strict=True):
            if row:
                _, high, index = evidence.best_match(self.methods, benchmark, accuracy)
                best.append((index == self.methods.index(self.baseline)) | np.isinf(high))
        table = np.array(best)
        share = float(table[:, 1:].all(axis=0).mean())
        outcome: Outcome = "holds" if share > 0.975 else "does not hold" if share < 0.025 else "cannot be told apart"
        return Finding(
            outcome,
            f"{self.baseline} is the best baseline at IMPACT's accuracy in {int(table[:, 0].sum())} of {len(table)} "
            f"rows; in {100 * share:.1f} % of the resamples of problems it is so in all.",
            {"rows": float(table[:, 0].sum()), "resamples_pct": 100 * share},
        )

    def on_print(self, number: int, benchmark: str | None) -> Recomputed:
        assert benchmark is not None
        entries = printed_reductions(number, benchmark, self.methods)
        others = [e for e in entries if e.match and e.match.method != self.baseline]
        shown = others or entries
        return Recomputed(
            follows(not others),
            f"{self.baseline} is the best baseline at IMPACT's accuracy in {len(entries) - len(others)} of "
            f"{len(entries)} rows.",
            tuple(
                found
                for entry in shown
                if entry.match
                for found in (
                    *printed_numbers(number, _columns(benchmark), method=METHOD, row=entry.row),
                    *adjacent_numbers(number, _columns(benchmark), entry.match.method, entry.match.size),
                )
            ),
            {"rows": float(len(entries) - len(others))},
        )


@dataclass(frozen=True, kw_only=True)
class SmallerAtSameSetting(Statement):
    """At every shared value of the rank rule IMPACT's model is smaller than AFM's. No sampling error enters."""

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return [None]

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        ratios = [ratio for ratio, _, _ in self._ratios(evidence)]
        if not ratios:
            return Finding("not measured", "IMPACT and AFM share no value of the rank rule in this run.")
        smaller = sum(ratio < 1 for ratio in ratios)
        return Finding(
            "holds" if smaller == len(ratios) else "does not hold",
            f"IMPACT's model is smaller at {smaller} of {len(ratios)} shared settings: "
            f"{100 * min(ratios):.1f} to {100 * max(ratios):.1f} % of AFM's parameters.",
            {"smallest_ratio_pct": 100 * min(ratios), "largest_ratio_pct": 100 * max(ratios)},
        )

    def on_print(self, number: int, benchmark: str | None) -> Recomputed:
        evidence = Evidence.printed(number)
        finding = self.judge(evidence, benchmark)
        _, *closest = max(self._ratios(evidence))
        numbers = [printed_numbers(number, ["model_size_b"], method=m, row=r) for m, r in closest]
        return Recomputed(
            follows(finding.verdict == "holds"),
            finding.explanation,
            tuple(number for found in numbers for number in found),
            finding.figures,
        )

    def _ratios(self, evidence: Evidence) -> list[tuple[float, tuple[str, int], tuple[str, int]]]:
        """The ratio of IMPACT's size to the other's at each shared setting, and the two points."""
        return [
            (size / evidence.sizes[other], point, other)
            for point, size in evidence.sizes.items()
            for other in evidence.sizes
            if point[0] == METHOD and other[0] in self.methods and evidence.settings[point] == evidence.settings[other]
        ]


def _columns(benchmark: str) -> list[str]:
    return ["model_size_b", f"{benchmark}_acc"]


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
