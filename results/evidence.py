"""Accuracy-size points that statements are judged on: the cells of a run, or a printed table."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.cells import DENSE, Cell, grouped_by_point
from results.matching import size_bounds_at_accuracy
from results.printed import printed_benchmarks, printed_table
from results.statistics import FloatArray, resample_counts, resampled_accuracies

METHOD = "impact"
# the methods among which footnote 2 looks for the best baseline
BASELINES = ("svd", "fwsvd", "asvd", "afm")


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
    """Points by (method, row): sizes, what the rank rule was given, and by benchmark what a `Curve` holds of one."""

    sizes: Mapping[tuple[str, int], float]
    settings: Mapping[tuple[str, int], tuple[str, float]]
    accuracies: Mapping[str, Mapping[tuple[str, int], FloatArray]]

    @classmethod
    def measured(cls, cells: Sequence[Cell], *, resamples: int = 2000, seed: int = 0) -> "Evidence":
        """Points of a run. One set of resampled problems a benchmark serves all models: comparisons are paired.

        With several seeds a problem's score is its mean over seeds: the resamples show the sampling of problems only.
        Sizes are in parameters.
        """
        groups = grouped_by_point(cells)
        accuracies: dict[str, dict[tuple[str, int], FloatArray]] = {}
        for benchmark in sorted({name for cell in cells for name in cell.benchmarks}):
            scores = {
                p: np.mean([cell.benchmarks[benchmark].correct for cell in g], axis=0)
                for p, g in groups.items()
                if benchmark in g[0].benchmarks
            }
            accuracies[benchmark] = resampled(scores, resamples, seed)
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

    def best_match(
        self, methods: Sequence[str], benchmark: str, accuracy: FloatArray
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
        """Footnote 2 among ``methods`` for an accuracy of shape (1 + resamples,), and what is known where it is silent.

        A method whose smallest model is more accurate already has no match of its own: that model is the best one
        where no match is smaller, and then only an upper bound of the size is known. Where no method reaches the
        accuracy only a lower bound is.

        Returns:
            Least and greatest size, equal where there is a match, else (0, size) or (size, inf), and which method is
            best; each (1 + resamples,).
        """
        curves = [self.curve(method, benchmark) for method in methods]
        bounds = [size_bounds_at_accuracy(curve.sizes, curve.accuracies, accuracy) for curve in curves]
        lows, highs = np.array([low for low, _ in bounds]), np.array([high for _, high in bounds])
        best = np.argmin(highs, axis=0)
        high: FloatArray = np.take_along_axis(highs, best[None], axis=0)[0]
        low = np.take_along_axis(lows, best[None], axis=0)[0]
        return np.where(np.isinf(high), lows.min(axis=0), low), high, best


def resampled(
    scores: Mapping[tuple[str, int], FloatArray], resamples: int, seed: int
) -> dict[tuple[str, int], FloatArray]:
    """What a `Curve` holds of each model: its accuracy, then those of the resamples, (1 + resamples,) in percent.

    scores: of each model, (problems,), between 0 and 1; all models get the same resamples of the problems.
    """
    table = np.array(list(scores.values()))
    draws = resampled_accuracies(table, resample_counts(table.shape[1], resamples, seed))
    return dict(zip(scores, 100 * np.column_stack([table.mean(axis=1), draws]), strict=True))


def _points(printed: pd.DataFrame) -> list[tuple[str, int]]:
    return [(str(method), int(row)) for method, row in zip(printed["method"], printed["row"], strict=True)]


def name_missing(number: int, measured: Container[tuple[str, int]], methods: Container[str] | None = None) -> str:
    """The printed points (of some methods) that are not measured, as ``svd rows 1, 2; dense``; may be empty."""
    return name_points(
        point
        for point in _points(printed_table(number))
        if point not in measured and (methods is None or point[0] in methods)
    )


def name_points(points: Iterable[tuple[str, int]]) -> str:
    """Points as ``svd rows 1, 2; dense``; empty without any."""
    rows: dict[str, list[int]] = {}
    for method, row in points:
        rows.setdefault(method, []).append(row)
    return "; ".join(
        method if found == [0] else f"{method} row{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
        for method, found in rows.items()
    )
