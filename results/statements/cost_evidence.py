"""Costs that statements are judged on, of one form: those of a run, or those printed in Table 14."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from results.measured.cells import DENSE
from results.numbers.paper import METHOD
from results.numbers.printed import printed_table
from results.numbers.statistics import FloatArray
from results.statements.evidence import Evidence, Point

RIVAL = "afm"
COSTS = ("throughput_tok_s", "memory_gb")
# the value, and the ends over repetitions; those of a change are of the one cost over the opposite ones of the other
LOW, HIGH = 1, 2
OPPOSITE = [0, HIGH, LOW]

Number = TypeVar("Number", float, FloatArray)


def change_pct(own: Number, other: Number) -> Number:
    """From another cost to one's own, in percent."""
    return 100 * (own / other - 1)


class Costs(Evidence):
    """Points with their costs.

    A cost is held as (3,): the value, the lowest and the highest over repetitions. Of memory, which is read once, and
    of printed numbers all three are the number.
    """

    @classmethod
    def of(cls, points: Iterable[tuple[Point, float, Sequence[float], float]]) -> "Costs":
        """Those of points: method and row, size, throughput with its ends, memory."""
        sizes: dict[Point, float] = {}
        costs: dict[str, dict[Point, FloatArray]] = {column: {} for column in COSTS}
        for point, sizes[point], throughput, memory in points:
            for column, cost in zip(COSTS, (throughput, (memory,) * 3), strict=True):
                costs[column][point] = np.array(cost)
        return cls(sizes, costs)

    @classmethod
    def in_print(cls) -> "Costs":
        """Table 14, sizes in billions of parameters."""
        return cls.of(
            ((method, row), size, (throughput,) * 3, memory)
            for row, method, size, throughput, memory in printed_table(14).itertuples(index=False)
        )

    def steps_up(self) -> Iterator[tuple[Point, tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]]:
        """Every model that its method has a larger one of: throughput and memory of the next larger one and of it."""
        for method in dict.fromkeys(method for method, _ in self.sizes):
            speed, memory = (self.curve(method, column) for column in COSTS)
            yield from zip(speed.points[1:], pairwise(speed.values), pairwise(memory.values), strict=True)

    def changes(self, column: str) -> Iterator[tuple[FloatArray, str, float]]:
        """For each other method and IMPACT's sizes within its curve: the change in percent (3,), method and size."""
        own = self.curve(METHOD, column, with_dense=False)
        for method in dict.fromkeys(method for method, _ in self.sizes if method not in (METHOD, DENSE)):
            curve = self.curve(method, column)
            for size, value in zip(own.sizes, own.values, strict=True):
                if curve.reaches(size):
                    yield change_pct(value, curve.at(size)[OPPOSITE]), method, float(size)
