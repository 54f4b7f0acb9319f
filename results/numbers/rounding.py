"""What rounded numbers can stand for: whole counts of problems, and the sizes footnote 2 can give on printed tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.measured.cells import DENSE
from results.numbers.matching import Match, matched_size, sizes_at_accuracy
from results.numbers.paper import METHOD
from results.numbers.printed import PRINTED_PROBLEMS, printed_table
from results.numbers.statistics import FloatArray, Interval

# Sizes are printed to 0.01 billion, accuracies and reductions to 0.1 %: half a last digit either way.
SIZE_HALF_CELL = 0.005
PERCENT_HALF_CELL = 0.05


@dataclass(frozen=True)
class PrintedReduction:
    """Footnote 2 on one printed IMPACT model: the match, and what rounding leaves open of its size and the reduction.

    Sizes in billions of parameters, reductions in percent; ``match`` is None and ``reduction_pct`` nan where no curve
    reaches the accuracy.
    """

    row: int
    size: float
    accuracy: float
    match: Match | None
    sizes: Interval
    reduction_pct: float
    reductions: Interval


def counts_printed_so(accuracies: npt.ArrayLike, n: int) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest number of ``n`` problems that prints as each accuracy in percent.

    Where no whole number does, the least is above the greatest.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    # a value exactly between two cells may have been rounded either way
    slack = 1e-6
    least = np.ceil((values - PERCENT_HALF_CELL) * n / 100 - slack)
    return least, np.floor((values + PERCENT_HALF_CELL) * n / 100 + slack)


def accuracy_cells(number: int, benchmark: str, *, counted: bool = False) -> pd.DataFrame:
    """One benchmark of a printed accuracy table with what each accuracy may stand for.

    Args:
        counted: only whole counts of the benchmark's problems may stand behind an accuracy, not its whole cell.

    Returns:
        Columns ``method``, ``row``, ``size`` in billions, ``accuracy``, ``least``, ``greatest`` in percent, and
        ``count``, the number of problems solved where only one prints so, else missing.
    """
    table = printed_table(number)
    accuracies, n = table[f"{benchmark}_acc"].to_numpy(dtype=np.float64), PRINTED_PROBLEMS[benchmark]
    few, many = counts_printed_so(accuracies, n)
    reach = (
        (100 * few / n, 100 * many / n) if counted else (accuracies - PERCENT_HALF_CELL, accuracies + PERCENT_HALF_CELL)
    )
    return pd.DataFrame(
        {
            "method": table["method"],
            "row": table["row"],
            "size": table["model_size_b"].astype(float),
            "accuracy": accuracies,
            "least": reach[0],
            "greatest": reach[1],
            "count": np.where(few == many, few, np.nan),
        }
    )


def reachable_sizes(cells: pd.DataFrame, row: int, methods: Sequence[str]) -> Interval:
    """The sizes that footnote 2 can give for IMPACT's model ``row`` when every printed number moves within its cell.

    Two curves bound each method: every model as accurate as its cell allows against the least accuracy to match, and
    the reverse. The low end is the least size that any admissible numbers give. The high end is, for the method where
    it is least, the greatest size that admissible numbers give: no admissible numbers exceed it, and where accuracy
    rises with size some reach it. Every size moves by its own cell besides. Models whose counts of solved problems
    are known and equal to that of IMPACT's model are tied with it exactly, whatever the cells: that tie never moves.

    Args:
        cells: of `accuracy_cells`.

    Returns:
        In billions; the high end is infinite where some admissible numbers leave the accuracy unreached by all methods,
        both ends where all do.
    """
    own = cells[(cells["method"] == METHOD) & (cells["row"] == row)].iloc[0]
    ends = [
        _reachable_on_one_curve(cells[cells["method"].isin([method, DENSE])].sort_values("size"), own)
        for method in methods
    ]
    return Interval(
        min(interval.low for interval in ends) - SIZE_HALF_CELL,
        min(interval.high for interval in ends) + SIZE_HALF_CELL,
    )


def _reachable_on_one_curve(curve: pd.DataFrame, own: pd.Series) -> Interval:
    sizes, least, greatest = (curve[name].to_numpy(dtype=np.float64) for name in ("size", "least", "greatest"))
    targets = np.array([own["least"], own["greatest"]], dtype=np.float64)
    accuracies = np.column_stack([greatest, least])
    accuracies[curve["count"].to_numpy() == own["count"]] = targets
    crossings = sizes_at_accuracy(sizes, accuracies, targets)
    may_tie = sizes[(accuracies[:, 1] <= targets[1]) & (accuracies[:, 0] >= targets[0])]
    found = [float(size) for size in (*crossings, *may_tie) if not np.isnan(size)]
    # a curve may begin above the accuracy, and then falls to it, or below, and then rises to it
    begins = (accuracies[0, 0] > targets[0], accuracies[0, 1] < targets[1])
    last = [np.inf if np.isnan(size) else float(size) for size, may in zip(crossings, begins, strict=True) if may]
    return Interval(min(found, default=np.inf), max(last, default=float(sizes[0])))


def printed_points(number: int, benchmark: str, methods: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """For each method the printed (size, accuracy) of its models and the dense one, in billions and percent."""
    table = printed_table(number)
    columns = ["model_size_b", f"{benchmark}_acc"]
    return {
        method: list(table.loc[table["method"].isin([method, DENSE]), columns].itertuples(index=False, name=None))
        for method in methods
    }


def printed_reductions(number: int, benchmark: str, methods: Sequence[str]) -> list[PrintedReduction]:
    """Footnote 2 on every IMPACT model of one of Tables 6-9, against the best of ``methods``, in the printed order."""
    cells = accuracy_cells(number, benchmark)
    points = printed_points(number, benchmark, methods)
    own = cells[cells["method"] == METHOD]
    found = []
    for row, size, accuracy in zip(own["row"].astype(int), own["size"], own["accuracy"], strict=True):
        match, sizes = matched_size(points, accuracy), reachable_sizes(cells, row, methods)
        found.append(
            PrintedReduction(
                row=row,
                size=size,
                accuracy=accuracy,
                match=match,
                sizes=sizes,
                reduction_pct=np.nan if match is None else reduction_pct(size, match.size),
                reductions=Interval(
                    reduction_pct(size + SIZE_HALF_CELL, sizes.low), reduction_pct(size - SIZE_HALF_CELL, sizes.high)
                ),
            )
        )
    return found


def reduction_pct(size: float, baseline: float) -> float:
    """By how many percent ``size`` is smaller than ``baseline``, in one unit; 100 for an infinite baseline."""
    return 100 * (1 - size / baseline)


def reduction_follows(size: float, baseline: float, reduction: float) -> bool:
    """Whether some sizes that print so give a reduction in percent that prints so."""
    least = reduction_pct(size + SIZE_HALF_CELL, baseline - SIZE_HALF_CELL)
    most = reduction_pct(size - SIZE_HALF_CELL, baseline + SIZE_HALF_CELL)
    return least - PERCENT_HALF_CELL <= reduction <= most + PERCENT_HALF_CELL
