"""Costs that statements are judged on, of one form: those of a run, or those printed in Table 14.

A cost is held as (3,): the value, the lowest and the highest over repetitions. Of memory, which is read once, and of
printed numbers all three are the number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from results.measured.cells import DENSE
from results.measured.profiling_points import ProfilingPoint
from results.numbers.paper import METHOD
from results.numbers.printed import PrintedNumber, printed_numbers, printed_table
from results.numbers.statistics import FloatArray
from results.statements.evidence import Evidence, Point

RIVAL = "afm"
COSTS = ("throughput_tok_s", "memory_gb")
# the value, and the ends over repetitions; those of a change are of the one cost over the opposite ones of the other
LOW, HIGH = 1, 2
OPPOSITE = [0, HIGH, LOW]

Number = TypeVar("Number", float, FloatArray)


def costs_of(points: Iterable[tuple[Point, float, Sequence[float], float]]) -> Evidence:
    """Those of points: method and row, size, throughput with its ends, memory."""
    sizes: dict[Point, float] = {}
    costs: dict[str, dict[Point, FloatArray]] = {column: {} for column in COSTS}
    for point, sizes[point], throughput, memory in points:
        for column, cost in zip(COSTS, (throughput, (memory,) * 3), strict=True):
            costs[column][point] = np.array(cost)
    return Evidence(sizes, costs)


def printed_costs() -> Evidence:
    """Table 14, sizes in billions of parameters."""
    return costs_of(
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
