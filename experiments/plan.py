"""From a preset and a table to jobs: the cells of the grid and everything that they depend on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from baselines.registry import METHODS, build_method
from evals.benchmarks import BENCHMARKS
from experiments.errors import NotInTableError, UserError
from experiments.external import HUB, checkpoint_hash
from experiments.jobs import Job, with_inputs
from experiments.settings import ExternalModel, Grid, HubModel, Preset, PublishedData, Table, choose
from experiments.stages.configs import (
    BaseConfig,
    CompressConfig,
    DataConfig,
    EvaluateConfig,
    JudgeConfig,
    PerplexityConfig,
    PrepareConfig,
    ProfileConfig,
    ScoreConfig,
    TrainConfig,
)
from experiments.stages.data import published_files
from experiments.stages.registry import (
    BASE,
    COMPRESS,
    DATA,
    EVALUATE,
    FINETUNE,
    JUDGE,
    PERPLEXITY,
    PREPARE,
    PROFILE,
    SCORE,
    SFT,
)
from results.cells import DENSE, DENSE_SFT, BenchmarkResult, Cell

EXTERNAL = "external"


@dataclass(frozen=True)
class Selection:
    """What the user asked for beyond preset and table; None leaves the preset's choice.

    isolated: whether generated programs run in isolation, or the user gave that up. externals: name -> directory or
    hub name of a checkpoint that stands as a row of its own. models: of those that Table 3 has.
    """

    methods: tuple[str, ...] | None = None
    rows: tuple[int, ...] | None = None
    seeds: int = 1
    eta: float | None = None
    data_dir: Path | None = None
    model_dir: Path | None = None
    isolated: bool = True
    externals: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] | None = None


@dataclass
class PlannedCell:
    """A cell of the table and the jobs that measure it."""

    method: str
    row: int
    seed: int
    keep_pct: float
    rank_rule: str
    eta: float | None
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a person calls it: method:row."""
        return f"{self.method}:{self.row}"


@dataclass(frozen=True)
class Plan:
    """The cells of one table at one preset."""

    table: Table
    preset: Preset
    cells: list[PlannedCell]
    data: Job

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(job for cell in self.cells for job in cell.jobs.values())


def plan_table(table: Table, preset: Preset, selection: Selection) -> Plan:
    """Declares every job of a table. Raises UserError for an unknown method, row or unusable setting."""
    return Planner(table, preset, selection).plan()


class Planner:
    """Builds the jobs of a table's cells; one method for each part of the pipeline."""

    def __init__(self, table: Table, preset: Preset, selection: Selection) -> None:
        self.table, self.preset, self.selection = table, preset, selection
        self.attention = preset.hardware.attention
        if table.model not in preset.models:
            raise NotInTableError(
                f"the preset {preset.name} has no model '{table.model}', which table {table.number} needs"
            )
        self.data = self._data()
        self.dense = self._dense()

    def plan(self) -> Plan:
        """All cells of the table that the user asked for, or else the preset."""
        methods = self.selection.methods or self.preset.methods or tuple(self.table.grids)
        cells = [self.dense_cell(), *self._control_cells()]
        for method in [choose(name, self.table.grids, "method") for name in methods]:
            cells += self.method_cells(method, self.selection.rows or self.preset.rows)
        cells += [self._external_cell(name, place) for name, place in self.selection.externals.items()]
        return Plan(self.table, self.preset, cells, self.data)

    def _data(self) -> Job:
        domain, benchmarks, paths = self.table.domain, self.table.benchmarks, {}
        if domain not in self.preset.data:
            raise NotInTableError(
                f"the preset {self.preset.name} has no data for {domain}, which table {self.table.number} needs"
            )
        data = self.preset.data[domain]
        files: dict[str, str] = {}
        if self.selection.data_dir is not None and not isinstance(data, PublishedData):
            raise UserError(f"the preset {self.preset.name} generates its problems and reads nothing in a --data-dir")
        if isinstance(data, PublishedData):
            directory = self.selection.data_dir
            if directory is not None and not directory.is_dir():
                raise UserError(f"--data-dir {directory} is no directory")
            files = published_files(data, benchmarks, directory)
            if directory is not None:
                paths["data_dir"] = str(directory.resolve())
        config = DataConfig(domain=domain, data=data, benchmarks=benchmarks, files=files)
        return Job(DATA, config, paths=paths, label=domain)

    def _dense(self) -> Job:
        source, paths = self.preset.models[self.table.model], {}
        if self.selection.model_dir is not None and not isinstance(source, HubModel):
            raise UserError(f"the preset {self.preset.name} makes its model and reads nothing in a --model-dir")
        if isinstance(source, HubModel) and self.selection.model_dir is not None:
            paths["model_dir"] = str(self.selection.model_dir.resolve())
            local = source.directory(self.selection.model_dir.resolve())
            if local.is_dir():  # without it the stage ends in a line that says where it was looked for
                source = source.model_copy(update={"content": checkpoint_hash(str(local))})
        base = Job(BASE, BaseConfig(model=source), paths=paths, label=self.table.model)
        training = self.preset.finetune[self.table.size]
        if training is None:
            return base
        config = TrainConfig(training=training, seed=self.preset.seed, attention=self.attention)
        return Job(FINETUNE, config, {"model": base, "data": self.data}, label=self.table.model)

    def _grid(self, method: str) -> Grid:
        """The method's grid with the preset's and the user's settings laid over the declared ones."""
        declared = self.table.grids[method]
        grid = declared.model_copy(update={"values": self.preset.values.get(method, declared.values)})
        settings: dict[str, Any] = dict(grid.settings)
        if METHODS[method].searches:
            settings["candidates"] = list(self.preset.search.candidates)
            settings["sensitivity"] = self.preset.search.sensitivity
        if self.selection.eta is not None and "eta" in settings:
            settings["eta"] = self.selection.eta
        try:
            for row in grid.values:
                grid.rank_rule(row)
            build_method(method, settings)
        except ValueError as error:
            raise UserError(f"{method}: {error}") from error
        return grid.model_copy(update={"settings": settings})

    def method_cells(self, method: str, rows: Sequence[int] | None) -> list[PlannedCell]:
        """A method at rows of its grid, None for all of them; a row for each seed."""
        grid = self._grid(method)
        rows = rows or tuple(grid.values)
        for row in rows:
            if row not in grid.values:
                rows_there = ", ".join(str(there) for there in grid.values)
                raise NotInTableError(
                    f"{method} has no row {row} in table {self.table.number}: its rows are {rows_there}"
                )
        shared = self._prepared(method, grid)
        cells = []
        for row in rows:
            percent = grid.values[row] * (1 if grid.rule == "nuclear_norm" else 100)
            config = CompressConfig(method=method, settings=grid.settings, rule=grid.rule, value=grid.values[row])
            compressed = Job(COMPRESS, config, shared, label=f"{method} row {row}")
            for seed in self.seeds():
                cell = PlannedCell(method, row, seed, percent, grid.rule, grid.settings.get("eta"))
                cell.jobs = {"compress": compressed, **self._measured_twice(compressed, compressed.label, seed)}
                cells.append(cell)
        return cells

    def _prepared(self, method: str, grid: Grid) -> dict[str, Job]:
        """The inputs of compress: the dense model, the method's components, and what its search measured."""
        statistics = {
            f"statistic {name}": Job(
                PROFILE,
                ProfileConfig(statistic=name, calibration=self.preset.calibration, attention=self.attention),
                {"model": self.dense, "data": self.data},
                label=name,
            )
            for name in sorted(build_method(method, grid.settings).statistics())
        }
        rules = tuple((grid.rule, value) for _, value in sorted(grid.values.items()))
        components = Job(
            PREPARE,
            PrepareConfig(method=method, settings=grid.settings, rules=rules),
            {"model": self.dense, **statistics},
            label=method,
        )
        inputs = {"model": self.dense, "components": components}
        if METHODS[method].searches:
            config = ScoreConfig(
                method=method,
                settings=grid.settings,
                rows=self.preset.search.rows,
                batch_size=self.preset.perplexity.batch_size,
                max_length=self.preset.perplexity.max_length,
                precision=self.preset.hardware.precision,
                attention=self.attention,
            )
            inputs["sensitivity"] = Job(SCORE, config, {**inputs, "data": self.data}, label=method)
        return inputs

    def dense_cell(self) -> PlannedCell:
        """The fine-tuned model."""
        dense = PlannedCell(DENSE, 0, self.preset.seed, 100, "none", None)
        dense.jobs = {"dense": self.dense, "ppl_before": self.perplexity(self.dense, DENSE)} | self.accuracies(
            self.dense, DENSE
        )
        return dense

    def _control_cells(self) -> list[PlannedCell]:
        """The fine-tuned model with the second SFT that the compressed ones get."""
        controls = []
        for seed in self.seeds():
            control = PlannedCell(DENSE_SFT, 0, seed, 100, "none", None)
            control.jobs = {"dense": self.dense, **self._measured_twice(self.dense, DENSE_SFT, seed)}
            controls.append(control)
        return controls

    def _external_cell(self, name: str, place: str) -> PlannedCell:
        """A checkpoint that the user brought, measured as it is: whatever tuning it has had is its own."""
        if name in {*METHODS, DENSE, DENSE_SFT}:
            raise UserError(f"--external {name}=...: '{name}' is a row of its own already, choose another name")
        content = checkpoint_hash(place)
        # a directory may lie anywhere; on the hub the owner is part of what tells two models apart
        source = ExternalModel(source="external", name=place if content == HUB else Path(place).name, content=content)
        model = Job(BASE, BaseConfig(model=source), paths={"checkpoint": place}, label=name)
        cell = PlannedCell(name, 1, self.preset.seed, math.nan, EXTERNAL, None)
        cell.jobs = {EXTERNAL: model, "ppl_before": self.perplexity(model, name), **self.accuracies(model, name)}
        return cell

    def _measured_twice(self, model: Job, label: str, seed: int) -> dict[str, Job]:
        """Perplexity before the second SFT, the SFT, and everything after it."""
        training = self.preset.sft[self.table.size]
        config = TrainConfig(training=training, seed=seed, attention=self.attention)
        if seed != self.preset.seed:
            label = f"{label} seed {seed}"
        tuned = Job(SFT, config, {"model": model, "data": self.data}, label=label)
        return {
            "ppl_before": self.perplexity(model, f"{label} before SFT"),
            "sft": tuned,
            "ppl_after": self.perplexity(tuned, label),
            **self.accuracies(tuned, label),
        }

    def perplexity(self, model: Job, label: str) -> Job:
        """The model's perplexity on held-out responses."""
        config = PerplexityConfig(
            perplexity=self.preset.perplexity, precision=self.preset.hardware.precision, attention=self.attention
        )
        return Job(PERPLEXITY, config, {"model": model, "data": self.data}, label=label)

    def accuracies(self, model: Job, label: str) -> dict[str, Job]:
        """ "accuracy BENCHMARK" -> the verdicts on the model's completions."""
        return {
            f"accuracy {benchmark}": self._accuracy(model, benchmark, f"{label} on {benchmark}")
            for benchmark in self.table.benchmarks
        }

    def _accuracy(self, model: Job, benchmark: str, label: str) -> Job:
        evaluation = EvaluateConfig(
            benchmark=benchmark,
            evaluation=self.preset.evaluation[benchmark],
            precision=self.preset.hardware.precision,
            attention=self.attention,
        )
        completions = Job(EVALUATE, evaluation, {"model": model, "data": self.data}, label=label)
        isolation: Literal["bubblewrap", "none"] | None = None
        if BENCHMARKS[benchmark].executes:
            isolation = "bubblewrap" if self.selection.isolated else "none"
        judging = JudgeConfig(benchmark=benchmark, isolation=isolation)
        return Job(JUDGE, judging, {"generations": completions, "data": self.data}, label=label)

    def seeds(self) -> range:
        """Those of the second SFT."""
        return range(self.preset.seed, self.preset.seed + self.selection.seeds)


def measured_cells(plan: Plan, provenance: dict[str, dict[str, Any]]) -> list[Cell]:
    """The plan's cells as measured. provenance: job key -> run.json of every finished job."""

    def measured(job: Job) -> dict[str, Any]:
        return provenance[job.key]["measured"]

    dense_parameters = max(
        (measured(cell.jobs["compress"])["dense_parameters"] for cell in plan.cells if "compress" in cell.jobs),
        default=0,
    )
    dense_parameters = dense_parameters or _parameters_of_base(plan.cells[0].jobs["dense"], provenance)
    cells = []
    for cell in plan.cells:
        made = cell.jobs.get("compress") or cell.jobs.get(EXTERNAL)
        parameters = measured(made)["parameters"] if made else dense_parameters
        cells.append(
            Cell(
                method=cell.method,
                row=cell.row,
                keep_pct=cell.keep_pct,
                rank_rule=cell.rank_rule,
                eta=cell.eta,
                seed=cell.seed,
                parameters=parameters,
                dense_parameters=dense_parameters,
                ppl_before_sft=measured(cell.jobs["ppl_before"])["perplexity"],
                ppl_after_sft=measured(cell.jobs["ppl_after"])["perplexity"] if "ppl_after" in cell.jobs else {},
                benchmarks={
                    name: BenchmarkResult(**measured(cell.jobs[f"accuracy {name}"])) for name in plan.table.benchmarks
                },
                runs={slot: job.key for slot, job in cell.jobs.items()},
                note="an external checkpoint, measured as it is" if EXTERNAL in cell.jobs else "",
            )
        )
    return cells


def _parameters_of_base(dense: Job, provenance: dict[str, dict[str, Any]]) -> int:
    base = dense.inputs.get("model", dense)
    return int(provenance[base.key]["measured"]["parameters"])
