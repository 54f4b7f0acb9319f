"""Kinds of statement about speed and memory: what must be true of Table 14 for what section 4.5 says."""

from dataclasses import dataclass

import numpy as np

from results.numbers.paper import METHOD
from results.numbers.printed import BENCHMARKS, PrintedNumber, adjacent_numbers, printed_numbers
from results.numbers.statistics import FloatArray, Interval, percentile_interval
from results.statements.cost_evidence import COSTS, HIGH, LOW, OPPOSITE, RIVAL, Costs, change_pct
from results.statements.criteria import Finding, Outcome, Recomputed, agreed, bounded, compared, finite, follows, pair
from results.statements.evidence import Evidence, Point
from results.statements.run import Run
from results.statements.statement import Statement


@dataclass(frozen=True, kw_only=True)
class LargerIsCostlier(Statement):
    """From each model of a method to its next larger one, dense included, throughput falls and memory grows.

    It holds when it does so at every step, in throughput beyond the range of the repetitions. It does not hold when
    some throughput rises beyond that range and chance (`Run.could_show`), or some memory that is a device's
    own does not grow: what a process holds depends on its libraries and its allocator as well.
    """

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        own = {(p.route, p.method, p.row): not p.memory_kind.startswith("process") for p in run.speed}
        steps = [(route, *step) for route, evidence in run.costs_by_route().items() for step in evidence.steps_up()]
        if not steps:
            return Finding("not measured", "Table 14 has no two models of one method.")
        clear = sum(bool(fast[LOW] > slow[HIGH]) for _, _, (slow, fast), _ in steps)
        falls = sum(bool(fast[0] > slow[0]) for _, _, (slow, fast), _ in steps)
        rises = sum(bool(fast[HIGH] < slow[LOW]) for _, _, (slow, fast), _ in steps)
        flat = [own[route, *smaller] for route, smaller, _, (more, less) in steps if less[0] >= more[0]]
        verdict: Outcome = "cannot be told apart"
        if clear == len(steps) and not flat:
            verdict = "holds"
        elif any(flat) or (rises and run.could_show(len(steps))):
            verdict = "does not hold"
        grows = len(steps) - len(flat)
        return Finding(
            verdict,
            f"In {len(steps)} steps from a model to the next larger one throughput falls in {falls}, beyond the range "
            f"of the repetitions in {clear}, and rises beyond it in {rises}; memory grows in {grows}.",
            {"steps": len(steps), "throughput_falls": falls, "memory_grows": grows},
        )

    def on_print(self, benchmark: str = "") -> Recomputed:
        costs = Costs.in_print()
        holds: dict[str, bool] = {}
        for (method, _), (slow, fast), (more, less) in costs.steps_up():
            for column, right in zip(COSTS, (fast[0] > slow[0], more[0] > less[0]), strict=True):
                holds[f"{method}'s {column}"] = holds.get(f"{method}'s {column}", True) and right
        broken = [name for name in holds if not holds[name]]
        return Recomputed(
            follows(not broken),
            f"Not so for {', '.join(broken)}." if broken else "So for every method of Table 14, without exception.",
            tuple(n for m, row in costs.sizes for n in printed_numbers(14, COSTS, method=m, row=row)),
        )


@dataclass(frozen=True, kw_only=True)
class SameSizeSameCost(Statement):
    """IMPACT's costs against the other methods', interpolated at IMPACT's sizes: no farther apart than in print.

    “Comparable” has no figure, so the largest difference between the paper's own numbers stands for it. It holds when
    every difference is within that over the whole range of the repetitions; it does not hold when the ranges of one
    are beyond it and beyond chance.
    """

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        if lacking := run.lacks_real_models():
            return Finding("not measured", lacking)
        texts: list[str] = []
        figures: dict[str, float | None] = {}
        within, beyond, comparisons = True, False, 0
        for column in COSTS:
            limit = round(max(abs(change[0]) for change, *_ in Costs.in_print().changes(column)), 1)
            found = [change for evidence in run.costs_by_route().values() for change, *_ in evidence.changes(column)]
            if not found:
                return Finding("not measured", "No other method in Table 14 has models around the size of IMPACT's.")
            values, low, high = np.array(found).T.round(1)
            comparisons += len(found)
            within &= bool((low >= -limit).all() and (high <= limit).all())
            beyond |= bool((low > limit).any() or (high < -limit).any())
            texts.append(f"{_span(column, values)} (in print up to {limit:.1f})")
            figures |= _ends(column, values)
        refuted = beyond and run.could_show(comparisons)
        return Finding(
            "holds" if within else "does not hold" if refuted else "cannot be told apart",
            f"IMPACT against the others interpolated at its sizes: {'; '.join(texts)}.",
            figures,
        )

    def on_print(self, benchmark: str = "") -> Recomputed:
        texts: list[str] = []
        figures: dict[str, float | None] = {}
        rests_on: list[PrintedNumber] = []
        for column in COSTS:
            changes, methods, sizes = zip(*Costs.in_print().changes(column), strict=True)
            values = np.array(changes)[:, 0]
            most = int(np.abs(values).argmax())
            texts.append(f"{_span(column, values)} (most against {methods[most]} at {sizes[most]:g} B)")
            figures |= _ends(column, values)
            rests_on += printed_numbers(14, [column], method=METHOD, model_size_b=sizes[most])
            rests_on += adjacent_numbers(14, [column], methods[most], sizes[most])
        return Recomputed(
            "cannot be derived",
            f"“Comparable” has no figure. IMPACT against the others interpolated at its sizes: {'; '.join(texts)}.",
            tuple(rests_on),
            figures,
        )


def _span(column: str, changes: FloatArray) -> str:
    return f"{column.split('_')[0]} {changes.min():+.1f} to {changes.max():+.1f} %"


def _ends(column: str, changes: FloatArray) -> dict[str, float]:
    return {f"lowest_{column}_pct": float(changes.min()), f"highest_{column}_pct": float(changes.max())}


@dataclass(frozen=True, kw_only=True)
class GainOverAfm(Statement):
    """The largest gain of IMPACT over AFM at equal accuracy in a column, over models and benchmarks, in percent.

    AFM's cost is interpolated at the size that matches IMPACT's accuracy by footnote 2, with the bounds of
    `Evidence.best_match` where there is no match. The interval covers the sampling of problems (95 % bootstrap
    percentiles) and the range of the repetitions. Where routes differ in the outcome it cannot be told apart. In print
    the matched size is that of Table 10; besides, IMPACT is compared with the smallest of AFM's own models that is at
    least as accurate.
    """

    column: str
    claim_pct: float

    def judge(self, run: Run, benchmark: str = "") -> Finding:
        if lacking := run.lacks_real_models() or run.lacks_accuracies():
            return Finding("not measured", lacking)
        accuracies, claim = run.accuracies[6], abs(self.claim_pct)
        outcomes: list[Outcome] = []
        texts = []
        figures: dict[str, float | None] = {"claim_pct": self.claim_pct}
        for route, evidence in run.costs_by_route().items():
            gains = [
                self._gain(evidence, point, *accuracies.best_match((RIVAL,), benchmark, found[point])[:2])
                for benchmark, found in accuracies.values.items()
                for point in evidence.sizes
                if point[0] == METHOD and point in found
            ]
            low, high = np.max(np.array(gains), axis=0)
            interval = Interval(percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
            outcomes.append(compared(interval.low, interval.high, claim, strictly=False))
            texts.append(f"{bounded(low[0], high[0])} on {route} (95 % {pair(interval)})")
            figures |= {f"lower_pct {route}": finite(low[0]), f"upper_pct {route}": finite(high[0])}
        return Finding(
            agreed(outcomes),
            f"The largest gain over AFM at equal accuracy is {'; '.join(texts)}, over problems and each model's "
            f"repetitions; the claim is up to {claim:g} %.",
            figures,
        )

    def on_print(self, benchmark: str = "") -> Recomputed:
        costs, accuracies, sign = Costs.in_print(), Evidence.printed(6), np.sign(self.claim_pct)

        def gain(point: Point, matched: float) -> float:
            return float(self._gain(costs, point, np.array([matched]), np.array([matched]))[0][0])

        best: dict[str, tuple[float, float, float]] = {}
        over_own_models = []
        for name in BENCHMARKS:
            own, afm = (accuracies.curve(method, name, with_dense=False) for method in (METHOD, RIVAL))
            at_match = []
            for point, size, accuracy in zip(own.points, own.sizes, own.values, strict=True):
                (matched,) = printed_numbers(10, ["baseline_size_b"], benchmark=name, impact_size_b=size)
                at_match.append((gain(point, matched.value), size, matched.value))
                enough = afm.sizes[(afm.values >= accuracy).ravel()]
                over_own_models += [gain(point, enough.min())] if len(enough) else []
            best[name] = max(at_match)
        benchmark, (_, size, matched_size) = max(best.items(), key=lambda found: found[1])
        gains = {name: float(sign * largest) for name, (largest, *_) in best.items()}
        by_benchmark = " and ".join(f"{gains[name]:+.1f} % on {name} (at {best[name][1]:g} B)" for name in best)
        # the claim is printed as a whole number of percent
        reached = any(abs(largest - self.claim_pct) <= 0.5 for largest in gains.values())
        return Recomputed(
            "follows" if reached else "cannot be derived",
            f"At the matched sizes of Table 10, Table 14 interpolated for AFM gives up to {by_benchmark}; against "
            f"AFM's own models of at least that accuracy up to {sign * max(over_own_models):+.1f} %. The text claims "
            f"{self.claim_pct:+g} %.",
            (
                *printed_numbers(14, [self.column], method=METHOD, model_size_b=size),
                *printed_numbers(10, ["baseline_size_b"], benchmark=benchmark, impact_size_b=size),
                *adjacent_numbers(14, [self.column], RIVAL, matched_size),
            ),
            {f"largest_{name}_pct": largest for name, largest in gains.items()} | {"claim_pct": self.claim_pct},
        )

    def _gain(
        self, costs: Costs, point: Point, least: FloatArray, greatest: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest gain of one model over AFM in percent, (1 + resamples,) each; of a cost to save, saved.

        least, greatest: AFM's sizes that may match, (1 + resamples,). The first of them takes values, the others the
        ends of the repetitions' range. Below the curve nothing is known of the gain from below, beyond it nothing from
        above.
        """
        curve, own, sign = costs.curve(RIVAL, self.column), costs.values[self.column][point], np.sign(self.claim_pct)
        first, last = (sign * change_pct(own, curve.at(sizes)[:, OPPOSITE]) for sizes in (least, greatest))
        low, high = first[:, 1:].min(axis=1), last[:, 1:].max(axis=1)
        low[0], high[0] = first[0, 0], last[0, 0]
        return np.where(least == 0, -np.inf, low), np.where(np.isinf(greatest), np.inf, high)
