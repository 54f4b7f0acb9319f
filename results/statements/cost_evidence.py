"""Costs that statements are judged on, of one form: those of a run, or those printed in Table 14.

A cost is held as (3,): the value, the lowest and the highest over repetitions. Of memory, which is read once, and of
printed numbers all three are the number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import comb
from typing import TypeVar

import numpy as np

from results.measured.cells import DENSE, Cell
from results.measured.profiling_points import ProfilingPoint
from results.measured.speed_points import SpeedPoint
from results.numbers.paper import METHOD
from results.numbers.printed import PrintedNumber, printed_numbers, printed_table
from results.numbers.statistics import FloatArray
from results.statements.evidence import Evidence, Point, name_points

RIVAL = "afm"
COSTS = ("throughput_tok_s", "memory_gb")
# the value, and the ends over repetitions; those of a change are of the one cost over the opposite ones of the other
LOW, HIGH = 1, 2
OPPOSITE = [0, HIGH, LOW]
_SIGNIFICANCE = 0.05

Number = TypeVar("Number", float, FloatArray)


@dataclass(frozen=True)
class MeasuredCosts:
    """The points of a run's Tables 14 and 5, and the cells of its Table 6, whose accuracies some sentences need."""

    speed: Sequence[SpeedPoint] = ()
    profiling: Sequence[ProfilingPoint] = ()
    cells: Sequence[Cell] = ()

    @cached_property
    def accuracies(self) -> Evidence:
        """Those of the models of Table 6, with resamples."""
        return Evidence.measured(self.cells)

    def by_route(self) -> dict[str, Evidence]:
        """The costs of each route's models, sizes in parameters."""
        return {
            route: _evidence(
                ((p.method, p.row), p.parameters, (speed.median, speed.low, speed.high), p.memory_gb)
                for p in self.speed
                for speed in [p.total.tokens_per_s]
                if p.route == route
            )
            for route in dict.fromkeys(p.route for p in self.speed)
        }

    def could_show(self, comparisons: int) -> bool:
        """Whether one of some comparisons can be significant by ranges that do not overlap.

        Two equal speeds have such ranges in one given order with probability 1 / C(2r, r) for r repetitions;
        Bonferroni.
        """
        repetitions = min(point.repetitions for point in self.speed)
        return comparisons / comb(2 * repetitions, repetitions) <= _SIGNIFICANCE

    def lack_real_models(self) -> str:
        """Why Table 14 says nothing of methods; empty if it does."""
        if not self.speed:
            return "Table 14 is not measured."
        if any(point.random_weights for point in self.speed):
            return "Table 14 is of random weights: methods differ there by their sizes alone, and have no accuracy."
        if lacking := [name for name in (DENSE, METHOD) if name not in {point.method for point in self.speed}]:
            return f"Table 14 lacks {' and '.join(lacking)}."
        return ""

    def lack_accuracies(self) -> str:
        """Why the cells of Table 6 give no accuracies of the models of Table 14; empty if they do."""
        measured = {(cell.method, cell.row): cell.parameters for cell in self.cells}
        timed = {(p.method, p.row): p.parameters for p in self.speed if p.method in (DENSE, METHOD, RIVAL)}
        if not any(method == RIVAL for method, _ in timed):
            return f"Table 14 lacks {RIVAL}."
        if gone := [point for point in timed if point not in measured]:
            return f"Table 6 lacks {name_points(gone)}, so their accuracies are not known."
        if other := [point for point, size in timed.items() if measured[point] != size]:
            return f"Table 6 is of other models than Table 14: {name_points(other)} differ in size."
        return ""

    def profiled(self, *methods: str) -> list[ProfilingPoint]:
        """Those of the methods that were profiled as this harness does, in this order."""
        ours = {point.method: point for point in reversed(self.profiling) if point.implementation == "ours"}
        return [ours[method] for method in methods if method in ours]


def _evidence(points: Iterable[tuple[Point, float, Sequence[float], float]]) -> Evidence:
    """Of (method and row, size, throughput with its ends, memory)."""
    sizes: dict[Point, float] = {}
    costs: dict[str, dict[Point, FloatArray]] = {column: {} for column in COSTS}
    for point, sizes[point], throughput, memory in points:
        for column, cost in zip(COSTS, (throughput, (memory,) * 3), strict=True):
            costs[column][point] = np.array(cost)
    return Evidence(sizes, costs)


def printed_costs() -> Evidence:
    """Table 14, sizes in billions of parameters."""
    return _evidence(
        ((method, row), size, (throughput,) * 3, memory)
        for row, method, size, throughput, memory in printed_table(14).itertuples(index=False)
    )


def change_pct(own: Number, other: Number) -> Number:
    """From another cost to one's own, in percent."""
    return 100 * (own / other - 1)


def steps_up(costs: Evidence) -> Iterator[tuple[Point, tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]]:
    """Every model that its method has a larger one of: throughput and memory of the next larger one and of it."""
    for method in dict.fromkeys(method for method, _ in costs.sizes):
        speed, memory = (costs.curve(method, column) for column in COSTS)
        yield from zip(speed.points[1:], pairwise(speed.values), pairwise(memory.values), strict=True)


def own_changes(costs: Evidence, column: str) -> Iterator[tuple[FloatArray, str, float]]:
    """For each other method and IMPACT's sizes within its curve: the change in percent (3,), the method, the size."""
    own = costs.curve(METHOD, column, with_dense=False)
    for method in dict.fromkeys(method for method, _ in costs.sizes if method not in (METHOD, DENSE)):
        curve = costs.curve(method, column)
        for size, value in zip(own.sizes, own.values, strict=True):
            if curve.reaches(size):
                yield change_pct(value, curve.at(size)[OPPOSITE]), method, float(size)


# time in the unit of its source, and peak memory
Profile = tuple[float, float]


def profiles_of(points: Iterable[ProfilingPoint]) -> dict[str, Profile]:
    """By method; time in seconds."""
    return {point.method: (point.total_seconds, point.memory_gb) for point in points}


def printed_profiles(*methods: str) -> tuple[dict[str, Profile], tuple[PrintedNumber, ...]]:
    """Of Table 5 by method, time in hours, and the numbers themselves."""
    columns = ["profiling_time_h", "peak_gpu_memory_gb"]
    numbers = {method: printed_numbers(5, columns, method=method) for method in methods}
    profiles = {method: (time.value, memory.value) for method, (time, memory) in numbers.items()}
    return profiles, tuple(number for found in numbers.values() for number in found)


def overhead(profiles: Mapping[str, Profile]) -> tuple[float, float]:
    """By how many percent IMPACT's profiling takes more time and more memory than the rival's."""
    time, memory = (change_pct(own, other) for own, other in zip(profiles[METHOD], profiles[RIVAL], strict=True))
    return time, memory
