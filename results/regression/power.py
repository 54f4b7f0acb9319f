"""What a comparison of two runs can find: how far seeds move methods, and the smallest drop that is not missed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from results.measured.cells import Cell, grouped_by_point

IntArray = npt.NDArray[np.int64]
Tables: TypeAlias = Mapping[Any, Sequence[Cell]]
"""Cells by their table's number, or by its name where the paper has no such table."""

# A closed form is an approximation: aiming above the 95 % that is promised leaves it room.
_POWER = 0.975


def seeds_of(tables: Tables) -> list[int]:
    """Every seed of any cell, in order."""
    return sorted({cell.seed for cells in tables.values() for cell in cells})


def as_seed(tables: Tables, seed: int, name: int) -> dict[Any, list[Cell]]:
    """The cells of one seed under the name of another, so that they stand as a run of their own beside a reference.

    What has a single seed, as the dense model, which gets no second SFT, is part of every such run.
    """
    return {
        number: [
            cell if len(group) == 1 else cell.model_copy(update={"seed": name})
            for group in grouped_by_point(cells).values()
            for cell in group
            if len(group) == 1 or cell.seed == seed
        ]
        for number, cells in tables.items()
    }


def seed_spread(tables: Tables) -> tuple[float, float]:
    """How far seeds move accuracies: phi and its degrees of freedom; (0, 1) where no method has several seeds.

    Over seeds an accuracy p, a share of all marks of a method, has the standard deviation phi sqrt(p (1 - p)), with one
    phi for all methods. A lucky seed is one for all of them, so their deviations are correlated, and the degrees of
    freedom are those of a sum of correlated squares (Satterthwaite 1946, Biometrics Bulletin 2:110-114): seeds - 1
    where methods move as one, that times the number of methods where each moves by itself. What counts are tables in
    which a method has several seeds, and methods with the seeds that most have.
    """
    solved: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for cells in tables.values():
        for group in grouped_by_point(cells).values():
            for cell in group if len(group) > 1 else ():
                for result in cell.benchmarks.values():
                    solved[cell.method][cell.seed] += result.correct
    most = max((tuple(by_seed) for by_seed in solved.values()), key=len, default=())
    accuracies = [
        np.array([np.mean(by_seed[seed]) for seed in most])
        for by_seed in solved.values()
        if tuple(by_seed) == most and len({len(marks) for marks in by_seed.values()}) == 1
    ]
    scales = [np.sqrt(mean * (1 - mean)) for mean in map(np.mean, accuracies)]
    scaled = [(own - own.mean()) / scale for own, scale in zip(accuracies, scales, strict=True) if scale]
    if not scaled:
        return 0.0, 1.0
    covariance = np.atleast_2d(np.cov(scaled))
    total = float(np.trace(covariance))
    if not total:
        return 0.0, 1.0
    return float(np.sqrt(total / len(scaled))), (len(most) - 1) * total**2 / float(np.sum(covariance**2))


def detectable_drop(
    solved: IntArray, marks: int, churn: float, variance: float, minimum: float, level: float
) -> float | None:
    """The smallest drop of one method, in points of accuracy, that fails it with a probability of at least 95 %.

    The drop is planted in an unchanged run: solved marks, drawn at random, are lost. In closed form, with the normal
    approximation of `results.regression.comparison.worse_p_value`.

    Args:
        solved: marks that the reference has solved, (problems,).
        marks: all marks of the method.
        churn: sum over problems of the squared difference between two unchanged runs, in marks squared.
        variance: of the sum of these differences, where seeds show it, in marks squared.
        minimum: points that the gate allows.
        level: below which the p-value of a fall has to be.

    Returns:
        None where even the loss of every solved mark may go unnoticed.
    """
    total = int(solved.sum())
    lost = np.arange(total + 1, dtype=np.float64)
    # two lost marks may fall on the same problem
    together = float(np.sum(solved * (solved - 1.0))) / max(total * (total - 1), 1)
    deviation = np.sqrt(churn + lost + lost * (lost - 1) * together)
    hurdle = np.maximum(1 + norm.isf(level) * deviation, minimum / 100 * marks)
    enough = np.flatnonzero(lost > hurdle + norm.ppf(_POWER) * np.sqrt(max(churn, variance)))
    return 100 * int(enough[0]) / marks if len(enough) else None


def planted_drop(tables: Tables, method: str, lost: int, rng: np.random.Generator) -> dict[Any, list[Cell]]:
    """A run in which so many of the marks that a method solved, drawn at random, are not solved."""
    run = {table: [cell.model_copy(deep=cell.method == method) for cell in cells] for table, cells in tables.items()}
    solved = [
        (result.correct, problem)
        for cells in run.values()
        for cell in cells
        if cell.method == method
        for result in cell.benchmarks.values()
        for problem in np.flatnonzero(result.correct).tolist()
    ]
    for k in rng.choice(len(solved), size=min(lost, len(solved)), replace=False):
        marks, problem = solved[k]
        marks[problem] = False
    return run
