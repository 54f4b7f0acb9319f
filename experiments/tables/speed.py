"""Table 14 and Figure 8: which models' speed is measured, and what is made of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, get_args

from experiments.jobs.job import Job, with_inputs
from experiments.jobs.store import Store
from experiments.settings import Preset, Route, Shape, VllmRoute, choose
from experiments.stages.configs import RandomWeights
from experiments.stages.registry import LIMITS, SPEED
from experiments.tables.accuracy import AccuracyPlan, measured_cells, plan_table
from experiments.tables.declared import load_table
from experiments.tables.planner import job_of
from experiments.tables.target import OF_MODELS, Asked, Plan, Publication, Target
from results.measured.cells import DENSE

ROUTES: dict[str, dict[str, Any]] = {
    **{route: {"engine": "hf", "route": route, "fused": False} for route in get_args(Route)},
    **{f"{route} fused": {"engine": "hf", "route": route, "fused": True} for route in get_args(Route)},
    **{f"vllm {route}": {"engine": "vllm", "route": route, "fused": False} for route in get_args(VllmRoute)},
}
"""What the user calls a route -> the settings that it stands for."""


def targets() -> Iterator[Target]:
    """Table 14 with Figure 8."""
    load = ("random_weights", "batch_size", "prompt_tokens", "new_tokens", "routes")
    about = "throughput and memory of Table 6's models, or of --random-weights"
    yield Target("table14", about, _planned, (*OF_MODELS, "seeds", "external", *load), ("figure8",))


def _planned(asked: Asked) -> "SpeedPlan":
    """Under the load that the user asked for, of Table 6's models or of random ones."""
    preset, selection = asked.preset, asked.selection
    load = preset.speed.load.model_copy(update=dict(selection.load))
    speed = preset.speed.model_copy(update={"load": load, "routes": selection.routes or preset.speed.routes})
    preset = preset.model_copy(update={"speed": speed})
    models = None if selection.random_weights else plan_table(load_table("table6"), preset, selection)
    return plan_speed(preset, models, selection.rows, selection.methods)


@dataclass(frozen=True)
class SpeedPlan(Plan):
    """The points of Table 14 at one preset.

    models: the accuracy table whose models are measured; None: random weights in the preset's shape, at the printed
    shares of the dense size. jobs_of: (method, row, route) -> its job.
    """

    preset: Preset
    models: AccuracyPlan | None
    jobs_of: Mapping[tuple[str, int, str], Job]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(self.jobs_of.values())

    @property
    def consulted(self) -> list[Job]:
        """Those that measure the models' accuracies."""
        return self.models.jobs if self.models else []

    def publications(self, store: Store, command: str) -> Iterator[Publication]:
        """The table and the figure; once accuracies are measured too, what the paper says of costs at equal ones."""
        from experiments.tables import about as report
        from plots.throughput import write_throughput
        from results.measured.speed_points import speed_point
        from results.tables.speed import speed_document

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        points = [
            speed_point(
                provenance[job.key]["measured"],
                method,
                row,
                engine=ROUTES[route]["engine"],
                random_weights=self.models is None,
                runs={"speed": job.key} | {slot: upstream.key for slot, upstream in job.inputs.items()},
            )
            for (method, row, route), job in self.jobs_of.items()
        ]
        model = report.random_weights(self.preset.speed.shape)
        cells = []
        if self.models:
            model = report.model_name(self.preset, self.models.table.model)
            if all(store.finished(job) for job in self.models.jobs):
                cells = measured_cells(self.models, {job.key: store.provenance(job) for job in self.models.jobs})
        described = {"preset": self.preset.name, "model": model, **report.about_runs(provenance, command)}
        with report.measured_alike():
            document = speed_document(points, described, cells=cells)
        heading = f"Table 14, measured at preset {self.preset.name} on {model}"
        yield Publication("table14", heading, document, partial(write_throughput, document.frame, described))


def plan_speed(
    preset: Preset,
    models: AccuracyPlan | None,
    rows: tuple[int, ...] | None = None,
    methods: tuple[str, ...] | None = None,
) -> SpeedPlan:
    """Declares the measurements: of the models of an accuracy table's plan, or without one of random weights.

    Raises UserError for a route that doesn't exist.
    """
    speed, precision = preset.speed, preset.speed.load.precision
    limits = job_of(preset, LIMITS, precision, precision=precision)
    jobs = {}
    for method, row, model in _models_of(models) if models else _random(speed.shape, rows, methods):
        for name in speed.routes:
            route = ROUTES[choose(name, ROUTES, "route")]
            random = model if isinstance(model, RandomWeights) else None
            inputs = {"limits": limits} | ({"model": model} if isinstance(model, Job) else {})
            label = f"{method} row {row}, {name}"
            jobs[method, row, name] = job_of(preset, SPEED, label, inputs, load=speed.load, random=random, **route)
    return SpeedPlan(preset, models, jobs)


def _models_of(plan: AccuracyPlan) -> Iterator[tuple[str, int, Job]]:
    """The models of an accuracy table, one of each point: a second SFT changes nothing about speed."""
    seen = set()
    for cell in plan.cells:
        model = next(cell.jobs[slot] for slot in ("compress", "external", "dense") if slot in cell.jobs)
        if model.key not in seen:
            seen.add(model.key)
            yield cell.method, cell.row, model


def _random(
    shape: Shape, rows: tuple[int, ...] | None, methods: tuple[str, ...] | None
) -> Iterator[tuple[str, int, RandomWeights]]:
    from results.tables.speed import printed_points

    printed = printed_points()
    dense = next(size for method, _, size in printed if method == DENSE)
    for name in methods or ():
        choose(name, dict.fromkeys(method for method, _, _ in printed), "method")
    for method, row, size in printed:
        if method == DENSE:
            yield method, row, RandomWeights(shape=shape, share=None)
        elif (rows is None or row in rows) and (methods is None or method in methods):
            yield method, row, RandomWeights(shape=shape, share=size / dense)
