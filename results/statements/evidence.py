"""Points that statements are judged on, of one form: the cells of a run, or a printed table."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from results.measured.cells import DENSE, BenchmarkResult, Cell, grouped_by_point
from results.numbers.matching import size_bounds_at_accuracy, values_at_size
from results.numbers.printed import printed_benchmarks, printed_table
from results.numbers.statistics import RESAMPLES, FloatArray, resample_counts, resampled_accuracies

# a method and its row
Point = tuple[str, int]


@dataclass(frozen=True)
class Curve:
    """Models: sizes (points,) in any one unit, values (points, 1 + draws).

    Column 0 holds the values themselves. Of accuracies in percent the others hold those of the bootstrap resamples of
    the problems, of costs the ends of the repetitions' range; of a printed accuracy there are none.
    """

    points: list[Point]
    sizes: FloatArray
    values: FloatArray

    def reaches(self, size: float) -> bool:
        """Whether a size lies between its smallest and its largest."""
        return bool(self.sizes.min() <= size <= self.sizes.max())

    def at(self, sizes: FloatArray | float) -> FloatArray:
        """Values (..., 1 + draws) at sizes (...), by `values_at_size`; beyond the ends those of the end."""
        return values_at_size(self.sizes, self.values, np.clip(sizes, self.sizes.min(), self.sizes.max()))


@dataclass(frozen=True)
class Evidence:
    """Points: sizes, by benchmark or column what a `Curve` holds of one, and what the rank rule was given."""

    sizes: Mapping[Point, float]
    values: Mapping[str, Mapping[Point, FloatArray]]
    settings: Mapping[Point, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def measured(cls, cells: Sequence[Cell], *, resamples: int = RESAMPLES, seed: int = 0) -> "Evidence":
        """Points of a run. One set of resampled problems a benchmark serves all models: comparisons are paired.

        With several seeds a problem's score is its mean over seeds: the resamples show the sampling of problems only.
        Sizes are in parameters.
        """
        groups = grouped_by_point(cells)
        return cls(
            sizes={p: float(np.mean([cell.parameters for cell in g])) for p, g in groups.items()},
            values=accuracies_of({p: [cell.benchmarks for cell in g] for p, g in groups.items()}, resamples, seed),
            settings={p: (g[0].rank_rule, g[0].keep_pct) for p, g in groups.items()},
        )

    @classmethod
    def printed(cls, number: int) -> "Evidence":
        """The points of a printed table, sizes in billions of parameters, without resamples.

        The paper ties a row to one k for IMPACT and AFM (row r of Table 6 is k = 80 - 10 r, by its Table 4).
        """
        return cls.of_lines(printed_table(number), "model_size_b", printed_benchmarks(number))

    @classmethod
    def of_lines(cls, lines: pd.DataFrame, size: str, benchmarks: Sequence[str]) -> "Evidence":
        """Printed lines with a ``method``, a ``row``, a column for the size and one for each benchmark's accuracy."""
        points = _points(lines)
        return cls(
            sizes=dict(zip(points, lines[size].astype(float), strict=True)),
            values={
                name: dict(zip(points, lines[f"{name}_acc"].to_numpy(dtype=np.float64)[:, None], strict=True))
                for name in benchmarks
            },
            settings={(method, row): ("row", float(row)) for method, row in points},
        )

    def curve(self, method: str, name: str, *, with_dense: bool = True) -> Curve:
        """The method's points that have the benchmark or column, from the largest down, the dense model among them."""
        found = self.values.get(name, {})
        points = [p for p in found if p[0] == method or (with_dense and p[0] == DENSE)]
        points.sort(key=lambda point: -self.sizes[point])
        return Curve(points, np.array([self.sizes[p] for p in points]), np.array([found[p] for p in points]))

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
        bounds = [size_bounds_at_accuracy(curve.sizes, curve.values, accuracy) for curve in curves]
        lows, highs = np.array([low for low, _ in bounds]), np.array([high for _, high in bounds])
        best = np.argmin(highs, axis=0)
        high: FloatArray = np.take_along_axis(highs, best[None], axis=0)[0]
        low = np.take_along_axis(lows, best[None], axis=0)[0]
        return np.where(np.isinf(high), lows.min(axis=0), low), high, best


def accuracies_of(
    found: Mapping[Point, Sequence[Mapping[str, BenchmarkResult]]], resamples: int, seed: int
) -> dict[str, dict[Point, FloatArray]]:
    """By benchmark what a `Curve` holds of each model that has it at every seed, from its results, one a seed.

    All models get the same resamples of the problems.
    """
    accuracies: dict[str, dict[Point, FloatArray]] = {}
    for benchmark in sorted({name for seeds in found.values() for results in seeds for name in results}):
        scores = {
            point: np.mean([results[benchmark].correct for results in seeds], axis=0)
            for point, seeds in found.items()
            if all(benchmark in results for results in seeds)
        }
        if not scores:
            continue
        table = np.array(list(scores.values()))
        draws = resampled_accuracies(table, resample_counts(table.shape[1], resamples, seed))
        accuracies[benchmark] = dict(zip(scores, 100 * np.column_stack([table.mean(axis=1), draws]), strict=True))
    return accuracies


def _points(printed: pd.DataFrame) -> list[Point]:
    return [(str(method), int(row)) for method, row in zip(printed["method"], printed["row"], strict=True)]


def name_missing(number: int, measured: Container[Point], methods: Container[str] | None = None) -> str:
    """The printed points (of some methods) that are not measured, as ``svd rows 1, 2; dense``; may be empty."""
    return name_points(
        point
        for point in _points(printed_table(number))
        if point not in measured and (methods is None or point[0] in methods)
    )


def name_points(points: Iterable[Point]) -> str:
    """Points as ``svd rows 1, 2; dense``; empty without any."""
    rows: dict[str, list[int]] = {}
    for method, row in points:
        rows.setdefault(method, []).append(row)
    return "; ".join(
        method if found == [0] else f"{method} {'row' if len(found) == 1 else 'rows'} {', '.join(map(str, found))}"
        for method, found in rows.items()
    )
