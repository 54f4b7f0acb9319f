"""Quantized models that statements are judged on, of one form, printed or measured, and comparisons between them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from results.measured.cells import DENSE, BenchmarkResult
from results.measured.quantized_cells import QLORA, QUANTIZED, QuantizedCell, grouped_by_model
from results.numbers.paper import METHOD
from results.numbers.printed import BENCHMARKS, MODELS, PRINTED_PROBLEMS, PrintedNumber, printed_numbers, printed_table
from results.numbers.shown import shown_size
from results.statements.criteria import Comparison
from results.statements.evidence import Evidence, Point, accuracies_of, name_points

# the models of Table 3, which prints no rows
FOUR_BIT: tuple[Point, ...] = ((QUANTIZED, 1), (QLORA, 1))
# bytes of an unquantized parameter: the paper does not say which
WIDTHS = (2, 4)


@dataclass(frozen=True)
class QuantizedEvidence:
    """One model's points, ``after`` and ``before`` quantization, with paired resamples if it is measured.

    Sizes are nominal GB after it and billions of parameters before it; ``problems`` counts those of each benchmark.
    """

    model: str
    after: Evidence
    before: Evidence
    problems: Mapping[str, int]

    @classmethod
    def measured(cls, cells: Sequence[QuantizedCell], model: str, *, resamples: int, seed: int) -> "QuantizedEvidence":
        """The cells of one model, of all tables; with several seeds a problem's score is its mean over seeds.

        Raises:
            ValueError: they do not belong together (`results.measured.quantized_cells.grouped_by_model`).
        """
        groups = {point[1:]: group for point, group in grouped_by_model(c for c in cells if c.model == model).items()}

        def evidence(
            results: Callable[[QuantizedCell], Mapping[str, BenchmarkResult]], size: Callable[[QuantizedCell], float]
        ) -> Evidence:
            return Evidence(
                sizes={point: float(np.mean([size(cell) for cell in group])) for point, group in groups.items()},
                values=accuracies_of({p: [results(cell) for cell in g] for p, g in groups.items()}, resamples, seed),
            )

        return cls(
            model=model,
            after=evidence(lambda cell: cell.benchmarks, lambda cell: cell.nominal_bytes / 1e9),
            before=evidence(lambda cell: cell.unquantized, lambda cell: cell.parameters / 1e9),
            problems={name: r.n for group in groups.values() for cell in group for name, r in cell.benchmarks.items()},
        )

    @classmethod
    def printed(cls, model: str) -> "QuantizedEvidence":
        """What Tables 1 to 3 print of a model, and Table 6 or 7 of it before quantization, without resamples.

        A point before quantization has the row of Table 1 or 2, in which the largest models are left out: they are
        rows 0 here.
        """
        eight, full, name = MODELS[model]
        four, before = printed_table(3), printed_table(full)
        before["row"] -= before["method"] != DENSE
        four_bit_before = before[before["method"] == DENSE].assign(method=QUANTIZED, row=1)
        after = pd.concat([printed_table(eight), four[four["model"] == name].assign(row=1)])
        return cls(
            model=model,
            after=Evidence.of_lines(after, "model_size_gb", BENCHMARKS),
            before=Evidence.of_lines(pd.concat([before, four_bit_before]), "model_size_b", BENCHMARKS),
            problems=PRINTED_PROBLEMS,
        )

    def lacking(self, after: Sequence[Point], before: Sequence[Point], benchmarks: Sequence[str]) -> str:
        """Which of the points after and before quantization it does not have, in words; empty if it has all."""
        if not self.after.sizes:
            return f"every quantized model of {self.model}"
        texts = []
        for benchmark in benchmarks:
            gone = [point for point in after if point not in self.after.values.get(benchmark, {})]
            earlier = self.before.values.get(benchmark, {})
            gone_before = [point for point in before if point not in earlier and point not in gone]
            for points, when in ((gone, ""), (gone_before, " before quantization")):
                if points:
                    texts.append(f"{name_points(points)} of {self.model} on {benchmark}{when}")
        return "; ".join(texts)


def points_in_print(model: str, *methods: str) -> list[Point]:
    """The points of some methods in Tables 1 to 3."""
    return [point for point in QuantizedEvidence.printed(model).after.sizes if point[0] in methods]


def cited(model: str, point: Point, columns: Sequence[str], *, before: bool = False) -> tuple[PrintedNumber, ...]:
    """The numbers behind a point of `QuantizedEvidence.printed`, after quantization or before it."""
    (method, row), (eight, full, name) = point, MODELS[model]
    if before:
        return printed_numbers(full, columns, method=method, row=row + (method != DENSE))
    if method in set(printed_table(3)["method"]):
        return printed_numbers(3, columns, method=method, model=name)
    return printed_numbers(eight, columns, method=method, row=row)


Models = Sequence[QuantizedEvidence]


@dataclass(frozen=True)
class AtSize(Comparison):
    """8-bit IMPACT against another model at the nominal size of the one at ``point``."""

    evidence: QuantizedEvidence
    benchmark: str
    point: Point

    @property
    def size(self) -> float:
        """In GB."""
        return self.evidence.after.sizes[self.point]

    def __str__(self) -> str:
        method, row = self.point
        if method == METHOD:
            return f"unquantized IMPACT at the size of row {row}, {shown_size(self.size)} GB, on {self.benchmark}"
        which = method if self.point in FOUR_BIT else f"{method} row {row}"
        return f"{which} at {shown_size(self.size)} GB on {self.benchmark}"


def at_sizes_of(rivals: Collection[str], evidence: Models, benchmarks: Sequence[str]) -> list[AtSize]:
    """8-bit IMPACT, interpolated at the sizes of the rivals' models, against each of them.

    Beyond IMPACT's models the nearest stands in: a smaller one may only support that it is ahead, a larger one refute.
    """
    return [
        AtSize(own.at(size) - accuracy, own.sizes.min() <= size, size <= own.sizes.max(), one, benchmark, point)
        for one in evidence
        for benchmark in benchmarks
        for own in [one.after.curve(METHOD, benchmark, with_dense=False)]
        for point, accuracy in one.after.values[benchmark].items()
        for size in [one.after.sizes[point]]
        if point[0] in rivals
    ]


def at_same_bytes(evidence: Models, benchmarks: Sequence[str]) -> dict[int, list[AtSize]]:
    """By width: 8-bit IMPACT's models against unquantized ones, interpolated at as many bytes, where they have such."""
    return {
        width: [
            AtSize(accuracy - alone.at(size / width), True, True, one, benchmark, point)
            for one in evidence
            for benchmark in benchmarks
            for alone in [one.before.curve(METHOD, benchmark)]
            for point, accuracy in one.after.values[benchmark].items()
            for size in [one.after.sizes[point]]
            if point[0] == METHOD and alone.reaches(size / width)
        ]
        for width in WIDTHS
    }
