"""Writing a table and its figures from finished jobs."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from experiments.plan import Plan, measured_cells
from experiments.settings import GeneratedData, HubModel, InitialisedModel, WheelModel
from experiments.store import Store
from plots.size_accuracy import write_size_accuracy
from results.table import render_terminal, write_table

OUTCOME_STYLES = {"holds": "green", "does not hold": "red", "cannot be told apart": "yellow", "not measured": "dim"}


def publish(plan: Plan, store: Store, out: Path, command: str, console: Console) -> list[Path]:
    """Writes tableN.{csv,md,json} and its figures under `out`, shows table and verdicts, and returns the files."""
    provenance = {job.key: store.provenance(job) for job in plan.jobs}
    cells = measured_cells(plan, provenance)
    described = about(plan, provenance, command)
    notes = list(provenance[plan.data.key]["measured"]["notes"].values()) + _notes(plan, provenance)
    table, verdicts = write_table(cells, plan.table.number, plan.table.benchmarks, described, out, notes)
    figures = write_size_accuracy(table, plan.table.number, plan.table.benchmarks, described, out)
    heading = f"Table {plan.table.number}, measured at preset {plan.preset.name} on {described['model']};"
    console.print(f"{heading} printed: the paper's numbers for its own model", markup=False)
    console.print(render_terminal(table))
    for verdict in verdicts:
        line = Text(f"{verdict.verdict}: ", style=OUTCOME_STYLES[verdict.verdict])
        console.print(line.append(f"{verdict.statement} ({verdict.section}) {verdict.explanation}", style="default"))
    names = [f"table{plan.table.number}.{{csv,md,json}}", *sorted({path.stem + ".{png,pdf}" for path in figures})]
    console.print(f"written to {out}: {', '.join(names)}", markup=False)
    return [*(out / f"table{plan.table.number}.{kind}" for kind in ("csv", "md", "json")), *figures]


def about(plan: Plan, provenance: dict[str, dict[str, Any]], command: str) -> dict[str, str]:
    """What every accuracy table says of where its numbers come from."""
    return {
        "preset": plan.preset.name,
        "model": model_name(plan),
        "problems": "generated" if _generated(plan) else "published",
        **about_runs(provenance, command),
    }


def about_runs(provenance: dict[str, dict[str, Any]], command: str) -> dict[str, str]:
    """Date, command, commits, work, hardware and packages of finished jobs; provenance: job key -> its run.json."""
    last = max(provenance.values(), key=lambda run: str(run["started"]))
    first = min(str(run["started"]) for run in provenance.values())
    commits = {f"{run['git']['commit']}"[:12] + "+changes" * run["git"]["dirty"] for run in provenance.values()}
    hardware = last["hardware"]
    gpu = f", {hardware['gpu']}" if hardware["gpu"] else ""
    return {
        "date": str(last["started"])[:10],
        "command": command,
        "commits": ", ".join(sorted(commits)),
        "measured": f"{first} to {last['started']}",
        "work": f"{sum(run['wall_s'] for run in provenance.values()) / 60:.1f} minutes of stages",
        "peak memory of a stage": f"{max(run['peak_memory_mb'] for run in provenance.values()) / 1024:.2f} GiB",
        "hardware": f"{hardware['cores']} cores, {hardware['cpu']}{gpu}",
        "packages": ", ".join(f"{name} {version}" for name, version in last["packages"].items()),
    }


def _generated(plan: Plan) -> bool:
    return isinstance(plan.preset.data[plan.table.domain], GeneratedData)


def model_name(plan: Plan) -> str:
    """What a person calls the plan's dense model."""
    source = plan.preset.models[plan.table.model]
    if isinstance(source, InitialisedModel):
        return f"a Llama of width {source.hidden_size} and {source.layers} layers, trained from scratch"
    if isinstance(source, WheelModel):
        return source.about
    assert isinstance(source, HubModel)
    return source.repository


def _notes(plan: Plan, provenance: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    if _generated(plan):
        notes.append(
            f"The problems are generated in the format of {' and '.join(plan.table.benchmarks)}; they are not those "
            "sets, and their numbers compare with each other only."
        )
    if plan.preset.values:
        notes.append(
            "This preset's rows keep more than the paper's rows of the same number (column keep): a small model has "
            "less to spare. Printed numbers stand beside them for the method and the row, not for the same keep ratio."
        )
    for cell in plan.cells:
        if "compress" in cell.jobs:
            sizes = provenance[cell.jobs["compress"].key]["measured"]
            if sizes["tied_parameters"] != sizes["dense_parameters"]:
                notes.append(
                    f"lm_head shares the embedding's weights in this model: {sizes['tied_parameters']:,} parameters as "
                    f"published, {sizes['dense_parameters']:,} once untied, which is what sizes are compared with."
                )
            break
    return notes
