"""The paper's statements about Table 6 and Figure 2, as data, and what the measured cells say of each."""

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from results.cells import DENSE, Cell, grouped_by_point
from results.matching import accuracies_at_size, size_bounds_at_accuracy
from results.printed import printed_benchmarks, printed_table
from results.statistics import FloatArray, Interval, percentile_interval, resample_counts, resampled_accuracies

Outcome = Literal["holds", "does not hold", "cannot be told apart", "not measured"]
METHOD = "impact"


class Verdict(BaseModel):
    """What this run says of one statement. ``figures`` are in percent or points and carry their own names.

    ``printed`` says what the same computation gives on the paper's printed numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    statement: str
    section: str
    benchmark: str | None
    verdict: Outcome
    explanation: str
    printed: str
    figures: dict[str, float | None] = {}


@dataclass(frozen=True)
class Curve:
    """A method's models: rows (points,), sizes (points,) in any one unit, accuracies (points, 1 + resamples) in %.

    Column 0 holds the accuracies themselves, the others those of the bootstrap resamples of the problems.
    """

    rows: list[int]
    sizes: FloatArray
    accuracies: FloatArray


@dataclass(frozen=True)
class Evidence:
    """Accuracy-size points to judge statements on, by (method, row): the cells of a run, or a printed table.

    ``settings`` are what the rank rule was given, ``accuracies`` by benchmark what a `Curve` holds of one point.
    """

    sizes: Mapping[tuple[str, int], float]
    settings: Mapping[tuple[str, int], tuple[str, float]]
    accuracies: Mapping[str, Mapping[tuple[str, int], FloatArray]]

    @classmethod
    def measured(cls, cells: Sequence[Cell], *, resamples: int, seed: int) -> "Evidence":
        """Points of a run. One set of resampled problems a benchmark serves all models: comparisons are paired.

        With several seeds a problem's score is its mean over seeds: the resamples show the sampling of problems only.
        """
        groups = grouped_by_point(cells)
        accuracies: dict[str, dict[tuple[str, int], FloatArray]] = {}
        for benchmark in sorted({name for cell in cells for name in cell.benchmarks}):
            present = {p: g for p, g in groups.items() if benchmark in g[0].benchmarks}
            scores = np.array(
                [np.mean([cell.benchmarks[benchmark].correct for cell in g], axis=0) for g in present.values()]
            )
            draws = resampled_accuracies(scores, resample_counts(scores.shape[1], resamples, seed))
            columns = 100 * np.column_stack([scores.mean(axis=1), draws])
            accuracies[benchmark] = dict(zip(present, columns, strict=True))
        return cls(
            sizes={p: float(np.mean([cell.parameters for cell in g])) for p, g in groups.items()},
            settings={p: (g[0].rank_rule, g[0].keep_pct) for p, g in groups.items()},
            accuracies=accuracies,
        )

    @classmethod
    def printed(cls, number: int) -> "Evidence":
        """The points of a printed table, sizes in billions of parameters, without resamples.

        The paper ties a row to one k for IMPACT and AFM (row r of Table 6 is k = 80 - 10 r, by its Table 4).
        """
        table = printed_table(number)
        points = _points(table)
        accuracies = {
            name: {p: np.array([value]) for p, value in zip(points, table[f"{name}_acc"].astype(float), strict=True)}
            for name in printed_benchmarks(number)
        }
        return cls(
            sizes=dict(zip(points, table["model_size_b"].astype(float), strict=True)),
            settings={(method, row): ("row", float(row)) for method, row in points},
            accuracies=accuracies,
        )

    def curve(self, method: str, benchmark: str) -> Curve:
        """The method's points that have the benchmark, with the dense model as the largest point."""
        found = self.accuracies.get(benchmark, {})
        points = [p for p in found if p[0] in (method, DENSE)]
        return Curve(
            rows=[row for _, row in points],
            sizes=np.array([self.sizes[p] for p in points]),
            accuracies=np.array([found[p] for p in points]),
        )


def _points(printed: pd.DataFrame) -> list[tuple[str, int]]:
    return [(str(method), int(row)) for method, row in zip(printed["method"], printed["row"], strict=True)]


def name_missing(number: int, measured: Container[tuple[str, int]], methods: Container[str] | None = None) -> str:
    """The printed points (of some methods) that are not measured, as ``svd rows 1, 2; dense``; may be empty."""
    rows: dict[str, list[int]] = {}
    for point in _points(printed_table(number)):
        if point not in measured and (methods is None or point[0] in methods):
            rows.setdefault(point[0], []).append(point[1])
    return "; ".join(
        method if found == [0] else f"{method} row{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
        for method, found in rows.items()
    )


@dataclass(frozen=True)
class Finding:
    """An outcome, the sentence that gives its figures, and these figures by name."""

    verdict: Outcome
    explanation: str
    figures: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement(ABC):
    """A sentence of the paper that measured cells can speak to; ``methods`` are those it compares IMPACT with."""

    id: str
    sentence: str
    section: str
    methods: tuple[str, ...]

    @abstractmethod
    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        """The benchmarks it speaks of, one verdict each; None for one that speaks of sizes only."""

    @abstractmethod
    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        """What complete evidence says."""


def _compared(low: float, high: float, claim: float, strictly: bool) -> Outcome:
    if low > claim or (low == claim and not strictly):
        return "holds"
    if high < claim or (high == claim and strictly):
        return "does not hold"
    return "cannot be told apart"


@dataclass(frozen=True)
class Outperforms(Statement):
    """At every row IMPACT is more accurate than every baseline at IMPACT's size.

    A baseline's accuracy there is interpolated between its adjacent points. Where a baseline has no model so small, its
    smallest one stands in: generous to the baseline, so such a comparison may support the statement but not refute it.
    Where IMPACT's model is larger than all of the baseline's, dense included, the largest stands in: that may only
    refute. It holds when every paired 95 % interval is above zero; it does not hold when, by a band that covers all
    comparisons at once (95 %, max-t bootstrap), some difference is below zero.
    """

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return measured

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        assert benchmark is not None
        names, differences, supports, refutes = [], [], [], []
        own = evidence.curve(METHOD, benchmark)
        for row, size, accuracy in zip(own.rows, own.sizes, own.accuracies, strict=True):
            for baseline in self.methods if row else ():
                curve = evidence.curve(baseline, benchmark)
                at = float(np.clip(size, curve.sizes.min(), curve.sizes.max()))
                differences.append(accuracy - accuracies_at_size(curve.sizes, curve.accuracies, at))
                names.append(f"{baseline} at the size of row {row}")
                supports.append(size <= at)
                refutes.append(size >= at)
        table = np.array(differences)
        observed, draws = table[:, 0], table[:, 1:]
        worst = int(np.argmin(observed))
        ahead = f"{int((observed > 0).sum())} of {len(observed)}"
        figures: dict[str, float | None] = {"smallest_difference_points": float(observed[worst])}
        text = (
            f"IMPACT is ahead in {ahead} comparisons at its own sizes; the smallest difference is "
            f"{observed[worst]:+.1f} points against {names[worst]}"
        )
        if not draws.size:
            return Finding("holds" if (observed > 0).all() else "does not hold", f"{text}.", figures)
        intervals = [percentile_interval(row) for row in draws]
        bottoms = np.where(supports, [interval.low for interval in intervals], -np.inf)
        tops = np.where(refutes, _simultaneous_upper_ends(observed, draws), np.inf)
        figures |= {"low_points": intervals[worst].low, "high_points": intervals[worst].high}
        text += f" (95 % {_pair(intervals[worst])})"
        if (bottoms > 0).all():
            return Finding("holds", f"{text}.", figures)
        if (tops < 0).any():
            count = int((tops < 0).sum())
            return Finding("does not hold", f"{text}; {count} are below zero beyond sampling error.", figures)
        unclear = int((bottoms <= 0).sum())
        return Finding("cannot be told apart", f"{text}; the sign is open in {unclear}.", figures)


def _simultaneous_upper_ends(observed: FloatArray, draws: FloatArray, confidence: float = 0.95) -> FloatArray:
    """Upper ends of a two-sided max-t band: observed (comparisons,), draws (comparisons, resamples)."""
    spread = draws.std(axis=1)
    # a comparison without any spread (all right against all wrong) has no error to standardise
    deviations = (observed - draws.T) / np.where(spread > 0, spread, 1.0)
    quantile = float(np.quantile(deviations.max(axis=1), (1 + confidence) / 2))
    ends: FloatArray = observed + quantile * spread
    return ends


@dataclass(frozen=True)
class SizeReduction(Statement):
    """A claim in percent about how much smaller IMPACT is than the best of some baselines at IMPACT's accuracy.

    The best baseline is footnote 2's (`results.matching`); ``over`` says whether the claim is about the largest or the
    smallest reduction among IMPACT's rows. Where an IMPACT model is more accurate than every baseline model, dense
    included, its reduction lies between that against the dense model and 100 %; where it is less accurate than all, a
    smaller baseline might match it and only an upper bound is known. Interval: 95 % bootstrap percentiles over problems
    of those bounds. The largest of several noisy values is biased upwards; the interval is not corrected for that.
    """

    claims: Mapping[str, float]
    over: Literal["largest", "smallest"]
    strictly: bool

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return [name for name in measured if name in self.claims]

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        assert benchmark is not None
        claim = self.claims[benchmark]
        own = evidence.curve(METHOD, benchmark)
        rows, lows, highs = [], [], []
        for row, size, accuracy in zip(own.rows, own.sizes, own.accuracies, strict=True):
            if row:
                low, high = self._reduction_bounds(evidence, benchmark, size, accuracy)
                rows.append(row)
                lows.append(low)
                highs.append(high)
        pick = np.max if self.over == "largest" else np.min
        low, high = pick(np.array(lows), axis=0), pick(np.array(highs), axis=0)
        chosen = int((np.argmax if self.over == "largest" else np.argmin)(np.array(lows)[:, 0]))
        text = f"the {self.over} reduction at the same accuracy is {_bounded(low[0], high[0])}, at row {rows[chosen]}"
        figures: dict[str, float | None] = {
            "claim_pct": claim,
            "lower_pct": _finite(low[0]),
            "upper_pct": float(high[0]),
        }
        if len(low) == 1:
            outcome = _compared(low[0], high[0], claim, self.strictly)
            return Finding(outcome, f"{text[0].upper()}{text[1:]}.", figures)
        interval = Interval(percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
        figures |= {"interval_low_pct": _finite(interval.low), "interval_high_pct": interval.high}
        outcome = _compared(interval.low, interval.high, claim, self.strictly)
        relation = "over" if self.strictly else "up to"
        return Finding(
            outcome, f"Measured, {text} (95 % {_pair(interval)}); the claim is {relation} {claim} %.", figures
        )

    def _reduction_bounds(
        self, evidence: Evidence, benchmark: str, size: float, accuracy: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        lows, highs = [], []
        for baseline in self.methods:
            curve = evidence.curve(baseline, benchmark)
            low, high = size_bounds_at_accuracy(curve.sizes, curve.accuracies, accuracy)
            lows.append(low)
            highs.append(high)
        with np.errstate(divide="ignore"):
            return 100 * (1 - size / np.min(lows, axis=0)), 100 * (1 - size / np.min(highs, axis=0))


@dataclass(frozen=True)
class SmallerAtSameSetting(Statement):
    """At every shared value of the rank rule IMPACT's model is smaller than AFM's. No sampling error enters."""

    def benchmarks(self, measured: Sequence[str]) -> Sequence[str | None]:
        return [None]

    def judge(self, evidence: Evidence, benchmark: str | None) -> Finding:
        sizes = {
            method: {evidence.settings[p]: size for p, size in evidence.sizes.items() if p[0] == method}
            for method in (METHOD, *self.methods)
        }
        ratios = [
            (size / sizes[other][setting], setting)
            for other in self.methods
            for setting, size in sizes[METHOD].items()
            if setting in sizes[other]
        ]
        if not ratios:
            return Finding("not measured", "IMPACT and AFM share no value of the rank rule in this run.")
        smallest, largest = min(ratios)[0], max(ratios)[0]
        smaller = sum(ratio < 1 for ratio, _ in ratios)
        return Finding(
            "holds" if smaller == len(ratios) else "does not hold",
            f"IMPACT's model is smaller at {smaller} of {len(ratios)} shared settings: "
            f"{100 * smallest:.1f} to {100 * largest:.1f} % of AFM's parameters.",
            {"smallest_ratio_pct": 100 * smallest, "largest_ratio_pct": 100 * largest},
        )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _bounded(low: float, high: float) -> str:
    if low == high:
        return f"{low:.1f} %"
    if not np.isfinite(low):
        return f"at most {high:.1f} %"
    return f"at least {low:.1f} %" if high == 100 else f"between {low:.1f} and {high:.1f} %"


def _pair(interval: Interval) -> str:
    return f"{interval.low:.1f} to {interval.high:.1f}".replace("-inf", "no lower bound")


BASELINES = ("svd", "fwsvd", "asvd", "afm")
STATEMENTS: dict[int, tuple[Statement, ...]] = {
    6: (
        Outperforms(
            id="outperforms",
            sentence="Our proposed method, IMPACT, consistently outperforms SVD, FWSVD, ASVD, and AFM across all "
            "compression ratios, achieving greater compression while maintaining comparable or superior accuracy.",
            section="4.2",
            methods=BASELINES,
        ),
        SizeReduction(
            id="largest_reduction",
            sentence="On Llama 2-7B, IMPACT achieves up to 55.4% greater size reduction than the strongest baseline "
            "(AFM) on GSM8K, and up to 31.7% more on MATH, while maintaining the same accuracy.",
            section="4.2",
            methods=BASELINES,
            claims={"gsm8k": 55.4, "math": 31.7},
            over="largest",
            strictly=False,
        ),
        SizeReduction(
            id="reduction_everywhere",
            sentence="Across all evaluated compression ratios, it compresses the model over 40% more than SVD, FWSVD, "
            "and ASVD on both datasets while delivering similar or better performance.",
            section="4.2",
            methods=("svd", "fwsvd", "asvd"),
            claims={"gsm8k": 40.0, "math": 40.0},
            over="smallest",
            strictly=True,
        ),
        SmallerAtSameSetting(
            id="smaller_at_same_k",
            sentence="At the same k, IMPACT's model is smaller than AFM's.",
            section="Table 6 (a pattern of its numbers, not a sentence of the paper; that both use one k a row is "
            "inferred from Table 4)",
            methods=("afm",),
        ),
    )
}


def judge(
    cells: Sequence[Cell], number: int, benchmarks: Sequence[str], *, resamples: int = 2000, seed: int = 0
) -> list[Verdict]:
    """Every statement about a printed table, judged on the measured cells, one verdict a benchmark it speaks of.

    A statement about all rows and baselines is "not measured" unless all the points it speaks of, the dense model
    included, were measured. Tables without statements give an empty list.

    Args:
        resamples, seed: of the bootstrap over problems.

    Raises:
        ValueError: the cells do not belong together (`results.cells.grouped_by_point`).
    """
    measured = Evidence.measured(cells, resamples=resamples, seed=seed)
    printed = Evidence.printed(number)
    verdicts = []
    for statement in STATEMENTS.get(number, ()):
        for benchmark in statement.benchmarks(benchmarks):
            spoken_of = {METHOD, *statement.methods} | ({DENSE} if benchmark else set())
            found = measured.accuracies.get(benchmark, {}) if benchmark else measured.sizes
            if missing := name_missing(number, found, spoken_of):
                finding = Finding("not measured", f"This run lacks {missing}.")
            else:
                finding = statement.judge(measured, benchmark)
            verdicts.append(
                Verdict(
                    id=statement.id,
                    statement=statement.sentence,
                    section=statement.section,
                    benchmark=benchmark,
                    verdict=finding.verdict,
                    explanation=finding.explanation,
                    printed=statement.judge(printed, benchmark).explanation,
                    figures=finding.figures,
                )
            )
    return verdicts
