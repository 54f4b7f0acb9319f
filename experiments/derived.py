"""What is computed from accuracy tables without measuring anything: Tables 10-13 and the list of claims."""

from pathlib import Path

from rich.console import Console

from experiments.errors import UserError
from experiments.plan import Plan, measured_cells
from experiments.report import about
from experiments.store import Store
from results import claims_report, reduction_report
from results.claims import claims
from results.documents import measured_points, table_files
from results.profiling import TABLE as PROFILING_TABLE
from results.profiling import ProfilingPoint
from results.quantization import quantized_cells_of
from results.size_reduction import ReductionTable, reductions_from_cells, reductions_from_paper
from results.speed import TABLE as SPEED_TABLE
from results.speed import SpeedPoint
from results.table import measured_cells_of


def publish_reductions(plan: Plan, store: Store, out: Path, command: str, console: Console) -> list[Path]:
    """The table of size reductions that follows from the plan's finished accuracy table; returns its files.

    Raises UserError if IMPACT and a baseline were not both measured.
    """
    provenance = {job.key: store.provenance(job) for job in plan.jobs}
    try:
        table = reductions_from_cells(plan.table.derived, measured_cells(plan, provenance))
    except ValueError as error:
        raise UserError(str(error)) from error
    described = about(plan, provenance, command)
    reduction_report.write_size_reduction(table, described, out)
    _show(table, f"measured at preset {plan.preset.name} on {described['model']}", out, console)
    return table_files(out, f"table{table.number}")


def publish_printed_reductions(number: int, out: Path, command: str, console: Console) -> None:
    """Table 10, 11, 12 or 13 recomputed from the accuracies that the paper prints."""
    table = reductions_from_paper(number)
    reduction_report.write_size_reduction(table, {"command": command}, out)
    _show(table, "recomputed from the numbers that the paper prints", out, console)


def _show(table: ReductionTable, source: str, out: Path, console: Console) -> None:
    console.print(f"Table {table.number}, {source}", markup=False)
    console.print(reduction_report.render_terminal(table))
    for note in table.notes:
        console.print(f"- {note}", markup=False)
    console.print(f"written to {out}: table{table.number}.{{csv,md,json}}", markup=False)


def publish_claims(measured: Path, out: Path, command: str, console: Console) -> None:
    """The paper's claims, judged on its printed tables and on those measured ones that lie in a folder."""
    tables = measured_cells_of(measured)
    quantized = quantized_cells_of(measured)
    speed = measured_points(measured / f"table{SPEED_TABLE}.json", SpeedPoint)
    profiling = measured_points(measured / f"table{PROFILING_TABLE}.json", ProfilingPoint)
    found = claims(tables, [cell for cells in quantized.values() for cell in cells], speed, profiling)
    costs = [*[SPEED_TABLE] * bool(speed), *[PROFILING_TABLE] * bool(profiling)]
    names = ", ".join(f"Table {number}" for number in sorted({*tables, *quantized, *costs})) or "none"
    claims_report.write_claims(found, {"command": command, "measured tables": f"{names} of {measured.name}"}, out)
    console.print(claims_report.render_terminal(found))
    console.print(f"measured tables: {names} (in {measured})", markup=False)
    console.print(f"written to {out}: claims.{{csv,md,json}}", markup=False)
