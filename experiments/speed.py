"""Table 14 and Figure 8: which models' speed is measured, and what is made of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from experiments.jobs import Job, with_inputs
from experiments.plan import Plan, measured_cells
from experiments.settings import Preset, Route, Shape, VllmRoute, choose
from experiments.stages.configs import LimitsConfig, RandomWeights, SpeedConfig
from experiments.stages.registry import LIMITS, SPEED
from experiments.store import Store
from results.cells import DENSE
from results.speed import printed_points, speed_point

ROUTES: dict[str, dict[str, Any]] = {
    **{route: {"engine": "hf", "route": route, "fused": False} for route in get_args(Route)},
    **{f"{route} fused": {"engine": "hf", "route": route, "fused": True} for route in get_args(Route)},
    **{f"vllm {route}": {"engine": "vllm", "route": route, "fused": False} for route in get_args(VllmRoute)},
}
"""What the user calls a route -> the settings that it stands for."""


@dataclass(frozen=True)
class SpeedPlan:
    """The points of Table 14 at one preset.

    models: the accuracy table whose models are measured; None: random weights in the preset's shape, at the printed
    shares of the dense size. jobs_of: (method, row, route) -> its job.
    """

    preset: Preset
    models: Plan | None
    jobs_of: Mapping[tuple[str, int, str], Job]

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(self.jobs_of.values())

    def publish(self, store: Store, out: Path, command: str, console: Console) -> list[Path]:
        """Writes table14.{csv,md,json} and figure8 under `out`, shows table and verdicts, and returns the files.

        Once the models' accuracies are measured too, so is what the paper says of costs at equal accuracy.
        """
        from experiments.report import about_runs, measured_alike, model_name, show_verdicts
        from plots.throughput import write_throughput
        from results.documents import table_files
        from results.speed_report import render_terminal, write_speed_table

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
        shape = self.preset.speed.shape
        model = f"random weights in the shape of a Llama of width {shape.hidden_size} and {shape.layers} layers"
        if self.models:
            model = model_name(self.preset, self.models.table.model)
        described = {"preset": self.preset.name, "model": model}
        described |= about_runs(provenance, command)
        cells = []
        if self.models and all(store.finished(job) for job in self.models.jobs):
            cells = measured_cells(self.models, {job.key: store.provenance(job) for job in self.models.jobs})
        with measured_alike():
            table, verdicts = write_speed_table(points, described, out, cells=cells)
        figures = write_throughput(table, described, out)
        console.print(f"Table 14, measured at preset {self.preset.name} on {described['model']}", markup=False)
        console.print(render_terminal(table))
        show_verdicts(verdicts, console)
        names = ", ".join(sorted({path.stem + ".{png,pdf}" for path in figures}))
        console.print(f"written to {out}: table14.{{csv,md,json}}, {names}", markup=False)
        return [*table_files(out, "table14"), *figures]


def plan_speed(
    preset: Preset,
    models: Plan | None,
    rows: tuple[int, ...] | None = None,
    methods: tuple[str, ...] | None = None,
) -> SpeedPlan:
    """Declares the measurements: of the models of an accuracy table's plan, or without one of random weights.

    Raises UserError for a route that doesn't exist.
    """
    speed, attention = preset.speed, preset.hardware.attention
    limits = Job(LIMITS, LimitsConfig(precision=speed.load.precision), label=speed.load.precision)
    jobs = {}
    for method, row, model in _planned(models) if models else _random(speed.shape, rows, methods):
        for name in speed.routes:
            config = SpeedConfig(
                load=speed.load,
                **ROUTES[choose(name, ROUTES, "route")],
                attention=attention,
                random=model if isinstance(model, RandomWeights) else None,
            )
            inputs = {"limits": limits} | ({"model": model} if isinstance(model, Job) else {})
            jobs[method, row, name] = Job(SPEED, config, inputs, label=f"{method} row {row}, {name}")
    return SpeedPlan(preset, models, jobs)


def _planned(plan: Plan) -> Iterator[tuple[str, int, Job]]:
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
    printed = printed_points()
    dense = next(size for method, _, size in printed if method == DENSE)
    for name in methods or ():
        choose(name, dict.fromkeys(method for method, _, _ in printed), "method")
    for method, row, size in printed:
        if method == DENSE:
            yield method, row, RandomWeights(shape=shape, share=None)
        elif (rows is None or row in rows) and (methods is None or method in methods):
            yield method, row, RandomWeights(shape=shape, share=size / dense)
