"""Table 5: which ways of profiling are measured, and what is made of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from baselines.declarations import declared, method_names
from experiments.errors import UserError
from experiments.jobs.job import Job
from experiments.jobs.store import Store
from experiments.settings import Preset, choose
from experiments.stages.registry import PROFILING_COST
from experiments.tables.planner import job_of
from experiments.tables.target import RUNNING, Plan, Publication, Target


def targets() -> Iterator[Target]:
    """Table 5."""
    about = "time and memory of profiling, ours and Algorithm 1 as printed, of random weights"
    yield Target("table5", about, lambda asked: plan_profiling_cost(asked.preset), RUNNING)


@dataclass(frozen=True)
class ProfilingCostPlan(Plan):
    """The points of Table 5 at one preset. jobs_of: (method, implementation) -> its job."""

    preset: Preset
    jobs_of: Mapping[tuple[str, str], Job]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job; none depends on another."""
        return list(self.jobs_of.values())

    def publications(self, store: Store, command: str) -> Iterator[Publication]:
        """The table."""
        from experiments.tables import about as report
        from experiments.tables.profiling_points import EXTRAPOLATED_TO, measured_point
        from results.tables.profiling import profiling_document

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        points = [measured_point(job, provenance[job.key]["measured"]) for job in self.jobs]
        model = report.random_weights(self.preset.profiling_cost.load.shape)
        described = {"preset": self.preset.name, "model": model, **report.about_runs(provenance, command)}
        with report.measured_alike():
            document = profiling_document(points, described, EXTRAPOLATED_TO)
        yield Publication("table5", f"Table 5, measured at preset {self.preset.name} on {model}", document)


def plan_profiling_cost(preset: Preset) -> ProfilingCostPlan:
    """Declares one job for each way of profiling that the preset names.

    Raises UserError for a method that doesn't exist, or that has no such way.
    """
    jobs: dict[tuple[str, str], Job] = {}
    for method, implementations in preset.profiling_cost.implementations.items():
        choose(method, method_names(), "method")
        searches = declared(method).searches
        for implementation in implementations:
            if implementation in ("estimated", "streamed") and searches != (implementation == "estimated"):
                raise UserError(f"the preset {preset.name} has no way to profile {method} '{implementation}'")
            jobs[method, implementation] = job_of(
                preset,
                PROFILING_COST,
                f"{method}, {implementation}",
                method=method,
                implementation=implementation,
                load=preset.profiling_cost.load,
                candidates=preset.search.candidates if searches else (),
            )
    return ProfilingCostPlan(preset, jobs)
