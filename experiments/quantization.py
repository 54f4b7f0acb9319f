"""Tables 1 to 3: which models are quantized, and what is made of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.errors import NotInTableError
from experiments.jobs import Job, with_inputs
from experiments.plan import PlannedCell, Planner, Selection
from experiments.settings import Preset, QuantizedTable, Table, choose, load_quantized_table, load_table
from experiments.stages.configs import QLoraConfig, QuantizeConfig
from experiments.stages.registry import QLORA, QUANTIZE
from experiments.store import Store
from results.cells import DENSE, BenchmarkResult
from results.quantized_cells import QLORA as ADAPTED
from results.quantized_cells import QUANTIZED, QuantizedCell

BITS = {"llm.int8": 8, "int8 weight-only": 8, "nf4": 4}
"""Scheme -> bits of a quantized weight."""


@dataclass
class PlannedQuantization:
    """A quantized model and the jobs that measure it.

    table: the accuracy table that it comes from. cell: its model before quantization; of it, the jobs that are needed.
    """

    table: Table
    method: str
    row: int
    scheme: str
    gauge: str
    cell: PlannedCell
    jobs: dict[str, Job] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationPlan:
    """The cells of Table 1, 2 or 3 at one preset.

    beside: the 4-bit models of the same dense model, with which the figure is drawn and statements are judged.
    drawn: whether they are to be measured too.
    """

    declared: QuantizedTable
    preset: Preset
    cells: list[PlannedQuantization]
    data: Job
    beside: "QuantizationPlan | None" = None
    drawn: bool = False

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        own = [job for cell in self.cells for job in (*cell.jobs.values(), *cell.cell.jobs.values())]
        return with_inputs([*own, *(self.beside.jobs if self.drawn and self.beside else ())])

    def publish(self, store: Store, out: Path, command: str, console: Console) -> list[Path]:
        """Writes tableN.{csv,md,json} and, once Table 3 is measured too, the figure; shows table and verdicts.

        Returns the files.
        """
        from experiments.report import about_runs, generated_note, model_name, problems, show_verdicts
        from plots.quantization import write_quantization_figure
        from results.documents import table_files
        from results.quantization import build_quantization_table, render_terminal, write_quantization_table

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        number, cells = self.declared.number, quantized_cells(self, provenance)
        models = dict.fromkeys(model_name(self.preset, planned.table.model) for planned in self.cells)
        benchmarks = self.cells[0].table.benchmarks
        domain = self.cells[0].table.domain
        described = {"preset": self.preset.name, "model": " and ".join(models)}
        described |= {"problems": problems(self.preset, domain), **about_runs(provenance, command)}
        beside, figure = self.beside, self.declared.figure
        others, figures = [], list[Path]()
        if beside and all(store.finished(job) for job in beside.jobs):
            others = quantized_cells(beside, {job.key: store.provenance(job) for job in beside.jobs})
        notes = [
            *provenance[self.data.key]["measured"]["notes"].values(),
            *generated_note(self.preset, domain, benchmarks),
        ]
        table, verdicts = write_quantization_table(cells, number, benchmarks, described, out, notes, others=others)
        console.print(f"Table {number}, measured at preset {self.preset.name} on {described['model']}", markup=False)
        console.print(render_terminal(table))
        show_verdicts(verdicts, console)
        names = [f"table{number}.{{csv,md,json}}"]
        if others and figure:
            four_bit = build_quantization_table(others, 3, benchmarks)
            figures = write_quantization_figure(table, four_bit, figure, benchmarks, described, out)
            names += sorted({path.stem + ".{png,pdf}" for path in figures})
        elif figure:
            console.print(f"figure{figure} wants the 4-bit models too: ./reproduce.sh figure{figure}")
        console.print(f"written to {out}: {', '.join(names)}", markup=False)
        return [*table_files(out, f"table{number}"), *figures]


def plan_quantization(
    declared: QuantizedTable, preset: Preset, selection: Selection, drawn: bool = False
) -> QuantizationPlan:
    """Declares every job of a quantized table, which has no row for an external checkpoint.

    Raises UserError for an unknown model, method or row.
    """
    tables = {table.model: table for table in map(load_table, declared.tables)}
    for model in selection.models or ():
        choose(model, tables, f"model of table {declared.number}")
    cells: list[PlannedQuantization] = []
    beside = None
    if declared.beside:
        four_bit = load_quantized_table(declared.beside).model_copy(update={"tables": declared.tables})
        beside = plan_quantization(four_bit, preset, replace(selection, methods=None))
    for table in (tables[model] for model in selection.models or tables):
        grids = {method: table.grids[method] for method in declared.rows} | declared.grids
        planner = Planner(table.model_copy(update={"grids": grids}), preset, selection)
        cells += (
            _four_bit(table, planner, selection)
            if declared.four_bit
            else _eight_bit(declared, table, planner, selection)
        )
    return QuantizationPlan(declared, preset, cells, planner.data, beside, drawn)


def _four_bit(table: Table, planner: Planner, selection: Selection) -> Iterator[PlannedQuantization]:
    """The dense model in 4 bits, and QLoRA."""
    methods = [choose(name, (QUANTIZED, ADAPTED), "method") for name in selection.methods or (QUANTIZED, ADAPTED)]
    if QUANTIZED in methods:
        yield _quantized(table, planner, QUANTIZED, 1, planner.dense_cell(), "nf4", "as trained")
    if ADAPTED in methods:
        yield from _adapted(table, planner)


def _adapted(table: Table, planner: Planner) -> Iterator[PlannedQuantization]:
    """QLoRA, once a seed. No model is its own before quantization."""
    settings, precision = planner.preset.quantization.qlora, planner.preset.hardware.precision
    start = planner.dense
    if settings.start == "base":
        start = start.inputs.get("model", start)
    config = QuantizeConfig(scheme="nf4", gauge="as trained", precision=precision)
    four_bit = Job(QUANTIZE, config, {"model": start}, label=f"{table.model} {settings.start} nf4")
    for seed in planner.seeds():
        label = f"{table.model} {ADAPTED}" + f" seed {seed}" * (seed != planner.preset.seed)
        training = QLoraConfig(qlora=settings, seed=seed, precision=precision, attention=planner.attention)
        tuned = Job(QLORA, training, {"model": four_bit, "data": planner.data}, label=label)
        jobs = {"quantize": four_bit, "qlora": tuned, "perplexity": planner.perplexity(tuned, label)}
        cell = PlannedCell(ADAPTED, 1, seed, math.nan, "none", None)
        jobs |= planner.accuracies(tuned, label)
        yield PlannedQuantization(table, ADAPTED, 1, "nf4 + lora", "as trained", cell, jobs)


def _eight_bit(
    declared: QuantizedTable, table: Table, planner: Planner, selection: Selection
) -> Iterator[PlannedQuantization]:
    """The dense model and the compressed ones in 8 bits."""
    chosen = planner.preset.quantization
    yield _quantized(table, planner, DENSE, 0, planner.dense_cell(), chosen.eight_bit, "as trained")
    methods = [*declared.grids, *declared.rows]
    for method in (choose(name, methods, "method") for name in selection.methods or methods):
        rows = declared.rows.get(method) or {row: row for row in declared.grids[method].values}
        asked = selection.rows or planner.preset.rows or tuple(rows)
        for row in asked:
            if row not in rows:
                there = ", ".join(map(str, rows))
                raise NotInTableError(f"{method} has no row {row} in table {declared.number}: its rows are {there}")
        cells = planner.method_cells(method, [rows[row] for row in asked])
        numbers = {there: here for here, there in rows.items()}
        for cell in cells:
            gauge = chosen.gauge if method in declared.rows else "as trained"  # a pruned layer has no factors
            yield _quantized(table, planner, method, numbers[cell.row], cell, chosen.eight_bit, gauge)


def _quantized(
    table: Table, planner: Planner, method: str, row: int, cell: PlannedCell, scheme: str, gauge: str
) -> PlannedQuantization:
    """A cell's finished model, quantized and measured."""
    model = cell.jobs.get("sft") or cell.jobs["dense"]
    label = f"{model.label} {scheme}" + " balanced" * (gauge == "balanced")
    config = QuantizeConfig.model_validate(
        {"scheme": scheme, "gauge": gauge, "precision": planner.preset.hardware.precision}
    )
    made = Job(QUANTIZE, config, {"model": model}, label=label)
    jobs = {"quantize": made, "perplexity": planner.perplexity(made, label), **planner.accuracies(made, label)}
    return PlannedQuantization(table, method, row, scheme, gauge, cell, jobs)


def quantized_cells(plan: QuantizationPlan, provenance: Mapping[str, Mapping[str, Any]]) -> list[QuantizedCell]:
    """The plan's cells as measured. provenance: job key -> run.json of every finished job."""

    def measured(job: Job) -> dict[str, Any]:
        return provenance[job.key]["measured"]

    def verdicts(jobs: Mapping[str, Job], benchmarks: Sequence[str]) -> dict[str, BenchmarkResult]:
        return {
            name: BenchmarkResult(**measured(jobs[f"accuracy {name}"]))
            for name in benchmarks
            if f"accuracy {name}" in jobs
        }

    cells = []
    for planned in plan.cells:
        cell, jobs = planned.cell, planned.jobs
        made = {**measured(jobs["quantize"]), **measured(jobs.get("qlora", jobs["quantize"]))}
        compressed = cell.jobs.get("compress")
        # as published: with lm_head tied, where it is
        dense = measured(compressed)["tied_parameters"] if compressed else made["parameters"]
        parameters = made["parameters"] + made.get("parameters_added", 0)
        # FLAP's printed sizes are the share that was asked for, of everything (docs/assumptions.md)
        nominal = cell.keep_pct / 100 * dense if planned.method in plan.declared.grids else parameters
        before = cell.jobs.get("ppl_after") or cell.jobs.get("ppl_before")
        bits = BITS[planned.scheme.removesuffix(" + lora")]
        cells.append(
            QuantizedCell(
                model=planned.table.model,
                method=planned.method,
                row=planned.row,
                keep=cell.keep_pct if compressed else None,
                rank_rule=cell.rank_rule,
                eta=cell.eta,
                bits=bits,
                scheme=planned.scheme,
                gauge=planned.gauge,
                seed=cell.seed,
                parameters=parameters,
                dense_parameters=dense,
                nominal_bytes=round(nominal * bits / 8),
                file_bytes=made["file_bytes"],
                memory_bytes=made["memory_bytes"],
                perplexity=measured(jobs["perplexity"])["perplexity"],
                unquantized_perplexity=measured(before)["perplexity"] if before else {},
                benchmarks=verdicts(jobs, planned.table.benchmarks),
                unquantized=verdicts(cell.jobs, planned.table.benchmarks),
                runs={slot: job.key for slot, job in (cell.jobs | jobs).items()},
            )
        )
    return cells
