"""Table 5: which ways of profiling are measured, and what is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from baselines.registry import METHODS
from experiments.errors import UserError
from experiments.jobs import Job
from experiments.settings import Preset, choose
from experiments.stages.configs import ProfilingCostConfig
from experiments.stages.registry import PROFILING_COST
from experiments.store import Store


@dataclass(frozen=True)
class ProfilingCostPlan:
    """The points of Table 5 at one preset. jobs_of: (method, implementation) -> its job."""

    preset: Preset
    jobs_of: Mapping[tuple[str, str], Job]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job; none depends on another."""
        return list(self.jobs_of.values())

    def publish(self, store: Store, out: Path, command: str, console: Console) -> list[Path]:
        """Writes table5.{csv,md,json} under `out`, shows table and verdicts, and returns the files."""
        from experiments.profiling_points import EXTRAPOLATED_TO, measured_point
        from experiments.report import about_runs, measured_alike, show_verdicts
        from results.documents import table_files
        from results.profiling_report import render_terminal, write_profiling_table

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        points = [measured_point(job, provenance[job.key]["measured"]) for job in self.jobs]
        shape = self.preset.profiling_cost.load.shape
        described = {
            "preset": self.preset.name,
            "model": f"random weights in the shape of a Llama of width {shape.hidden_size} and {shape.layers} layers",
            **about_runs(provenance, command),
        }
        with measured_alike():
            table, verdicts = write_profiling_table(points, described, out, EXTRAPOLATED_TO)
        console.print(f"Table 5, measured at preset {self.preset.name} on {described['model']}", markup=False)
        console.print(render_terminal(table))
        show_verdicts(verdicts, console)
        console.print(f"written to {out}: table5.{{csv,md,json}}", markup=False)
        return table_files(out, "table5")


def plan_profiling_cost(preset: Preset) -> ProfilingCostPlan:
    """Declares one job for each way of profiling that the preset names.

    Raises UserError for a method that doesn't exist, or that has no such way.
    """
    jobs: dict[tuple[str, str], Job] = {}
    for method, implementations in preset.profiling_cost.implementations.items():
        choose(method, METHODS, "method")
        searches = METHODS[method].searches
        for implementation in implementations:
            if implementation in ("estimated", "streamed") and searches != (implementation == "estimated"):
                raise UserError(f"the preset {preset.name} has no way to profile {method} '{implementation}'")
            config = ProfilingCostConfig(
                method=method,
                implementation=implementation,
                load=preset.profiling_cost.load,
                candidates=preset.search.candidates if searches else (),
                attention=preset.hardware.attention,
            )
            jobs[method, implementation] = Job(PROFILING_COST, config, label=f"{method}, {implementation}")
    return ProfilingCostPlan(preset, jobs)
