"""What a run measured, of the form that statements are judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import comb

from results.measured.cells import DENSE, Cell
from results.measured.profiling_points import ProfilingPoint
from results.measured.quantized_cells import QuantizedCell
from results.measured.speed_points import SpeedPoint
from results.numbers.paper import METHOD
from results.numbers.printed import BENCHMARKS, MODELS
from results.numbers.statistics import RESAMPLES
from results.statements.cost_evidence import RIVAL, Costs
from results.statements.evidence import Evidence, name_points
from results.statements.quantized_evidence import QuantizedEvidence

_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Run:
    """The cells and points of a run's tables, as far as there are any.

    cells: by the number of the accuracy table. quantized: of Tables 1 to 3, judged for these models. speed, profiling:
    the points of Tables 14 and 5. resamples, seed: of the bootstrap over problems.
    """

    cells: Mapping[int, Sequence[Cell]] = field(default_factory=dict)
    quantized: Sequence[QuantizedCell] = ()
    models: Sequence[str] = tuple(MODELS)
    speed: Sequence[SpeedPoint] = ()
    profiling: Sequence[ProfilingPoint] = ()
    resamples: int = RESAMPLES
    seed: int = 0

    @cached_property
    def accuracies(self) -> Mapping[int, Evidence]:
        """The points of the accuracy tables. Raises ValueError for cells that do not belong together (`grouped`)."""
        return {
            number: Evidence.measured(cells, resamples=self.resamples, seed=self.seed)
            for number, cells in self.cells.items()
            if cells
        }

    @cached_property
    def quantized_models(self) -> Sequence[QuantizedEvidence]:
        """The points of Tables 1 to 3, model by model. Raises ValueError as `accuracies`."""
        return [
            QuantizedEvidence.measured(self.quantized, model, resamples=self.resamples, seed=self.seed)
            for model in self.models
        ]

    @property
    def quantized_benchmarks(self) -> Sequence[str]:
        """Those that some quantized model was measured on; all of the paper's without any."""
        return [name for name in BENCHMARKS if any(name in one.problems for one in self.quantized_models)] or BENCHMARKS

    def costs_by_route(self) -> dict[str, Costs]:
        """The costs of each route's models, sizes in parameters."""
        return {
            route: Costs.of(
                ((p.method, p.row), p.parameters, (speed.median, speed.low, speed.high), p.memory_gb)
                for p in self.speed
                for speed in [p.total.tokens_per_s]
                if p.route == route
            )
            for route in dict.fromkeys(p.route for p in self.speed)
        }

    def could_show(self, comparisons: int) -> bool:
        """Whether one of some comparisons of speeds can be significant by ranges that do not overlap.

        Two equal speeds have such ranges in one given order with probability 1 / C(2r, r) for r repetitions;
        Bonferroni.
        """
        repetitions = min(point.repetitions for point in self.speed)
        return comparisons / comb(2 * repetitions, repetitions) <= _SIGNIFICANCE

    def lacks_real_models(self) -> str:
        """Why Table 14 says nothing of methods; empty if it does."""
        if not self.speed:
            return "Table 14 is not measured."
        if any(point.random_weights for point in self.speed):
            return "Table 14 is of random weights: methods differ there by their sizes alone, and have no accuracy."
        if lacking := [name for name in (DENSE, METHOD) if name not in {point.method for point in self.speed}]:
            return f"Table 14 lacks {' and '.join(lacking)}."
        return ""

    def lacks_accuracies(self) -> str:
        """Why the cells of Table 6 give no accuracies of the models of Table 14; empty if they do."""
        measured = {(cell.method, cell.row): cell.parameters for cell in self.cells.get(6, ())}
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
