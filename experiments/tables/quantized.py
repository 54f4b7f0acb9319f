"""Tables 1 to 3: which models are quantized, and what is made of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from experiments.errors import NotInTableError
from experiments.jobs.job import Job, with_inputs
from experiments.jobs.store import Store
from experiments.settings import Preset, choose
from experiments.stages.registry import QLORA, QUANTIZE
from experiments.tables.declared import QuantizedTable, Table, load_quantized_table, load_table, quantized_tables
from experiments.tables.planner import PlannedCell, Planner
from experiments.tables.target import OF_MODELS, Asked, Plan, Publication, Selection, Target, choose_rows
from results.measured.cells import DENSE, BenchmarkResult
from results.measured.quantized_cells import QLORA as ADAPTED
from results.measured.quantized_cells import QUANTIZED, QuantizedCell

BITS = {"llm.int8": 8, "int8 weight-only": 8, "nf4": 4}
"""Scheme -> bits of a quantized weight."""


def targets() -> Iterator[Target]:
    """One for each declared table of quantized models."""
    for name in quantized_tables():
        table = load_quantized_table(name)
        figures = (table.figure,) if table.figure else ()
        yield Target(name, table.title, partial(_planned, name), (*OF_MODELS, "seeds", "models"), figures)


def _planned(name: str, asked: Asked) -> "QuantizationPlan":
    table = load_quantized_table(name)
    return plan_quantization(
        table, asked.preset, of_table(table, name, asked), bool(table.figure and asked.wants(table.figure))
    )


def of_table(table: QuantizedTable, name: str, asked: Asked) -> Selection:
    """The selection for a table that has not all methods, or other ones: what `all` is asked for is for most tables.

    Raises NotInTableError if the table has none of the methods.
    """
    selection = asked.selection
    if selection.methods is None or not asked.everything or name in asked.names:
        return selection
    if table.four_bit:  # its methods are no accuracy table's
        return replace(selection, methods=None)
    there = [*table.grids, *table.rows]
    methods = tuple(method for method in selection.methods if method in there)
    if not methods:
        raise NotInTableError(f"{name} has no such methods: it has {', '.join(there)}")
    return replace(selection, methods=methods)


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
class QuantizationPlan(Plan):
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

    @property
    def consulted(self) -> list[Job]:
        """Those of the 4-bit models beside."""
        return self.beside.jobs if self.beside else []

    def publications(self, store: Store, command: str) -> Iterator[Publication]:
        """The table and, once the 4-bit models are measured too, the figure."""
        from experiments.tables import about as report
        from plots.quantization import write_quantization_figure
        from results.tables.quantized import build_quantization_table, quantized_document

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        number, cells = self.declared.number, quantized_cells(self, provenance)
        models = dict.fromkeys(report.model_name(self.preset, planned.table.model) for planned in self.cells)
        benchmarks, domain = self.cells[0].table.benchmarks, self.cells[0].table.domain
        described = {"preset": self.preset.name, "model": " and ".join(models)}
        described |= {"problems": report.problems(self.preset, domain), **report.about_runs(provenance, command)}
        others = []
        if self.beside and all(store.finished(job) for job in self.beside.jobs):
            others = quantized_cells(self.beside, {job.key: store.provenance(job) for job in self.beside.jobs})
        notes = [
            *provenance[self.data.key]["measured"]["notes"].values(),
            *report.generated_note(self.preset, domain, benchmarks),
        ]
        document = quantized_document(cells, number, benchmarks, described, notes, others=others)
        heading = f"Table {number}, measured at preset {self.preset.name} on {described['model']}"
        figures, remarks, figure = None, list[str](), self.declared.figure
        if others and figure:
            four_bit = build_quantization_table(others, 3, benchmarks)
            figures = partial(write_quantization_figure, document.frame, four_bit, figure, benchmarks, described)
        elif figure:
            remarks = [f"{figure} wants the 4-bit models too: ./reproduce.sh {figure}"]
        yield Publication(f"table{number}", heading, document, figures, remarks)


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
    settings = planner.preset.quantization.qlora
    start = planner.dense
    if settings.start == "base":
        start = start.inputs.get("model", start)
    label = f"{table.model} {settings.start} nf4"
    four_bit = planner.job(QUANTIZE, label, {"model": start}, scheme="nf4", gauge="as trained")
    for seed in planner.seeds():
        label = f"{table.model} {ADAPTED}" + f" seed {seed}" * (seed != planner.preset.seed)
        tuned = planner.job(QLORA, label, {"model": four_bit, "data": planner.data}, qlora=settings, seed=seed)
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
        asked = choose_rows(selection.rows or planner.preset.rows, tuple(rows), method, f"table {declared.number}")
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
    made = planner.job(QUANTIZE, label, {"model": model}, scheme=scheme, gauge=gauge)
    jobs = {"quantize": made, "perplexity": planner.perplexity(made, label), **planner.accuracies(made, label)}
    return PlannedQuantization(table, method, row, scheme, gauge, cell, jobs)


def quantized_cells(plan: QuantizationPlan, provenance: Mapping[str, Mapping[str, Any]]) -> list[QuantizedCell]:
    """The plan's cells as measured. provenance: job key -> run.json of every finished job."""

    def measured(job: Job) -> dict[str, Any]:
        return provenance[job.key]["measured"]

    def verdicts(jobs: Mapping[str, Job], benchmarks: Sequence[str]) -> dict[str, BenchmarkResult]:
        found = {name: jobs.get(f"accuracy {name}") for name in benchmarks}
        return {name: BenchmarkResult(**measured(job)) for name, job in found.items() if job}

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
                **{name: getattr(planned, name) for name in ("method", "row", "scheme", "gauge")},
                **{name: getattr(cell, name) for name in ("rank_rule", "eta", "seed")},
                keep=cell.keep_pct if compressed else None,
                bits=bits,
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
