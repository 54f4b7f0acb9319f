"""What the printed Tables 4 and 6 to 13 show beyond what the text says of them, recomputed from their numbers."""

from functools import cache

import numpy as np
import pandas as pd

from results.cells import DENSE
from results.criteria import DERIVED_TABLE
from results.evidence import BASELINES, METHOD
from results.matching import matched_size
from results.printed import (
    PRINTED_MODEL,
    PRINTED_PROBLEMS,
    PrintedNumber,
    Recomputed,
    follows,
    printed_benchmarks,
    printed_numbers,
    printed_table,
)
from results.rounding import (
    counts_printed_so,
    printed_points,
    printed_reductions,
    reduction_follows,
    reduction_pct,
)
from results.size_reduction import COUNTED, ROUNDED, ReductionTable, reductions_from_paper
from results.statistics import standard_error

BENCHMARKS = ("gsm8k", "math")
_ACCURACIES = [f"{benchmark}_acc" for benchmark in BENCHMARKS]


def eta_is_stable() -> Recomputed:
    """Table 4: the spread over eta at each k, and which eta is best."""
    table = printed_table(4)
    spreads: dict[str, float] = {}
    best_mean: dict[str, float] = {}
    best: list[float] = []
    rests_on: list[PrintedNumber] = []
    for benchmark, column in zip(BENCHMARKS, _ACCURACIES, strict=True):
        by_k = table.pivot(index="keep_pct", columns="eta", values=column)
        ks, etas = by_k.index.to_numpy(dtype=int), by_k.columns.to_numpy(dtype=float)
        values = by_k.to_numpy(dtype=float)
        spread = values.max(axis=1) - values.min(axis=1)
        widest = int(spread.argmax())
        spreads[benchmark] = float(spread[widest])
        best_mean[benchmark] = float(etas[values.mean(axis=0).argmax()])
        best += etas[values.argmax(axis=1)].tolist()
        for eta in etas[[values[widest].argmin(), values[widest].argmax()]].tolist():
            rests_on += printed_numbers(4, [column], keep_pct=int(ks[widest]), eta=eta)
    return Recomputed(
        "cannot be derived",
        "Neither “stable” nor “moderate” has a figure. Over the four eta, accuracy at one k spreads by up to "
        + " and ".join(f"{spread:.1f} points on {name}" for name, spread in spreads.items())
        + f"; eta .25 or .5 is best in {sum(eta in (0.25, 0.5) for eta in best)} of {len(best)} columns, and the best "
        + "mean over k is at eta "
        + " and ".join(f"{eta:g} on {name}" for name, eta in best_mean.items())
        + ".",
        tuple(rests_on),
        {f"largest_spread_{name}_points": spread for name, spread in spreads.items()},
    )


def eta_differs_by_row() -> Recomputed:
    """Which k and eta of Table 4 have both accuracies of an IMPACT row of Table 6."""
    ablation, main = printed_table(4), printed_table(6)
    texts: list[str] = []
    etas: set[float] = set()
    found_once = True
    rests_on: list[PrintedNumber] = []
    own = main[main["method"] == METHOD]
    for row, size, *accuracies in zip(own["row"], own["model_size_b"], *(own[c] for c in _ACCURACIES), strict=True):
        same = ablation[(ablation[_ACCURACIES] == accuracies).all(axis=1)]
        found_once &= len(same) <= 1
        for k, eta in zip(same["keep_pct"].astype(int), same["eta"].astype(float), strict=True):
            at_k = ablation.loc[ablation["keep_pct"] == k, _ACCURACIES]
            ranks = (at_k > accuracies).sum() + 1
            texts.append(
                f"{size:.2f} B is k = {k}, eta = {eta:g} (of the four eta number {ranks.iloc[0]} on GSM8K and "
                f"{ranks.iloc[1]} on MATH)"
            )
            etas.add(eta)
            rests_on += printed_numbers(6, _ACCURACIES, method=METHOD, row=int(row))
            rests_on += printed_numbers(4, _ACCURACIES, keep_pct=k, eta=eta)
    return Recomputed(
        follows(found_once and len(etas) > 1),
        f"Both accuracies of {len(texts)} rows of Table 6 are found in Table 4, once each: {'; '.join(texts)}. So no "
        "one eta gives the table: eta was chosen row by row, and the accuracies printed to choose by are those on the "
        "test sets.",
        tuple(rests_on),
        {"rows_found": float(len(texts)), "different_eta": float(len(etas))},
    )


def problems_behind(benchmark: str, least: int = 100, most: int = 499) -> Recomputed:
    """The numbers of problems, from ``least`` to ``most``, of which every printed accuracy is a whole count."""
    numbers = [
        number
        for table in PRINTED_MODEL
        if benchmark in printed_benchmarks(table)
        for method, row in printed_table(table)[["method", "row"]].itertuples(index=False, name=None)
        for number in printed_numbers(table, [f"{benchmark}_acc"], method=method, row=row)
    ]
    values = np.array([number.value for number in numbers])

    def fits(n: int) -> bool:
        few, many = counts_printed_so(values, n)
        return bool((few <= many).all())

    sizes = [n for n in range(least, most + 1) if fits(n)]
    smallest = next((n for n in range(1, most + 1) if fits(n)), 0)
    used = PRINTED_PROBLEMS[benchmark]
    return Recomputed(
        follows(smallest == used and all(n % used == 0 for n in sizes)),
        f"All {len(values)} printed {benchmark} accuracies ({len(set(values))} different ones) are whole counts of "
        f"{' or '.join(map(str, sizes))} problems, and of no other number from {least} to {most}; the smallest number "
        f"of all that they fit is {smallest}.",
        tuple(numbers),
        {"problems": float(smallest), "numbers_that_fit": float(len(sizes))},
    )


@cache
def _tables() -> tuple[ReductionTable, ...]:
    return tuple(reductions_from_paper(number) for number in DERIVED_TABLE.values())


def _entries(column: str, value: str) -> list[tuple[int, pd.Series]]:
    """The entries of Tables 10-13 with a value in a column, each with its table's number."""
    return [(t.number, row) for t in _tables() for _, row in t.rows[t.rows[column] == value].iterrows()]


def _entry_numbers(entries: list[tuple[int, pd.Series]]) -> tuple[PrintedNumber, ...]:
    return tuple(
        number
        for table, row in entries
        for number in printed_numbers(
            table,
            ["baseline_size_b", "size_reduction_pct"],
            benchmark=str(row["benchmark"]),
            impact_size_b=float(row["impact_size_b"]),
        )
    )


def matches_not_by_footnote_2() -> Recomputed:
    """The entries of Tables 10-13 that footnote 2 does not give on the printed numbers."""
    odd = _entries("verdict", "discrepancy")
    notes = [note for table in _tables() for note in table.notes if note.startswith("Discrepancy")]
    return Recomputed(
        follows(bool(odd)),
        f"{len(odd)} of {sum(len(table.rows) for table in _tables())} entries. {' '.join(notes)}",
        _entry_numbers(odd),
        {"entries": float(len(odd))},
    )


def matches_of_rounded_accuracies() -> Recomputed:
    """The entries of Tables 10-13 whose size follows from the rounded accuracies but not from counts of problems."""
    found, others = _entries("agrees_with", ROUNDED), _entries("agrees_with", COUNTED)
    entries = "; ".join(
        f"Table {table}, {row['benchmark']}, {row['impact_size_b']:.2f} B: printed "
        f"{row['printed_baseline_size_b']:.2f}, by rounded accuracies {row['baseline_size_b']:.3f}, by counts "
        f"{row['counted_low_b']:.3f} to {row['counted_high_b']:.3f}"
        for table, row in found
    )
    where = " and ".join(str(table) for table in sorted({table for table, _ in others}))
    return Recomputed(
        follows(bool(found)),
        f"{len(found)} entries: {entries}. {len(others)} others, in Tables {where}, follow from counts of problems "
        "and not from the rounded accuracies: the tables were not all computed in one way.",
        _entry_numbers(found),
        {"rounded_only": float(len(found)), "counts_only": float(len(others))},
    )


def what_the_headline_counts() -> Recomputed:
    """The headline reduction beside what the two models save from the dense model, which its wording suggests."""
    entry = max(printed_reductions(6, "gsm8k", BASELINES), key=lambda e: e.reduction_pct)
    own, baseline, said = printed_numbers(
        10, ["impact_size_b", "baseline_size_b", "size_reduction_pct"], benchmark="gsm8k", impact_size_b=entry.size
    )
    (dense,) = printed_numbers(6, ["model_size_b"], method=DENSE)
    mine, theirs = reduction_pct(own.value, dense.value), reduction_pct(baseline.value, dense.value)
    return Recomputed(
        follows(reduction_follows(own.value, baseline.value, said.value)),
        f"“{said.value:g}% greater size reduction” is 1 - {own.value:g}/{baseline.value:g}: IMPACT's model against the "
        f"baseline's. From the dense model the two reduce by {mine:.1f} % and {theirs:.1f} %, {mine - theirs:.1f} "
        "points apart.",
        (own, baseline, said, dense),
        {"impact_from_dense_pct": mine, "baseline_from_dense_pct": theirs},
    )


def headline_sampling_error() -> Recomputed:
    """The headline reduction when IMPACT's accuracy moves by one standard error, all else as printed."""
    entry = max(printed_reductions(6, "gsm8k", BASELINES), key=lambda e: e.reduction_pct)
    n = PRINTED_PROBLEMS["gsm8k"]
    error = 100 * standard_error(entry.accuracy / 100, n)
    points = printed_points(6, "gsm8k", BASELINES)
    matches = [matched_size(points, entry.accuracy + shift) for shift in (-error, error)]
    low, high = (np.nan if match is None else reduction_pct(entry.size, match.size) for match in matches)
    return Recomputed(
        follows(low < entry.reduction_pct < high),
        f"IMPACT's {entry.accuracy:g} % of {n} problems has a standard error of {error:.1f} points. One of them less "
        f"or more makes the reduction {low:.1f} % or {high:.1f} % instead of {entry.reduction_pct:.1f} %.",
        printed_numbers(6, ["model_size_b", "gsm8k_acc"], method=METHOD, row=entry.row),
        {"low_pct": low, "high_pct": high, "standard_error_points": error},
    )
