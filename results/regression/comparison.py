"""Whether a method's numbers got worse since a reference run: paired tests between two runs of the same tables.

The unit is the problem. All marks that a method has on one problem, over tables, rows and seeds, are one cluster, and
under "nothing changed" the two runs of a cluster may be exchanged. That gives an exact test of sign flips of whole
clusters (Fisher 1935, The Design of Experiments, ch. 3; for clustered pairs Durkalski et al. 2003, Statistics in
Medicine 22:2417-2428), which is McNemar's (1947, Psychometrika 12:153-157) where a problem has one mark.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import binom, t

from results.measured.cells import DENSE, Cell, grouped_by_point
from results.numbers.printed import PRINTED_MODEL, printed_benchmarks
from results.numbers.statistics import wilson_interval
from results.regression.power import IntArray, Tables, as_seed, detectable_drop, seed_spread, seeds_of
from results.statements.evidence import name_points
from results.tables.accuracy import AccuracyTable, build_table

Matched = tuple[int | str, Cell, Cell]

# A method fails if it got worse with p < ALPHA after Holm over all methods, and by more than a minimum of points. Flips
# that cancel are what the test allows for; a whole model that training made a little worse is what the minimum is for.
ALPHA = 0.01
MINIMUM_DROP = 3.0
MINIMUM_RECOVERY_DROP = 5.0
# A method that solves little has fewer points to lose: half of what it had is then the minimum.
MINIMUM_SHARE = 0.5
# Training and decoding differ from the paper's in all that it leaves open.
PAPER_TOLERANCE = 2.0


class Reference(AccuracyTable):
    """A measured table that later runs are held to.

    ``blessed`` says by which command, when and at which commit it was made the reference, ``provenance`` how it was
    measured.
    """

    blessed: dict[str, str]


@dataclass(frozen=True)
class Pairs:
    """What one method solved in two runs, arrays of shape (problems,).

    ``before`` and ``after`` count the places (table, row and seed) at which a problem was solved, ``dense_before`` and
    ``dense_after`` those at which the dense model of the same table and run solved it. ``marks`` counts all places of
    all problems, ``flipped`` those where the runs differ.
    """

    before: IntArray
    after: IntArray
    dense_before: IntArray
    dense_after: IntArray
    marks: int
    flipped: int

    def accuracies(self) -> tuple[float, float]:
        """Accuracy before and after, percent of the marks."""
        return 100 * int(self.before.sum()) / self.marks, 100 * int(self.after.sum()) / self.marks

    def churn(self) -> float:
        """Sum over problems of the squared difference between the runs, in marks squared."""
        return float(np.sum((self.after - self.before) ** 2))

    def recoveries(self) -> tuple[float, float] | None:
        """Solved in percent of what the dense model solved at the same places; None if it solved nothing."""
        dense = int(self.dense_before.sum()), int(self.dense_after.sum())
        if not all(dense):
            return None
        return 100 * int(self.before.sum()) / dense[0], 100 * int(self.after.sum()) / dense[1]


@dataclass(frozen=True)
class Gate:
    """One number of a method in the reference and in this run, percent; it may fall by ``minimum`` points.

    ``p_value`` is that of a fall as large, one-sided, after Holm over all methods.
    """

    before: float
    after: float
    p_value: float
    minimum: float

    @property
    def failed(self) -> bool:
        """Whether it fell beyond doubt and by more than the minimum."""
        return self.p_value < ALPHA and self.before - self.after > self.minimum


@dataclass(frozen=True)
class Change:
    """How a method moved from the reference to this run.

    ``recovery`` is None for the dense model, and where the dense model solved nothing. ``flipped`` counts the marks
    that differ. ``detectable`` is the drop, in points of accuracy, that `detectable_drop` gives, or None.
    """

    method: str
    problems: int
    marks: int
    flipped: int
    accuracy: Gate
    recovery: Gate | None
    detectable: float | None

    def failures(self) -> list[str]:
        """A line for each gate that failed."""
        gates = [
            ("accuracy", self.accuracy, "exact cluster McNemar"),
            ("recovery against the dense model", self.recovery, "cluster permutation"),
        ]
        return [
            f"{self.method}: {what} fell by {gate.before - gate.after:.1f} points, from {gate.before:.1f} to "
            f"{gate.after:.1f} %, in {self.marks} marks of {self.problems} problems (allowed: {gate.minimum:.1f}; "
            f"{test} p = {gate.p_value:.2g} after Holm)"
            for what, gate, test in gates
            if gate is not None and gate.failed
        ]


@dataclass(frozen=True)
class Comparison:
    """A run beside the reference: a change a method, lines that fail it, and lines that only warn."""

    changes: list[Change]
    failures: list[str]
    warnings: list[str]


def compare(reference: Tables, run: Tables) -> Comparison:
    """Hold the cells of a run, by table, to those of the reference.

    What the reference has, the run must have, measured with the same settings: where it has not, that is a failure too.
    Of several seeds those are compared that both have.

    Raises:
        ValueError: cells of one table do not belong together.
    """
    matched, failures = match(reference, run)
    pairs = paired_by_method(matched, reference, run)
    phi, degrees = seed_spread(reference)
    p_values = holm({method: worse_p_value(pair.after - pair.before) for method, pair in pairs.items()})
    compressed = {method: pair for method, pair in pairs.items() if method != DENSE}
    recovery_p_values = holm({m: recovery_p_value(pair) for m, pair in compressed.items() if pair.recoveries()})
    changes = []
    for method, pair in pairs.items():
        seeds = len({cell.seed for _, cell, _ in matched if cell.method == method})
        before, after = pair.accuracies()
        # the dense model is before the second SFT, the only training that seeds repeat
        moved = 0.0 if method == DENSE else phi * float(np.sqrt(2 / seeds * before * (100 - before)))
        margin = moved * float(t.isf(ALPHA / len(pairs), degrees))
        accuracy = Gate(before, after, p_values[method], max(min(MINIMUM_DROP, MINIMUM_SHARE * before), margin))
        recovery = None
        if method in recovery_p_values and (recoveries := pair.recoveries()):
            minimum = min(MINIMUM_RECOVERY_DROP, MINIMUM_SHARE * recoveries[0])
            minimum = max(minimum, margin * pair.marks / int(pair.dense_before.sum()))
            recovery = Gate(*recoveries, recovery_p_values[method], minimum)
        churn = max(pair.churn(), seeds * _seed_churn(reference, method))
        variance = (moved / 100 * pair.marks) ** 2
        # the level is Holm's first step, which a method that falls alone has to take
        detectable = detectable_drop(pair.before, pair.marks, churn, variance, accuracy.minimum, ALPHA / len(pairs))
        changes.append(Change(method, len(pair.before), pair.marks, pair.flipped, accuracy, recovery, detectable))
    failures += [line for change in changes for line in change.failures()]
    return Comparison(changes, failures, [*_size_warnings(matched), *_absolute_warnings(matched)])


def match(reference: Tables, run: Tables) -> tuple[list[Matched], list[str]]:
    """Cells of both runs at one table, method, row and seed, and a line for whatever cannot be compared."""
    matched: list[Matched] = []
    faults = []
    for number, cells in sorted(reference.items(), key=lambda table: str(table[0])):
        if number not in run:
            faults.append(f"Table {number} is in the reference and was not measured")
            continue
        groups = grouped_by_point(run[number]).values()
        there = {(cell.method, cell.row, cell.seed): cell for group in groups for cell in group}
        both = [(cell, there[place]) for cell in cells if (place := (cell.method, cell.row, cell.seed)) in there]
        alike = [(one, other) for one, other in both if _declared(one) == _declared(other)]
        measured, same = {(one.method, one.row) for one, _ in both}, {(one.method, one.row) for one, _ in alike}
        points = grouped_by_point(cells)
        if missing := name_points(point for point in points if point not in measured):
            faults.append(f"Table {number}: not measured, and in the reference: {missing}")
        if changed := name_points(point for point in points if point in measured - same):
            faults.append(
                f"Table {number}: measured with other settings or problems than the reference: {changed}; "
                "if that is meant, bless the new numbers"
            )
        matched += [(number, one, other) for one, other in alike]
    return matched, faults


def _declared(cell: Cell) -> tuple[object, ...]:
    # as text: a checkpoint from outside has no keep ratio, and nan differs from itself
    problems = {name: result.n for name, result in cell.benchmarks.items()}
    return str(cell.keep_pct), cell.rank_rule, cell.eta, problems


def paired_by_method(matched: Sequence[Matched], reference: Tables, run: Tables) -> dict[str, Pairs]:
    """The marks of matched cells, summed by method and problem.

    Tables on the same benchmark, with as many problems of it, are on the same problems: those of a preset.
    """
    counts: dict[str, dict[tuple[str, int], IntArray]] = defaultdict(dict)
    for number, one, other in matched:
        dense = [next((cell for cell in tables[number] if cell.method == DENSE), None) for tables in (reference, run)]
        for name, result in one.benchmarks.items():
            before, after, *of_dense = (_marks(model, name, result.n) for model in (one, other, *dense))
            marked = np.array([before, after, *of_dense, np.ones(result.n, dtype=np.int64), before != after])
            problems = name, result.n
            counts[one.method][problems] = counts[one.method].get(problems, 0) + marked
    paired = {}
    for method, by_problem in counts.items():
        before, after, dense_before, dense_after, marks, flipped = np.concatenate([*by_problem.values()], axis=1)
        paired[method] = Pairs(before, after, dense_before, dense_after, int(marks.sum()), int(flipped.sum()))
    return paired


def _marks(cell: Cell | None, benchmark: str, n: int) -> IntArray:
    """Of a model that was not measured, nothing is solved."""
    measured = cell.benchmarks.get(benchmark) if cell else None
    return np.array(measured.correct if measured else [False] * n, dtype=np.int64)


def worse_p_value(differences: IntArray) -> float:
    """Exact one-sided p-value of a fall: the chance of a sum so low if every cluster's sign were a fair coin's.

    ``differences`` are marks solved after minus before, (problems,). The distribution of the sum is the convolution of
    one binomial for each absolute difference (Pagano & Tritchler 1983, JASA 78:435-440). If no cluster differs by more
    than one mark this is McNemar's exact test, one-sided.
    """
    gained = int(differences[differences > 0].sum())
    chances = np.ones(1)
    for size, clusters in zip(*np.unique(np.abs(differences[differences != 0]), return_counts=True), strict=True):
        spaced = np.zeros(size * clusters + 1)
        spaced[::size] = binom.pmf(np.arange(clusters + 1), clusters, 0.5)
        chances = np.convolve(chances, spaced)
    return min(1.0, float(chances[: gained + 1].sum()))


def recovery_p_value(pairs: Pairs, *, flips: int = 4999, seed: int = 0) -> float:
    """One-sided p-value of a fall in recovery, from random exchanges of whole clusters between the two runs.

    An exchange swaps the method's and the dense model's marks together. The recovery after an exchange is below that
    before it exactly when solved x (both runs' dense) - dense x (both runs' solved) is negative, with both sums
    unmoved by exchanges: that linear form is the statistic. The observed assignment counts as one of the draws (Phipson
    & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39).
    """
    moved = np.column_stack([pairs.after - pairs.before, pairs.dense_after - pairs.dense_before])
    both = int((pairs.before + pairs.after).sum())
    dense_both = int((pairs.dense_before + pairs.dense_after).sum())
    forms = moved @ np.array([dense_both, -both])
    sizes, clusters = np.unique(np.abs(forms[forms != 0]), return_counts=True)
    draws = np.random.default_rng(seed).binomial(clusters, 0.5, size=(flips, len(clusters)))
    lower = np.sum((2 * draws - clusters) @ sizes <= forms.sum())
    return (1 + int(lower)) / (flips + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for their number (Holm 1979, Scandinavian Journal of Statistics 6:65-70)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    raised = [p_values[name] * (len(ordered) - i) for i, name in enumerate(ordered)]
    return dict(zip(ordered, np.minimum(1, np.maximum.accumulate(raised)).tolist(), strict=True)) if ordered else {}


def _seed_churn(tables: Tables, method: str) -> float:
    """Sum of squared differences by problem between two seeds of a method, mean over successive seeds; 0 with one."""
    own = {number: [cell for cell in cells if cell.method == method] for number, cells in tables.items()}
    seeds = seeds_of(own)
    churns = []
    for first, second in pairwise(seeds):
        one, other = as_seed(own, first, first), as_seed(own, second, first)
        pairs = paired_by_method(match(one, other)[0], one, other)
        churns += [pair.churn() for pair in pairs.values()]
    return float(np.mean(churns)) if churns else 0.0


def _size_warnings(matched: Sequence[Matched]) -> list[str]:
    return [
        f"Table {number}, {one.method} row {one.row}: {other.parameters:,} parameters, {one.parameters:,} in the "
        "reference"
        for number, one, other in matched
        if one.parameters != other.parameters
    ]


def _absolute_warnings(matched: Sequence[Matched]) -> list[str]:
    """A line for each method with accuracies below the reference's 95 % Wilson interval."""
    below: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for number, one, other in matched:
        for name, result in one.benchmarks.items():
            solved, accuracy = sum(result.correct), float(np.mean(other.benchmarks[name].correct))
            interval = wilson_interval(solved, result.n)
            if accuracy < interval.low:
                line = (
                    f"Table {number} row {one.row} on {name}, {100 * accuracy:.1f} % against "
                    f"{100 * solved / result.n:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
                )
                below[one.method].append((accuracy - interval.low, line))
    return [
        f"{method}: {len(places)} accuracies are below the reference's 95 % interval; furthest {min(places)[1]}"
        for method, places in below.items()
    ]


def beside_paper(number: int | str, cells: Sequence[Cell], model: str) -> str:
    """How many measured accuracies contradict the printed ones: the interval and `PAPER_TOLERANCE` points miss them.

    Empty if none does, and for a table that the paper has no accuracies of. For a model that is not the paper's this
    says nothing of the harness.
    """
    if not isinstance(number, int) or number not in PRINTED_MODEL:
        return ""
    benchmarks = printed_benchmarks(number)
    table = build_table(cells, number, benchmarks)
    missed: list[tuple[float, str]] = []
    compared = 0
    for record in table.to_dict("records"):
        for name in benchmarks:
            columns = f"{name}_low", f"{name}_high", f"printed_{name}_acc"
            low, high, printed = (float(record[column]) for column in columns)
            if np.isnan(low) or np.isnan(printed):
                continue
            compared += 1
            away = max(low - printed, printed - high) - PAPER_TOLERANCE
            if away > 0:
                measured = f"{record[f'{name}_acc']:.1f} against {printed:.1f} %"
                missed.append((away, f"{record['method']} row {record['row']} on {name}, {measured}"))
    if not missed:
        return ""
    return (
        f"Table {number} of {model} beside the paper's of {PRINTED_MODEL[number]}: {len(missed)} of {compared} printed "
        f"accuracies lie over {PAPER_TOLERANCE:g} points outside our 95 % interval; furthest {max(missed)[1]} printed"
    )
