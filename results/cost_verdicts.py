"""Section 4.5 and appendix B.3: the sentences about costs, and what a run's Tables 14 and 5 say of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import comb, log10

import numpy as np

from results import cost_claims
from results.cells import DENSE, Cell
from results.criteria import Finding, Outcome, Sentence, bounded, compared, finite, pair
from results.evidence import METHOD, Evidence, name_points
from results.printed import Recomputed
from results.profiling import ProfilingPoint
from results.speed import SpeedPoint
from results.statistics import FloatArray, Interval, percentile_interval
from results.verdicts import Verdict

RIVAL = "afm"
_SIGNIFICANCE = 0.05
# the models that appendix B.3 speaks of have 13.02 billion
_PARAMETERS_13B = 12.5e9


@dataclass(frozen=True)
class MeasuredCosts:
    """The points of a run's Tables 14 and 5, and the cells of its Table 6, whose accuracies some sentences need."""

    speed: Sequence[SpeedPoint] = ()
    profiling: Sequence[ProfilingPoint] = ()
    cells: Sequence[Cell] = ()


@dataclass(frozen=True, kw_only=True)
class CostClaim(Sentence):
    """A sentence about the costs in a printed ``table``: what the printed numbers give for it, and what a run's do."""

    table: int
    recompute: Callable[[], Recomputed]
    judge: Callable[[MeasuredCosts], Finding]


@dataclass(frozen=True)
class _Curve:
    """One cost of a method's models and the dense one on one route, all (points,); sizes in parameters, rising.

    low and high are over repetitions; of memory, which is read once, they are the reading.
    """

    points: Sequence[SpeedPoint]
    sizes: FloatArray
    values: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, points: Sequence[SpeedPoint], method: str, column: str) -> "_Curve":
        chosen = sorted((p for p in points if p.method in (method, DENSE)), key=lambda p: p.parameters)
        read = [_read(point, column) for point in chosen]
        return cls(chosen, np.array([float(p.parameters) for p in chosen]), *np.array(read).T)


def _read(point: SpeedPoint, column: str) -> tuple[float, float, float]:
    if column == "memory_gb":
        return (point.memory_gb,) * 3
    speed = point.total.tokens_per_s
    return speed.median, speed.low, speed.high


def _by_route(points: Sequence[SpeedPoint]) -> Iterator[tuple[str, list[SpeedPoint]]]:
    for route in dict.fromkeys(point.route for point in points):
        yield route, [point for point in points if point.route == route]


def _could_show(points: Sequence[SpeedPoint], comparisons: int) -> bool:
    """Whether one of some comparisons can be significant by ranges that do not overlap.

    Two equal speeds have such ranges in one given order with probability 1 / C(2r, r) for r repetitions; Bonferroni.
    """
    repetitions = min(point.repetitions for point in points)
    return comparisons / comb(2 * repetitions, repetitions) <= _SIGNIFICANCE


def larger_is_costlier(costs: MeasuredCosts) -> Finding:
    """From each model of a method to its next larger one, dense included, throughput falls and memory grows.

    It holds when it does so at every step, in throughput beyond the range of the repetitions. It does not hold when
    some throughput rises beyond that range and chance (`_could_show`), or some memory that is a device's own does not
    grow: what a process holds depends on its libraries and its allocator as well.
    """
    found = [
        _step(smaller, larger)
        for _, points in _by_route(costs.speed)
        for method in dict.fromkeys(p.method for p in points if p.method != DENSE)
        for smaller, larger in pairwise(_Curve.of(points, method, "memory_gb").points)
    ]
    if not found:
        return Finding("not measured", "Table 14 has no two models of one method.")
    clear, falls, rises, grows, shrinks = (sum(kind) for kind in zip(*found, strict=True))
    verdict: Outcome = "cannot be told apart"
    if clear == grows == len(found):
        verdict = "holds"
    elif shrinks or (rises and _could_show(costs.speed, len(found))):
        verdict = "does not hold"
    return Finding(
        verdict,
        f"In {len(found)} steps from a model to the next larger one throughput falls in {falls}, beyond the range of "
        f"the repetitions in {clear}, and rises beyond it in {rises}; memory grows in {grows}.",
        {"steps": len(found), "throughput_falls": falls, "memory_grows": grows},
    )


def _step(smaller: SpeedPoint, larger: SpeedPoint) -> tuple[bool, bool, bool, bool, bool]:
    """Throughput falls beyond its ranges, falls, rises beyond them; memory grows, and a device's own does not."""
    fast, slow = smaller.total.tokens_per_s, larger.total.tokens_per_s
    grows = smaller.memory_gb < larger.memory_gb
    own = not smaller.memory_kind.startswith("process")
    return fast.low > slow.high, fast.median > slow.median, fast.high < slow.low, grows, own and not grows


def same_size_same_cost(costs: MeasuredCosts) -> Finding:
    """IMPACT's costs against the other methods', interpolated at IMPACT's sizes: no farther apart than in print.

    “Comparable” has no figure, so the largest difference between the paper's own numbers stands for it. It holds when
    every difference is within that over the whole range of the repetitions; it does not hold when the ranges of one
    are beyond it and beyond chance.
    """
    if lacking := _real_models_lack(costs.speed):
        return Finding("not measured", lacking)
    print_says = cost_claims.same_size_same_cost().figures
    texts: list[str] = []
    figures: dict[str, float | None] = {}
    within, beyond, comparisons = True, False, 0
    for column in cost_claims.COSTS:
        printed = [print_says[f"{end}_{column}_pct"] for end in ("lowest", "highest")]
        limit = round(max(abs(end) for end in printed if end is not None), 1)
        found = [change for _, points in _by_route(costs.speed) for change in _changes_at_own_sizes(points, column)]
        if not found:
            return Finding("not measured", "No other method in Table 14 has models around the size of IMPACT's.")
        values, low, high = np.array(found).T.round(1)
        comparisons += len(found)
        within &= bool((low >= -limit).all() and (high <= limit).all())
        beyond |= bool((low > limit).any() or (high < -limit).any())
        texts.append(
            f"{column.split('_')[0]} {values.min():+.1f} to {values.max():+.1f} % (in print up to {limit:.1f})"
        )
        figures |= {f"lowest_{column}_pct": float(values.min()), f"highest_{column}_pct": float(values.max())}
    refuted = beyond and _could_show(costs.speed, comparisons)
    return Finding(
        "holds" if within else "does not hold" if refuted else "cannot be told apart",
        f"IMPACT against the others interpolated at its sizes: {'; '.join(texts)}.",
        figures,
    )


def _changes_at_own_sizes(points: Sequence[SpeedPoint], column: str) -> Iterator[tuple[float, ...]]:
    """In percent: the change, its lowest and its highest over repetitions; one for each model and other method."""
    others = dict.fromkeys(p.method for p in points if p.method not in (DENSE, METHOD))
    curves = [_Curve.of(points, other, column) for other in others]
    for point in points:
        for curve in curves if point.method == METHOD else ():
            if curve.sizes[0] <= point.parameters <= curve.sizes[-1]:
                value, low, high = _read(point, column)
                rival = [
                    float(np.interp(point.parameters, curve.sizes, c)) for c in (curve.values, curve.high, curve.low)
                ]
                own = zip((value, low, high), rival, strict=True)
                yield tuple(cost_claims.change_pct(mine, theirs) for mine, theirs in own)


def _real_models_lack(points: Sequence[SpeedPoint]) -> str:
    if not points:
        return "Table 14 is not measured."
    if any(point.random_weights for point in points):
        return "Table 14 is of random weights: methods differ there by their sizes alone, and have no accuracy."
    if lacking := [name for name in (DENSE, METHOD) if name not in {point.method for point in points}]:
        return f"Table 14 lacks {' and '.join(lacking)}."
    return ""


def gain_over_afm(column: str, claim_pct: float, costs: MeasuredCosts) -> Finding:
    """The largest gain of IMPACT over AFM at equal accuracy, over models and benchmarks of Table 6, in percent.

    AFM's cost is interpolated at the size that matches IMPACT's accuracy by footnote 2, with the bounds of
    `Evidence.best_match` where there is no match. The interval covers the sampling of problems (95 % bootstrap
    percentiles) and the range of the repetitions. Where routes differ in the outcome it cannot be told apart.
    """
    if lacking := _real_models_lack(costs.speed) or _accuracies_lack(costs):
        return Finding("not measured", lacking)
    evidence, claim = Evidence.measured(costs.cells), abs(claim_pct)
    outcomes: set[Outcome] = set()
    texts = []
    figures: dict[str, float | None] = {"claim_pct": claim_pct}
    for route, points in _by_route(costs.speed):
        curve = _Curve.of(points, RIVAL, column)
        gains = [
            _gains(point, curve, column, np.sign(claim_pct), *evidence.best_match((RIVAL,), benchmark, accuracy)[:2])
            for benchmark, found in evidence.accuracies.items()
            for point in points
            for accuracy in [found.get((point.method, point.row))]
            if point.method == METHOD and accuracy is not None
        ]
        low, high = np.max(np.array(gains), axis=0)
        interval = Interval(percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
        outcomes.add(compared(interval.low, interval.high, claim, strictly=False))
        texts.append(f"{bounded(low[0], high[0])} on {route} (95 % {pair(interval)})")
        figures |= {f"lower_pct {route}": finite(low[0]), f"upper_pct {route}": finite(high[0])}
    return Finding(
        outcomes.pop() if len(outcomes) == 1 else "cannot be told apart",
        f"The largest gain over AFM at equal accuracy is {'; '.join(texts)}, over problems and each model's "
        f"repetitions; the claim is up to {claim:g} %.",
        figures,
    )


def _gains(
    own: SpeedPoint, curve: _Curve, column: str, sign: float, least: FloatArray, greatest: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest gain of one model over a curve in percent, (1 + resamples,) each; of a cost to save, sign -1.

    least, greatest: the sizes of the curve's that may match, (1 + resamples,). The first of them takes medians, the
    others the ends of the repetitions' range. Below the curve nothing is known of the gain from below, beyond it
    nothing from above.
    """
    value, *ends = _read(own, column)
    rival = [curve.high, curve.low]
    if sign < 0:
        ends.reverse()
        rival.reverse()
    low, high = (
        sign * cost_claims.change_pct(np.r_[value, np.full(len(sizes) - 1, end)], _at(curve, sizes, costs))
        for end, sizes, costs in zip(ends, (least, greatest), rival, strict=True)
    )
    return np.where(least == 0, -np.inf, low), np.where(np.isinf(greatest), np.inf, high)


def _at(curve: _Curve, sizes: FloatArray, costs: FloatArray) -> FloatArray:
    """The curve's costs at some sizes, of the first one its median."""
    first: FloatArray = np.interp(sizes[:1], curve.sizes, curve.values)
    return np.r_[first, np.interp(sizes[1:], curve.sizes, costs)]


def _accuracies_lack(costs: MeasuredCosts) -> str:
    """Why the cells of Table 6 give no accuracies of the models of Table 14; empty if they do."""
    measured = {(cell.method, cell.row): cell.parameters for cell in costs.cells}
    timed = {(p.method, p.row): p.parameters for p in costs.speed if p.method in (DENSE, METHOD, RIVAL)}
    if not any(method == RIVAL for method, _ in timed):
        return f"Table 14 lacks {RIVAL}."
    if gone := [point for point in timed if point not in measured]:
        return f"Table 6 lacks {name_points(gone)}, so their accuracies are not known."
    if other := [point for point, size in timed.items() if measured[point] != size]:
        return f"Table 6 is of other models than Table 14: {name_points(other)} differ in size."
    return ""


def profiling_under_two_hours(costs: MeasuredCosts) -> Finding:
    """IMPACT's profiling of a model of 13 billion parameters on a GPU against two hours."""
    if not (point := _profiled(costs, METHOD)):
        return Finding("not measured", f"Table 5 lacks {METHOD}.")
    conditions, hours = point.conditions, point.total_seconds / 3600
    if conditions.device == "cpu" or conditions.parameters < _PARAMETERS_13B:
        elsewhere = f"; extrapolated to 13B it is {point.extrapolated.hours:.3g} hours" if point.extrapolated else ""
        return Finding("not measured", f"Table 5 is of no 13B model on a GPU: {conditions}{elsewhere}.")
    return Finding("holds" if hours < 2 else "does not hold", f"{hours:.2f} hours: {conditions}.", {"hours": hours})


def profiling_overhead(costs: MeasuredCosts) -> Finding:
    """IMPACT's profiling time and peak memory over AFM's, as this harness profiles, one measurement of each.

    “Modest” has no figure, so the paper's own overhead stands for it.
    """
    own, other = (_profiled(costs, method) for method in (METHOD, RIVAL))
    if not own or not other:
        return Finding("not measured", f"Table 5 lacks {METHOD} or {RIVAL}.")
    limits = cost_claims.profiling_overhead().figures
    figures = {
        "time_pct": cost_claims.change_pct(own.total_seconds, other.total_seconds),
        "memory_pct": cost_claims.change_pct(own.memory_gb, other.memory_gb),
    }
    return Finding(
        "holds" if all(value <= (limits[name] or 0) for name, value in figures.items()) else "does not hold",
        f"IMPACT's profiling takes {figures['time_pct']:.1f} % more time and {figures['memory_pct']:.1f} % more memory "
        f"than AFM's; in print {limits['time_pct']:.1f} and {limits['memory_pct']:.1f} %. {own.conditions}.",
        figures,
    )


def asvd_orders_of_magnitude(costs: MeasuredCosts) -> Finding:
    """ASVD's profiling time over the others', two orders of magnitude to the nearest, at a lower peak memory.

    As this harness profiles, one measurement of each.
    """
    asvd, *others = (_profiled(costs, method) for method in ("asvd", METHOD, RIVAL))
    there = [other for other in others if other]
    if not asvd or len(there) < len(others):
        return Finding("not measured", f"Table 5 lacks asvd, {METHOD} or {RIVAL}.")
    ratios = {other.method: asvd.total_seconds / other.total_seconds for other in there}
    holds = all(round(log10(ratio)) >= 2 for ratio in ratios.values()) and all(
        asvd.memory_gb < other.memory_gb for other in there
    )
    return Finding(
        "holds" if holds else "does not hold",
        f"ASVD's time is {_times(ratios)}; its peak memory is {asvd.memory_gb:.3g} GB against "
        f"{' and '.join(f'{other.memory_gb:.3g}' for other in there)}.{_at_13b(asvd, there)}",
        {f"times_{method}": ratio for method, ratio in ratios.items()},
    )


def _times(ratios: Mapping[str, float]) -> str:
    return " and ".join(f"{ratio:.3g} times {method}'s" for method, ratio in ratios.items())


def _at_13b(asvd: ProfilingPoint, others: Sequence[ProfilingPoint]) -> str:
    ratios = {
        other.method: asvd.extrapolated.hours / other.extrapolated.hours
        for other in others
        if asvd.extrapolated and other.extrapolated
    }
    return f" Extrapolated to 13B, every candidate evaluated on all rows, {_times(ratios)}." if ratios else ""


def _profiled(costs: MeasuredCosts, method: str) -> ProfilingPoint | None:
    return next((p for p in costs.profiling if (p.method, p.implementation) == (method, "ours")), None)


_THROUGHPUT_AND_MEMORY = (
    "In particular, compared to AFM—the strongest baseline—IMPACT improves throughput by up to 41% and reduces memory "
    "use by up to 42%."
)

COST_CLAIMS: tuple[CostClaim, ...] = (
    CostClaim(
        id="larger_is_costlier",
        section="4.5",
        sentence="As expected, larger models exhibit lower throughput and higher memory consumption across all "
        "methods.",
        table=14,
        recompute=cost_claims.larger_is_costlier,
        judge=larger_is_costlier,
    ),
    CostClaim(
        id="same_size_same_cost",
        section="4.5",
        sentence="When model size is held constant, all approaches demonstrate comparable throughput and memory "
        "consumption.",
        table=14,
        recompute=cost_claims.same_size_same_cost,
        judge=same_size_same_cost,
    ),
    *(
        CostClaim(
            id=name,
            section="4.5",
            sentence=_THROUGHPUT_AND_MEMORY,
            table=14,
            recompute=partial(cost_claims.gain_over_afm, column, claim_pct),
            judge=partial(gain_over_afm, column, claim_pct),
        )
        for name, column, claim_pct in (("throughput", "throughput_tok_s", 41.0), ("memory", "memory_gb", -42.0))
    ),
    CostClaim(
        id="profiling_under_two_hours",
        section="B.3",
        sentence="Using only 1% of MetaMathQA (Yu et al., 2024) and 3% of Code-Instructions-120K-Alpaca (Bisht, 2023) "
        "as calibration data, profiling completes in under two hours on a single NVIDIA A100 GPU for 13B models.",
        table=5,
        recompute=cost_claims.profiling_under_two_hours,
        judge=profiling_under_two_hours,
    ),
    CostClaim(
        id="profiling_overhead",
        section="B.3",
        sentence="As shown in the table, IMPACT incurs only a modest additional overhead compared to AFM.",
        table=5,
        recompute=cost_claims.profiling_overhead,
        judge=profiling_overhead,
    ),
    CostClaim(
        id="asvd_profiling",
        section="B.3",
        sentence="the procedure requires a substantially larger number of forward passes, leading to "
        "orders-of-magnitude longer profiling time despite lower peak GPU memory usage.",
        table=5,
        recompute=cost_claims.asvd_orders_of_magnitude,
        judge=asvd_orders_of_magnitude,
    ),
)


def judge_costs(number: int, costs: MeasuredCosts) -> list[Verdict]:
    """Every sentence about Table 5 or 14, judged on a run's costs."""
    return [
        Verdict.of(claim, None, claim.judge(costs), claim.recompute()) for claim in COST_CLAIMS if claim.table == number
    ]
