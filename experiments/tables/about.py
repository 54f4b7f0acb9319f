"""What a table says of where its numbers come from: model, problems, runs, and what is to be known of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.settings import Domain, GeneratedData, HubModel, InitialisedModel, Preset, Shape, WheelModel

if TYPE_CHECKING:
    from experiments.tables.accuracy import AccuracyPlan


def about(plan: "AccuracyPlan", provenance: dict[str, dict[str, Any]], command: str) -> dict[str, str]:
    """What every accuracy table says of where its numbers come from."""
    return {
        "preset": plan.preset.name,
        "model": model_name(plan.preset, plan.table.model),
        "problems": problems(plan.preset, plan.table.domain),
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


def problems(preset: Preset, domain: Domain) -> str:
    """Where a preset's problems are from: "generated" or "published"."""
    return "generated" if isinstance(preset.data[domain], GeneratedData) else "published"


@contextmanager
def measured_alike() -> Iterator[None]:
    """Turns points of different machines or numbers of threads in one table of times into a UserError."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{error}: measure all with the same --cores on one machine, in a --store DIR") from None


def model_name(preset: Preset, model: str) -> str:
    """What a person calls one of a preset's dense models."""
    source = preset.models[model]
    if isinstance(source, InitialisedModel):
        return f"a Llama of width {source.hidden_size} and {source.layers} layers, trained from scratch"
    if isinstance(source, WheelModel):
        return source.about
    assert isinstance(source, HubModel)
    return source.repository


def generated_note(preset: Preset, domain: Domain, benchmarks: Sequence[str]) -> list[str]:
    """What is to be said where the problems are not the published ones."""
    if problems(preset, domain) == "published":
        return []
    return [
        f"The problems are generated in the format of {' and '.join(benchmarks)}; they are not those sets, and their "
        "numbers compare with each other only."
    ]


def random_weights(shape: Shape) -> str:
    """What a person calls a model that no method has touched."""
    return f"random weights in the shape of a Llama of width {shape.hidden_size} and {shape.layers} layers"


def notes(plan: "AccuracyPlan", provenance: dict[str, dict[str, Any]]) -> list[str]:
    """What is to be said of an accuracy table beyond what its cells say."""
    notes = [*provenance[plan.data.key]["measured"]["notes"].values()]
    notes += generated_note(plan.preset, plan.table.domain, plan.table.benchmarks)
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
