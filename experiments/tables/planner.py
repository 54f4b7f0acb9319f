"""The jobs of a table's cells: everything that each depends on, from a preset and a grid."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from baselines.declarations import declared, method_names
from experiments.errors import NotInTableError, UserError
from experiments.jobs.external import HUB, checkpoint_hash
from experiments.jobs.job import Job
from experiments.jobs.stage import Stage
from experiments.settings import ExternalModel, HubModel, Preset, PublishedData, choose
from experiments.stages import registry as stages
from experiments.tables.declared import Grid, Table
from experiments.tables.target import Selection, choose_rows
from results.measured.cells import DENSE, DENSE_SFT

EXTERNAL = "external"


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


def job_of(
    preset: Preset,
    stage: Stage,
    label: str,
    inputs: Mapping[str, Job] | None = None,
    paths: Mapping[str, str] | None = None,
    **settings: Any,
) -> Job:
    """A stage's job with these settings; precision and attention, where it has them, are else the preset's."""
    hardware = {name: getattr(preset.hardware, name) for name in ("precision", "attention")}
    own = {name: value for name, value in hardware.items() if name in stage.config.model_fields}
    return Job(stage, stage.config(**own | settings), inputs or {}, paths or {}, label)


class Planner:
    """Builds the jobs of a table's cells; one method for each part of the pipeline."""

    def __init__(self, table: Table, preset: Preset, selection: Selection) -> None:
        self.table, self.preset, self.selection = table, preset, selection
        self.job = partial(job_of, preset)
        if table.model not in preset.models:
            raise NotInTableError(
                f"the preset {preset.name} has no model '{table.model}', which table {table.number} needs"
            )
        self.data = self._data()
        self.dense = self._dense()

    def cells(self) -> list[PlannedCell]:
        """All cells of the table that the user asked for, or else the preset."""
        # what a preset chooses is for the tables that the paper prints
        of_preset = (self.preset.methods, self.preset.rows) if self.table.number else (None, None)
        methods = self.selection.methods or of_preset[0] or tuple(self.table.grids)
        cells = [self.dense_cell(), *self._control_cells()]
        for method in [choose(name, self.table.grids, "method") for name in methods]:
            cells += self.method_cells(method, self.selection.rows or of_preset[1])
        cells += [self._external_cell(name, place) for name, place in self.selection.externals.items()]
        return cells

    def _data(self) -> Job:
        from experiments.stages.data import published_files  # which knows all benchmarks

        domain, benchmarks, paths = self.table.domain, self.table.benchmarks, {}
        if domain not in self.preset.data:
            raise NotInTableError(
                f"the preset {self.preset.name} has no data for {domain}, which {self.table.called} needs"
            )
        data, directory = self.preset.data[domain], self.selection.data_dir
        files: dict[str, str] = {}
        if isinstance(data, PublishedData):
            if directory is not None and not directory.is_dir():
                raise UserError(f"--data-dir {directory} is no directory")
            files = published_files(data, benchmarks, directory)
        elif directory is not None:
            raise UserError(f"the preset {self.preset.name} generates its problems and reads nothing in a --data-dir")
        if directory is not None:
            paths["data_dir"] = str(directory.resolve())
        return self.job(stages.DATA, domain, paths=paths, domain=domain, data=data, benchmarks=benchmarks, files=files)

    def _dense(self) -> Job:
        source, paths = self.preset.models[self.table.model], {}
        if self.selection.model_dir is not None and not isinstance(source, HubModel):
            raise UserError(f"the preset {self.preset.name} makes its model and reads nothing in a --model-dir")
        if isinstance(source, HubModel) and self.selection.model_dir is not None:
            paths["model_dir"] = str(self.selection.model_dir.resolve())
            local = source.directory(self.selection.model_dir.resolve())
            if local.is_dir():  # without it the stage ends in a line that says where it was looked for
                source = source.model_copy(update={"content": checkpoint_hash(str(local), compressible=True)})
        base = self.job(stages.BASE, self.table.model, paths=paths, model=source)
        training = self.preset.finetune_of(self.table.size)
        if training is None:
            return base
        inputs = {"model": base, "data": self.data}
        return self.job(stages.FINETUNE, self.table.model, inputs, training=training, seed=self.preset.seed)

    def _grids(self, method: str) -> list[Grid]:
        """The method's grid, one for each of its settings, with the preset's and the user's laid over the declared."""
        own, rows_of = self.table.grids[method], dict[str, list[int]]()
        values = self.preset.values.get(method, own.values) if self.table.number else own.values
        for row in values:
            rows_of.setdefault(json.dumps(own.settings_of(row), sort_keys=True), []).append(row)
        grids = []
        for rows in rows_of.values():
            settings = own.settings_of(rows[0])
            grid = Grid(rule=own.rule, values={row: values[row] for row in rows})
            if declared(method, settings).searches:
                settings["candidates"] = list(self.preset.search.candidates)
                settings["sensitivity"] = self.preset.search.sensitivity
            if self.selection.eta is not None and "eta" in settings:
                settings["eta"] = self.selection.eta
            try:
                for row in rows:
                    grid.rank_rule(row)
                declared(method, settings)
            except ValueError as error:
                raise UserError(f"{method}: {error}") from error
            grids.append(grid.model_copy(update={"settings": settings}))
        return grids

    def method_cells(self, method: str, rows: Sequence[int] | None) -> list[PlannedCell]:
        """A method at rows of its grid, None for all of them; a row for each seed."""
        grids = self._grids(method)
        known = sorted(row for grid in grids for row in grid.values)
        asked = choose_rows(rows, known, method, self.table.called)
        cells = []
        for grid in grids:
            shared = self._prepared(method, grid)
            for row in (row for row in asked if row in grid.values):
                percent = grid.values[row] * (1 if grid.rule == "nuclear_norm" else 100)
                point: dict[str, Any] = {"settings": grid.settings, "rule": grid.rule, "value": grid.values[row]}
                compressed = self.job(stages.COMPRESS, f"{method} row {row}", shared, method=method, **point)
                for seed in self.seeds():
                    cell = PlannedCell(method, row, seed, percent, grid.rule, grid.settings.get("eta"))
                    cell.jobs = {"compress": compressed, **self._measured_twice(compressed, compressed.label, seed)}
                    cells.append(cell)
        return cells

    def _prepared(self, method: str, grid: Grid) -> dict[str, Job]:
        """The inputs of compress: the dense model, the method's components, and what its search measured."""
        own = declared(method, grid.settings)
        settings: dict[str, Any] = {"method": method, "settings": grid.settings}
        start = {"model": self.dense, "data": self.data}
        statistics = {
            f"statistic {name}": self.job(
                stages.PROFILE, name, start, statistic=name, calibration=self.preset.calibration
            )
            for name in sorted(own.statistics)
        }
        rules = tuple((grid.rule, value) for _, value in sorted(grid.values.items()))
        components = self.job(stages.PREPARE, method, {"model": self.dense, **statistics}, **settings, rules=rules)
        inputs = {"model": self.dense, "components": components}
        if own.searches:
            rows, held_out = self.preset.search.rows, self.preset.perplexity
            load = {"rows": rows, "batch_size": held_out.batch_size, "max_length": held_out.max_length}
            inputs["sensitivity"] = self.job(stages.SCORE, method, {**inputs, "data": self.data}, **settings | load)
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
        if name in {*method_names(), DENSE, DENSE_SFT}:
            raise UserError(f"--external {name}=...: '{name}' is a row of its own already, choose another name")
        content = checkpoint_hash(place)
        # a directory may lie anywhere; on the hub the owner is part of what tells two models apart
        source = ExternalModel(source="external", name=place if content == HUB else Path(place).name, content=content)
        model = self.job(stages.BASE, name, paths={"checkpoint": place}, model=source)
        cell = PlannedCell(name, 1, self.preset.seed, math.nan, EXTERNAL, None)
        cell.jobs = {EXTERNAL: model, "ppl_before": self.perplexity(model, name), **self.accuracies(model, name)}
        return cell

    def _measured_twice(self, model: Job, label: str, seed: int) -> dict[str, Job]:
        """Perplexity before the second SFT, the SFT, and everything after it."""
        training = self.preset.sft_of(self.table.size)
        if seed != self.preset.seed:
            label = f"{label} seed {seed}"
        tuned = self.job(stages.SFT, label, {"model": model, "data": self.data}, training=training, seed=seed)
        return {
            "ppl_before": self.perplexity(model, f"{label} before SFT"),
            "sft": tuned,
            "ppl_after": self.perplexity(tuned, label),
            **self.accuracies(tuned, label),
        }

    def perplexity(self, model: Job, label: str) -> Job:
        """The model's perplexity on held-out responses."""
        inputs = {"model": model, "data": self.data}
        return self.job(stages.PERPLEXITY, label, inputs, perplexity=self.preset.perplexity)

    def accuracies(self, model: Job, label: str) -> dict[str, Job]:
        """ "accuracy BENCHMARK" -> the verdicts on the model's completions."""
        return {
            f"accuracy {benchmark}": self._accuracy(model, benchmark, f"{label} on {benchmark}")
            for benchmark in self.table.benchmarks
        }

    def _accuracy(self, model: Job, benchmark: str, label: str) -> Job:
        from evals.benchmarks import BENCHMARKS

        asked, inputs = self.preset.evaluation_of(benchmark), {"model": model, "data": self.data}
        completions = self.job(stages.EVALUATE, label, inputs, benchmark=benchmark, evaluation=asked)
        isolation = None
        if BENCHMARKS[benchmark].executes:
            isolation = "bubblewrap" if self.selection.isolated else "none"
        judged = {"generations": completions, "data": self.data}
        return self.job(stages.JUDGE, label, judged, benchmark=benchmark, isolation=isolation)

    def seeds(self) -> range:
        """Those of the second SFT."""
        return range(self.preset.seed, self.preset.seed + self.selection.seeds)
