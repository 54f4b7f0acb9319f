"""What W&B is shown of a job and of a published table; nothing here needs wandb."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from experiments.jobs.job import Job
from experiments.settings import ExternalModel
from results.measured.cells import DENSE, DENSE_SFT
from results.numbers.statistics import wilson_interval

SHARED = "shared"
"""The method of what every method starts from: data, dense model and statistics."""

POINTS = 24
"""Components that are shown of a unit's spectrum: W&B shows 10,000 rows of a table, and a 7B model has 225 units."""


@dataclass(frozen=True)
class Sheet:
    """A table as W&B takes it."""

    columns: list[str]
    rows: list[list[Any]]


def method_of(job: Job) -> str:
    """Whose model a job makes or measures: a method, `dense`, `dense_sft`, an external checkpoint's name, or SHARED."""
    if method := getattr(job.config, "method", None):
        return str(method)
    if isinstance(getattr(job.config, "model", None), ExternalModel):
        return job.label
    upstream = job.inputs.get("generations") or job.inputs.get("model")
    if upstream is None or job.stage.name in ("finetune", "profile"):
        return SHARED
    found = method_of(upstream)
    if found != SHARED:
        return found
    return DENSE_SFT if job.stage.name == "sft" else DENSE


def tags_of(job: Job, table: str, preset: str) -> list[str]:
    """Table, preset, method and row, as far as the job has them; W&B allows 64 characters."""
    row = re.search(r"\brow \d+", job.label)
    return [tag[:64] for tag in (table, f"preset {preset}", method_of(job), *(row.group() for row in [row] if row))]


def circumstances_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a job's run.json, where its numbers come from, without the command, in which the user's paths stand."""
    return {name: record[name] for name in ("seed", "started", "git", "packages", "hardware")}


def numbers_of(job: Job, record: Mapping[str, Any]) -> dict[str, float]:
    """Of a job's run.json, every number under a name such as perplexity/gsm8k; accuracies in percent, with 95 %
    Wilson limits."""
    measured = dict(record["measured"])
    numbers = {name: record[name] for name in ("wall_s", "peak_memory_mb")}
    if correct := measured.pop("correct", None):
        name, solved, n = job.config.benchmark, sum(correct), len(correct)  # type: ignore[attr-defined]
        interval = wilson_interval(solved, n)
        accuracies = {"accuracy": solved / n, "accuracy_low": interval.low, "accuracy_high": interval.high}
        numbers |= {f"{kind}/{name}": 100 * share for kind, share in accuracies.items()}
        numbers |= {f"problems/{name}": measured.pop("n")}
    measured.pop("kept", None)  # a table of its own
    return numbers | dict(_flat(measured))


def _flat(measured: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in measured.items():
        match value:
            case bool() | str():
                continue
            case int() | float():
                yield prefix + name, value
            case [int() | float() as last]:  # the end of what was logged under this name
                yield f"{prefix}final_{name}", last
            case dict():
                yield from _flat(value, f"{prefix}{name}/")


def spectra(directory: Path) -> Sheet:
    """Of an output of `prepare`, each unit's importance spectrum at a few components, closer together at the front."""
    rows = []
    for unit, spectrum in _spectra(directory):
        total, sums = spectrum.sum(), spectrum.cumsum()
        last = len(spectrum)
        for i in sorted({round(last ** (step / (POINTS - 1))) for step in range(POINTS)}):
            rows.append([unit, i, float(spectrum[i - 1]), _percent(sums[i - 1], total)])
    return Sheet(["unit", "component", "importance", "sum_pct"], rows)


def ranks(kept: Mapping[str, Any], directory: Path) -> Sheet:
    """What each unit keeps, of how much, and the share of its spectrum's sum. directory: the output of `prepare`."""
    rows = []
    for unit, spectrum in _spectra(directory):
        of, keeps = len(spectrum), kept[unit]
        # an index set names the parts with the largest importance, and the spectrum is sorted; None stays dense
        rank = len(keeps) if isinstance(keeps, list) else of if keeps is None else keeps
        rows.append([unit, rank, of, 100 * rank / of, _percent(spectrum[:rank].sum(), spectrum.sum())])
    return Sheet(["unit", "kept", "of", "kept_pct", "sum_pct"], rows)


def _spectra(directory: Path) -> Iterator[tuple[str, Any]]:
    (path,) = directory.glob("*.safetensors")
    with safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            unit, _, tensor = key.rpartition(":")
            if tensor == "spectrum":
                yield unit, file.get_tensor(key).astype(np.float64)


def _percent(part: float, whole: float) -> float | None:
    return 100 * float(part / whole) if whole > 0 else None


def sheet_of(path: Path) -> Sheet:
    """A table's CSV file: measured numbers with their intervals beside the printed ones."""
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return Sheet(columns, [[_value(text) for text in row] for row in rows])


def _value(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def verdicts_of(path: Path) -> Sheet | None:
    """Of a table's JSON file, the verdicts on the paper's statements; None where it has none."""
    verdicts: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8")).get("verdicts") or ()
    if not verdicts:
        return None
    columns = [name for name, value in verdicts[0].items() if not isinstance(value, dict)]
    return Sheet(columns, [[verdict.get(name) for name in columns] for verdict in verdicts])
