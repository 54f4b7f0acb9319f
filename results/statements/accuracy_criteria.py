"""Kinds of statement: what must be true of accuracy-size points for a sentence of the paper to hold."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.measured.cells import DENSE
from results.numbers.paper import BASELINES, METHOD
from results.numbers.printed import DERIVED_TABLE, PrintedNumber, adjacent_numbers, printed_benchmarks, printed_numbers
from results.numbers.rounding import PERCENT_HALF_CELL, printed_reductions
from results.numbers.statistics import Interval, percentile_interval
from results.statements.criteria import (
    Comparison,
    Finding,
    Outcome,
    Recomputed,
    all_ahead,
    bounded,
    compared,
    finite,
    follows,
    pair,
)
from results.statements.evidence import Evidence, Point, name_missing
from results.statements.run import Run
from results.statements.statement import Statement


@dataclass(frozen=True, kw_only=True)
class AccuracyStatement(Statement, ABC):
    """A sentence about one accuracy table; ``methods`` are those it compares IMPACT with."""

    methods: tuple[str, ...] = BASELINES

    @property
    def table(self) -> int:
        """The table that it is about."""
        (table,) = self.tables
        return table

    @property
    def name(self) -> str:
        return f"table{self.table}-{self.id}"

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        return printed_benchmarks(self.table) if measured is None else measured

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        """What a run says, if all the points that it speaks of were measured, the dense model included."""
        if (evidence := run.accuracies.get(self.table)) is None:
            return Finding("not measured", f"Table {self.table} is not measured.")
        spoken_of = {METHOD, *self.methods} | ({DENSE} if benchmark else set())
        found = evidence.values.get(benchmark, {}) if benchmark else evidence.sizes
        if missing := name_missing(self.table, found, spoken_of):
            return Finding("not measured", f"This run lacks {missing}.")
        return self._measured(evidence, benchmark)

    @abstractmethod
    def _measured(self, evidence: Evidence, benchmark: str) -> Finding:
        """What complete evidence of a run says."""


@dataclass(frozen=True)
class _AtOwnSize(Comparison):
    """IMPACT's model ``row`` against one baseline at ``size``, the nearest that the baseline's curve has."""

    row: int
    baseline: str
    size: float

    def __str__(self) -> str:
        if not self.refutes:
            return f"{self.baseline}'s smallest model, which is larger than row {self.row}"
        if not self.supports:
            return f"{self.baseline}'s largest model, which is smaller than row {self.row}"
        return f"{self.baseline} at the size of row {self.row}"


@dataclass(frozen=True, kw_only=True)
class Outperforms(AccuracyStatement):
    """At every row IMPACT is more accurate than every baseline at IMPACT's size.

    A baseline's accuracy there is interpolated between its adjacent points. Where a baseline has no model so small, its
    smallest one stands in: generous to the baseline, so such a comparison may support the statement but not refute it.
    Where IMPACT's model is larger than all of the baseline's, dense included, the largest stands in: that may only
    refute. It holds when every paired 95 % interval is above zero; it does not hold when, by a band that covers all
    comparisons at once (95 %, max-t bootstrap), some difference is below zero. Of printed numbers, which have no
    intervals, it follows when all differences are above zero, or zero against a larger model, and cannot be derived
    where none fails but a smaller model of IMPACT's is less accurate than the one that stands in.
    """

    def _measured(self, evidence: Evidence, benchmark: str) -> Finding:
        comparisons = self._comparisons(evidence, benchmark)
        found = all_ahead(comparisons)
        return replace(found, explanation=f"{_ahead(comparisons)} {found.explanation}.")

    def on_print(self, benchmark: str = "") -> Recomputed:
        comparisons = self._comparisons(Evidence.printed(self.table), benchmark)
        silent = [c for c in comparisons if not c.refutes and c.difference < 0]
        fails = any(c.refutes and c.difference <= 0 for c in comparisons)
        worst = min(comparisons, key=lambda c: c.difference)
        open_ones = ", ".join(f"{c.baseline} (row {c.row})" for c in silent)
        nothing = f"; smaller and less accurate than every printed model of {open_ones}, which settles nothing"
        return Recomputed(
            "does not follow" if fails else "cannot be derived" if silent else "follows",
            f"{_ahead(comparisons)}{nothing if silent else ''}.",
            _cited(self.table, benchmark, worst.row, worst.baseline, worst.size),
            {"smallest_difference_points": worst.difference},
        )

    def _comparisons(self, evidence: Evidence, benchmark: str) -> list[_AtOwnSize]:
        own = evidence.curve(METHOD, benchmark)
        found = []
        for (_, row), size, accuracy in zip(own.points, own.sizes, own.values, strict=True):
            for baseline in self.methods if row else ():
                curve = evidence.curve(baseline, benchmark)
                at = float(np.clip(size, curve.sizes.min(), curve.sizes.max()))
                found.append(_AtOwnSize(accuracy - curve.at(at), size <= at, size >= at, row, baseline, at))
        return found


def _ahead(comparisons: Sequence[_AtOwnSize]) -> str:
    worst = min(comparisons, key=lambda c: c.difference)
    ahead = sum(c.difference > 0 for c in comparisons)
    return (
        f"IMPACT is ahead in {ahead} of {len(comparisons)} comparisons at its own sizes; the smallest difference is "
        f"{worst.difference:+.1f} points against {worst}"
    )


@dataclass(frozen=True, kw_only=True)
class SizeReduction(AccuracyStatement):
    """A claim in percent about how much smaller IMPACT is than the best of some baselines at IMPACT's accuracy.

    The best baseline is footnote 2's (`numbers.matching`). The largest reduction among IMPACT's models is claimed to be
    that much ("up to"), or ``everywhere`` the smallest to be more ("over"); ``compressed_over`` limits it to models
    more than that many times smaller than the dense one. Where an IMPACT model is more accurate than every baseline
    model, dense included, its reduction lies between that against the dense model and 100 %; where a baseline's
    smallest model is smaller than every match and more accurate still, only an upper bound is known. Interval: 95 %
    bootstrap percentiles over problems of those bounds. The largest of several noisy values is biased upwards; the
    interval is not corrected for that.

    Of printed numbers, "over X %" follows when they satisfy it as they stand, and "up to X %" when some numbers that
    print as the table does have X as their largest reduction, to the digit printed.
    """

    claims: Mapping[str, float]
    everywhere: bool = False
    compressed_over: float = 0.0

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        return [name for name in super().benchmarks(measured) if name in self.claims]

    @property
    def _which(self) -> str:
        return "smallest" if self.everywhere else "largest"

    def _measured(self, evidence: Evidence, benchmark: str) -> Finding:
        claim = self.claims[benchmark]
        own = evidence.curve(METHOD, benchmark)
        rows, lows, highs = [], [], []
        for (_, row), size, accuracy in zip(own.points, own.sizes, own.values, strict=True):
            if row and evidence.sizes[DENSE, 0] > self.compressed_over * size:
                least, greatest, _ = evidence.best_match(self.methods, benchmark, accuracy)
                rows.append(row)
                with np.errstate(divide="ignore"):
                    lows.append(100 * (1 - size / least))
                    highs.append(100 * (1 - size / greatest))
        if not rows:
            return Finding("not measured", f"No IMPACT model here is over {self.compressed_over:g} times smaller.")
        pick = np.min if self.everywhere else np.max
        low, high = pick(np.array(lows), axis=0), pick(np.array(highs), axis=0)
        chosen = [
            row for row, *ends in zip(rows, lows, highs, strict=True) if [e[0] for e in ends] == [low[0], high[0]]
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
            compared(interval.low, interval.high, claim, strictly=self.everywhere),
            f"Measured, the {self._which} reduction at the same accuracy is {bounded(low[0], high[0])}"
            f"{f', at row {chosen[0]}' if chosen else ''} (95 % {pair(interval)}); the claim is "
            f"{'over' if self.everywhere else 'up to'} {claim:g} %.",
            figures,
        )

    def on_print(self, benchmark: str = "") -> Recomputed:
        claim = self.claims[benchmark]
        dense = Evidence.printed(self.table).sizes[DENSE, 0]
        entries = [
            entry
            for entry in printed_reductions(self.table, benchmark, self.methods)
            if dense > self.compressed_over * entry.size
        ]
        pick = min if self.everywhere else max
        entry = pick(entries, key=lambda e: e.reduction_pct)
        reach = Interval(pick(e.reductions.low for e in entries), pick(e.reductions.high for e in entries))
        assert entry.match is not None, "the dense model is on every printed curve"
        reached = (
            entry.reduction_pct > claim
            if self.everywhere
            else reach.low - PERCENT_HALF_CELL <= claim <= reach.high + PERCENT_HALF_CELL
        )
        rests_on = _cited(self.table, benchmark, entry.row, entry.match.method, entry.match.size)
        text = (
            f"The {self._which} reduction at the same accuracy is {entry.reduction_pct:.1f} % (rounding allows "
            f"{pair(reach)}), at row {entry.row} against {entry.match.method}"
        )
        best = next(e.match for e in printed_reductions(self.table, benchmark, BASELINES) if e.row == entry.row)
        if entry.match == best:
            derived = printed_numbers(
                DERIVED_TABLE[self.table], ["size_reduction_pct"], benchmark=benchmark, impact_size_b=entry.size
            )
            rests_on = (*rests_on, *derived)
            text += f"; Table {DERIVED_TABLE[self.table]} prints {derived[0].value:g} % for that row"
        figures: dict[str, float | None] = {
            "claim_pct": claim,
            "reduction_pct": entry.reduction_pct,
            "rounding_low_pct": reach.low,
            "rounding_high_pct": reach.high,
        }
        return Recomputed(follows(reached), f"{text}.", rests_on, figures)


@dataclass(frozen=True, kw_only=True)
class IsBestBaseline(AccuracyStatement):
    """At the accuracy of every IMPACT model ``baseline`` is footnote 2's best of ``methods``.

    A model more accurate than all baselines contradicts nothing. It holds when so in over 97.5 % of the bootstrap's
    resamples of the problems, and does not hold when so in less than 2.5 %.
    """

    baseline: str

    def _measured(self, evidence: Evidence, benchmark: str) -> Finding:
        own = evidence.curve(METHOD, benchmark)
        best = []
        for (_, row), accuracy in zip(own.points, own.values, strict=True):
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

    def on_print(self, benchmark: str = "") -> Recomputed:
        entries = printed_reductions(self.table, benchmark, self.methods)
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
                for found in _cited(self.table, benchmark, entry.row, entry.match.method, entry.match.size)
            ),
            {"rows": float(len(entries) - len(others))},
        )


@dataclass(frozen=True, kw_only=True)
class SmallerAtSameSetting(AccuracyStatement):
    """At every shared value of the rank rule IMPACT's model is smaller than AFM's. No sampling error enters."""

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        return ("",)

    def _measured(self, evidence: Evidence, benchmark: str) -> Finding:
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

    def on_print(self, benchmark: str = "") -> Recomputed:
        evidence = Evidence.printed(self.table)
        finding = self._measured(evidence, benchmark)
        _, *closest = max(self._ratios(evidence))
        numbers = [printed_numbers(self.table, ["model_size_b"], method=m, row=r) for m, r in closest]
        return Recomputed(
            follows(finding.verdict == "holds"),
            finding.explanation,
            tuple(number for found in numbers for number in found),
            finding.figures,
        )

    def _ratios(self, evidence: Evidence) -> list[tuple[float, Point, Point]]:
        """The ratio of IMPACT's size to the other's at each shared setting, and the two points."""
        return [
            (size / evidence.sizes[other], point, other)
            for point, size in evidence.sizes.items()
            for other in evidence.sizes
            if point[0] == METHOD and other[0] in self.methods and evidence.settings[point] == evidence.settings[other]
        ]


def _cited(number: int, benchmark: str, row: int, baseline: str, size: float) -> tuple[PrintedNumber, ...]:
    """The printed numbers of one of IMPACT's models and those that give the baseline at a size in billions."""
    columns = ["model_size_b", f"{benchmark}_acc"]
    return (
        *printed_numbers(number, columns, method=METHOD, row=row),
        *adjacent_numbers(number, columns, baseline, size),
    )
