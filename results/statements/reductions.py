"""Tables 10 to 13: how much smaller IMPACT is than the best baseline of the same accuracy, by the paper's footnote 2.

They follow from Tables 6 to 9, printed or measured. The printed tables' first row, the dense model against itself, is
left out: every row here is one of IMPACT's models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from results.measured.cells import Cell
from results.numbers.paper import BASELINES, METHOD
from results.numbers.printed import DERIVED_TABLE, PRINTED_PROBLEMS, printed_benchmarks, printed_table
from results.numbers.rounding import (
    SIZE_HALF_CELL,
    PrintedReduction,
    accuracy_cells,
    printed_reductions,
    reachable_sizes,
    reduction_follows,
    reduction_pct,
)
from results.numbers.shown import shown_size
from results.numbers.statistics import Interval, percentile_interval
from results.statements.evidence import Evidence, name_missing

# the accuracy table behind each table of size reductions
SOURCE_TABLE = {derived: number for number, derived in DERIVED_TABLE.items()}

COLUMNS = (
    "benchmark",
    "impact_size_b",
    "baseline",
    "baseline_size_b",
    "baseline_low_b",
    "baseline_high_b",
    "size_reduction_pct",
)
Source = Literal["paper", "measured"]

# which reading of the printed accuracies gives the printed size of a match: as they stand, or as counts of problems
ROUNDED, COUNTED = "rounded accuracies", "counts of problems"
_AGREES_WITH = {(True, True): "both", (True, False): ROUNDED, (False, True): COUNTED, (False, False): "neither"}


@dataclass(frozen=True)
class ReductionTable:
    """One of Tables 10-13: its number, whether from printed or measured accuracies, its rows, and notes on them.

    ``rows`` begins with the `COLUMNS`; sizes are in billions of parameters, accuracies and reductions in percent. With
    the paper's numbers follow what it prints for the same model, a ``verdict`` ("equal" to 0.01, "within rounding",
    "discrepancy") and in ``agrees_with`` which accuracies give the printed size; with measured ones the interval of the
    reduction and, for its own model, what the paper prints for the same row.
    """

    number: int
    source: Source
    rows: pd.DataFrame
    notes: list[str]


def reductions_from_paper(number: int) -> ReductionTable:
    """Table ``number``, 10 to 13, recomputed from the printed Table ``number`` - 4.

    ``baseline_low_b`` to ``baseline_high_b`` is the interval that rounding leaves open: sizes are printed to 0.01 B
    and accuracies to 0.1 %, and every printed number may lie anywhere in its cell (`reachable_sizes`).
    One thing does not move: where the problems' number is so small that a printed accuracy is one count of solved
    problems only, models of equal counts are tied exactly.

    Raises:
        ValueError: the table is not one of Tables 10-13.
    """
    accuracies = _source(number)
    rows = pd.DataFrame(
        [
            _paper_row(number, benchmark, entry, reachable_sizes(counted, entry.row, BASELINES))
            for benchmark in printed_benchmarks(accuracies)
            for counted in [accuracy_cells(accuracies, benchmark, counted=True)]
            for entry in printed_reductions(accuracies, benchmark, BASELINES)
        ]
    )
    return ReductionTable(number, "paper", rows, _paper_notes(number, rows))


def _source(number: int) -> int:
    if number not in SOURCE_TABLE:
        raise ValueError(f"Table {number} is not one of size reductions: Tables 10 to 13 are")
    return SOURCE_TABLE[number]


def _paper_row(number: int, benchmark: str, entry: PrintedReduction, counted: Interval) -> dict[str, object]:
    assert entry.match is not None, "the dense model is on every printed curve"
    printed = _printed_entry(number, benchmark, entry.row)
    size, said = entry.match.size, float(printed["baseline_size_b"])
    agrees_rounded = _cells_meet(said, size - SIZE_HALF_CELL, size + SIZE_HALF_CELL)
    agrees_counted = _cells_meet(said, counted.low, counted.high)
    verdict = "within rounding" if _cells_meet(said, entry.sizes.low, entry.sizes.high) else "discrepancy"
    if abs(size - said) <= SIZE_HALF_CELL:
        verdict = "equal"
    return {
        "benchmark": benchmark,
        "impact_size_b": entry.size,
        "baseline": entry.match.method,
        "baseline_size_b": size,
        "baseline_low_b": entry.sizes.low,
        "baseline_high_b": entry.sizes.high,
        "size_reduction_pct": entry.reduction_pct,
        "printed_baseline_size_b": said,
        "printed_size_reduction_pct": float(printed["size_reduction_pct"]),
        "verdict": verdict,
        "agrees_with": _AGREES_WITH[agrees_rounded, agrees_counted],
        "counted_low_b": counted.low,
        "counted_high_b": counted.high,
        "row": entry.row,
        "accuracy_pct": entry.accuracy,
    }


def _printed_entry(number: int, benchmark: str, row: int) -> pd.Series:
    printed = printed_table(number)
    # the benchmark's first line is the dense model, row 0
    return printed[printed["benchmark"] == benchmark].iloc[row]


def _cells_meet(printed: float, low: float, high: float) -> bool:
    """Whether a size that prints so lies between the two; a touch that only the last binary digit decides counts."""
    slack = 1e-9
    return low - SIZE_HALF_CELL - slack <= printed <= high + SIZE_HALF_CELL + slack


def _paper_notes(number: int, rows: pd.DataFrame) -> list[str]:
    counts = rows["verdict"].value_counts()
    equal, within = int(counts.get("equal", 0)), int(counts.get("within rounding", 0))
    notes = [
        f"Of {len(rows)} printed baseline sizes {equal} equal footnote 2's on the printed accuracies to 0.01 B and "
        f"{within} more lie within what rounding leaves open.",
        "Interval: the sizes that footnote 2 can give when every printed size lies anywhere within 0.005 B and every "
        "accuracy within 0.05 points of what is printed; models that solved equally many problems stay tied.",
    ]
    notes += [_discrepancy_note(number, row) for _, row in rows[rows["verdict"] == "discrepancy"].iterrows()]
    for benchmark, group in rows.groupby("benchmark", sort=False):
        settled = group[group["verdict"] != "discrepancy"]
        for only in (ROUNDED, COUNTED):
            found = settled[settled["agrees_with"] == only]
            if len(found):
                notes.append(_one_kind_note(str(benchmark), only, found))
    printed = list(
        zip(rows["impact_size_b"], rows["printed_baseline_size_b"], rows["printed_size_reduction_pct"], strict=True)
    )
    follow = sum(reduction_follows(*entry) for entry in printed)
    distance = max(abs(reduction_pct(own, baseline) - said) for own, baseline, said in printed)
    notes.append(
        f"{follow} of {len(rows)} printed reductions follow from the table's own printed sizes within rounding; they "
        f"differ from the quotient of the two printed sizes by up to {distance:.2f} points."
    )
    return notes


def _discrepancy_note(number: int, row: pd.Series) -> str:
    cells = accuracy_cells(_source(number), row["benchmark"])
    own = cells[(cells["method"] == METHOD) & (cells["row"] == row["row"])].iloc[0]
    tied = cells[(cells["count"] == own["count"]) & cells["method"].isin(BASELINES)]
    sizes = " and ".join(f"{method}'s {size:.2f} B" for method, size in zip(tied["method"], tied["size"], strict=True))
    note = (
        f"Discrepancy of the paper: Table {number}, {row['benchmark']}, IMPACT {row['impact_size_b']:.2f} B: printed "
        f"{row['printed_baseline_size_b']:.2f} B, {row['printed_size_reduction_pct']:.1f} %. By footnote 2 the best "
        f"baseline is {row['baseline']} at {row['baseline_size_b']:.2f} B, {row['size_reduction_pct']:.1f} %."
    )
    if len(tied):
        problems = PRINTED_PROBLEMS[row["benchmark"]]
        note += (
            f" IMPACT's {row['accuracy_pct']:.1f} % and that of {sizes} are {own['count']:.0f} of {problems} problems "
            "each: an exact tie, no matter of rounding."
        )
    alone = [
        f"{method} ({entry.match.size:.3f} B)"
        for method in BASELINES
        for entry in printed_reductions(_source(number), row["benchmark"], [method])
        if entry.row == row["row"]
        and entry.match
        and abs(entry.match.size - row["printed_baseline_size_b"]) <= SIZE_HALF_CELL
    ]
    return note + (f" The printed size is what interpolating {', '.join(alone)} alone gives." if alone else "")


def _one_kind_note(benchmark: str, only: str, found: pd.DataFrame) -> str:
    """One line about the entries whose printed size only one reading of the accuracies gives."""
    other = "the counts give {counted_low_b:.3f} to {counted_high_b:.3f}"
    if only == COUNTED:
        other = "the rounded accuracies give {baseline_size_b:.3f}"
    entries = ", ".join(
        f"{row['printed_baseline_size_b']:.2f} B ({other.format_map(row)})" for row in found.to_dict("records")
    )
    return (
        f"{benchmark}: {len(found)} printed baseline size{'s' * (len(found) > 1)} agree{'s' * (len(found) == 1)} with "
        f"the {only} only: {entries}."
    )


def reductions_from_cells(number: int, cells: Sequence[Cell]) -> ReductionTable:
    """Table ``number``, 10 to 13, from the measured cells of Table ``number`` - 4.

    Intervals are 95 % percentiles of the paired bootstrap over problems. A size or an end of an interval is missing
    where footnote 2 gives none: no baseline model is as accurate, or every model of the baseline is more accurate;
    ``notes`` then say which bound is known. Baselines are those of the paper that have cells.

    Raises:
        ValueError: the table is not one of Tables 10-13, or there is nothing to compare.
    """
    accuracies = _source(number)
    evidence = Evidence.measured(cells)
    records = []
    notes = [
        "Interval: 95 % percentiles of the paired bootstrap over problems; it covers the choice of problems, not that "
        "of training and calibration seeds."
    ]
    for benchmark in printed_benchmarks(accuracies):
        found = evidence.values.get(benchmark, {})
        methods = [method for method in BASELINES if any(point[0] == method for point in found)]
        own = sorted(point for point in found if point[0] == METHOD)
        if not methods or not own:
            notes.append(f"{benchmark}: not measured for IMPACT and a baseline.")
            continue
        if missing := name_missing(accuracies, found):
            notes.append(f"Not measured on {benchmark}, so not considered: {missing}.")
        for _, row in own:
            record, remark = _measured_row(number, evidence, benchmark, row, methods)
            records.append(record)
            notes += remark
    if not records:
        raise ValueError(
            f"Table {number} compares IMPACT with a baseline: no cells of Table {accuracies} have {METHOD} and one of "
            f"{', '.join(BASELINES)} on one benchmark"
        )
    return ReductionTable(number, "measured", pd.DataFrame(records), notes)


def _measured_row(
    number: int, evidence: Evidence, benchmark: str, row: int, methods: Sequence[str]
) -> tuple[dict[str, object], list[str]]:
    size, accuracy = evidence.sizes[METHOD, row], evidence.values[benchmark][METHOD, row]
    low, high, best = evidence.best_match(methods, benchmark, accuracy)
    baseline = methods[int(best[0])]
    interval = (percentile_interval(low[1:]).low, percentile_interval(high[1:]).high)
    # an end without a match is not known
    least, most = (end if 0 < end < np.inf else np.nan for end in interval)
    matched = low[0] == high[0]
    printed = _printed_entry(number, benchmark, row)
    record = {
        "benchmark": benchmark,
        "impact_size_b": size / 1e9,
        "baseline": baseline if matched else None,
        "baseline_size_b": low[0] / 1e9 if matched else np.nan,
        "baseline_low_b": least / 1e9,
        "baseline_high_b": most / 1e9,
        "size_reduction_pct": reduction_pct(size, low[0]) if matched else np.nan,
        "size_reduction_low_pct": reduction_pct(size, least),
        "size_reduction_high_pct": reduction_pct(size, most),
        "printed_impact_size_b": float(printed["impact_size_b"]),
        "printed_baseline_size_b": float(printed["baseline_size_b"]),
        "printed_size_reduction_pct": float(printed["size_reduction_pct"]),
        "row": row,
        "accuracy_pct": float(accuracy[0]),
    }
    remarks = []
    where = f"{benchmark}, IMPACT row {row} ({shown_size(size / 1e9)} B, {accuracy[0]:.1f} %)"
    if not matched:
        remarks.append(f"{where}: {_bound(size, low[0], high[0], baseline)}")
    elif ends := [name for name, end in (("below", least), ("above", most)) if np.isnan(end)]:
        remarks.append(f"{where}: the interval is open {' and '.join(ends)}: too many resamples have no match there.")
    return record, remarks


def _bound(size: float, low: float, high: float, smallest: str) -> str:
    """Which bound of the missing match is known; sizes in parameters."""
    if not np.isfinite(high):
        return (
            f"no baseline model, dense included, is as accurate; a match would be larger than {shown_size(low / 1e9)} "
            f"B, a reduction above {reduction_pct(size, low):.1f} %."
        )
    return (
        f"{smallest}'s smallest model, {shown_size(high / 1e9)} B, is more accurate already; a match would be smaller, "
        f"a reduction below {reduction_pct(size, high):.1f} %."
    )
