"""Accuracy tables: the cells of a grid, and what is published of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import NotInTableError, UserError
from experiments.jobs.job import Job, with_inputs
from experiments.settings import Preset
from experiments.tables.declared import Table, accuracy_tables, load_table
from experiments.tables.planner import EXTERNAL, PlannedCell, Planner
from experiments.tables.target import OF_MODELS, Asked, Plan, Publication, Selection, Target
from results.measured.cells import BenchmarkResult, Cell

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.jobs.store import Store


def targets() -> Iterator[Target]:
    """One for each declared table, with its figure and the size reductions that follow from it."""
    for name in accuracy_tables():
        table = load_table(name)
        yield Target(
            name,
            f"{table.title}; methods {', '.join(table.grids)}",
            partial(_planned, name),
            (*OF_MODELS, "seeds", "external"),
            table.figures,
            dict.fromkeys(table.derived, f"size reductions at the same accuracy, from {name}"),
        )


def _planned(name: str, asked: Asked) -> "AccuracyPlan":
    """Raises NotInTableError if the table of size reductions is wanted and its methods are not."""
    table = load_table(name)
    plan = plan_table(table, asked.preset, asked.selection)
    wanted = {made for made in (name, *table.figures, *table.derived) if asked.wants(made)}
    for derived in wanted & {*table.derived}:
        from results.numbers.paper import BASELINES, METHOD

        measured = {cell.method for cell in plan.cells}
        if not (METHOD in measured and measured & {*BASELINES}):
            reason = f"{derived} compares IMPACT with a baseline: --methods {METHOD} and another one"
            asked.leave_out(derived, NotInTableError(reason))
            wanted.remove(derived)
    return replace(plan, wanted=frozenset(wanted))


@dataclass(frozen=True)
class AccuracyPlan(Plan):
    """The cells of one table at one preset; wanted: of its own name, its figures' and its derived table's."""

    table: Table
    preset: Preset
    cells: list[PlannedCell]
    data: Job
    wanted: frozenset[str] = frozenset()
    consulted: Sequence[Job] = ()

    @cached_property
    def jobs(self) -> list[Job]:
        """Every job, inputs first."""
        return with_inputs(job for cell in self.cells for job in cell.jobs.values())

    def publications(self, store: "Store", command: str) -> Iterator[Publication]:
        """The table with its figure, and the size reductions that follow from it, as far as they are wanted."""
        from experiments.tables import about as report
        from plots.size_accuracy import write_size_accuracy
        from results.statements.reductions import reductions_from_cells
        from results.tables.accuracy import accuracy_document
        from results.tables.reductions import reduction_document

        provenance = {job.key: store.provenance(job) for job in self.jobs}
        cells, table = measured_cells(self, provenance), self.table
        described = report.about(self, provenance, command)
        measured = f"measured at preset {self.preset.name} on {described['model']}"
        if self.wanted - {*table.derived}:
            about, notes = None if table.number else table.title, report.notes(self, provenance)
            document = accuracy_document(cells, table.key, table.benchmarks, described, notes, about)
            heading, figures = f"{document.label}, {measured}", None
            if table.number:
                heading += "; printed: the paper's numbers for its own model"
                figures = partial(write_size_accuracy, document.frame, table.number, table.benchmarks, described)
            yield Publication(table.name, heading, document, figures)
        for derived in self.wanted & {*table.derived}:
            try:
                reductions = reductions_from_cells(int(derived.removeprefix("table")), cells)
            except ValueError as error:
                raise UserError(str(error)) from error
            remarks = [f"- {note}" for note in reductions.notes]
            beside = reduction_document(reductions, described)
            yield Publication(derived, f"{beside.label}, {measured}", beside, remarks=remarks)

    def show_missing(self, missing: Sequence[Job], store: Path, console: "Console") -> None:
        """What they would cost."""
        from experiments.running.estimate import show_estimate

        show_estimate(self, missing, store, console)


def plan_table(table: Table, preset: Preset, selection: Selection) -> AccuracyPlan:
    """Declares every job of a table. Raises UserError for an unknown method, row or unusable setting."""
    planner = Planner(table, preset, selection)
    return AccuracyPlan(table, preset, planner.cells(), planner.data)


def measured_cells(plan: AccuracyPlan, provenance: dict[str, dict[str, Any]]) -> list[Cell]:
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
                **{name: getattr(cell, name) for name in ("method", "row", "keep_pct", "rank_rule", "eta", "seed")},
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
