"""prepare, score and compress: from a model and its statistics to a smaller model.

prepare and score run once a method, compress once a cell.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baselines.registry import build_method
from experiments.jobs.stage import Task
from experiments.stages.components import load_components, save_components
from experiments.stages.configs import CompressConfig, PrepareConfig, ScoreConfig
from experiments.stages.data import rows_of
from experiments.stages.models import batches, copy_tokenizer, load
from experiments.stages.profile import load_statistics
from experiments.stages.search import SearchPerplexity, evaluations
from impact.checkpoint import save_model
from impact.compression import compress, parameter_count, prepare_units, untie_compressed_head
from impact.interface import Components, Sensitivity
from impact.rank_rule import RankRule

SENSITIVITY = "sensitivity.json"


def prepare(task: Task) -> dict[str, Any]:
    """Components of every unit, capped at the largest part that the grid asks for."""
    config: PrepareConfig = task.config
    method = build_method(config.method, config.settings)
    rules = [RankRule(kind, value) for kind, value in config.rules]  # type: ignore[arg-type]
    model, _ = load(task.inputs["model"], "fp32", "eager")
    untie_compressed_head(method, model)
    units = method.units(model)

    def prepared() -> Iterator[tuple[str, Components]]:
        for i, unit in enumerate(prepare_units(method, model, load_statistics(task.inputs), rules)):
            task.progress(i, len(units))
            yield unit

    return {"units": save_components(prepared(), task.out)}


def score(task: Task) -> dict[str, Any]:
    """Runs the method's search and keeps what it measured."""
    config: ScoreConfig = task.config
    method = build_method(config.method, config.settings)
    model, tokenizer = load(task.inputs["model"], config.precision, config.attention)
    untie_compressed_head(method, model)
    rows = rows_of(task.inputs["data"] / "calibration.jsonl")[: config.rows]
    components = load_components(task.inputs["components"])
    made = batches(tokenizer, rows, config.batch_size, config.max_length)
    perplexity = SearchPerplexity(made, evaluations(method, components), task.progress)
    sensitivity = method.score(model, components, perplexity) or {}
    (task.out / SENSITIVITY).write_text(json.dumps(sensitivity))
    return {"evaluations": sum(len(row) for row in sensitivity.values())}


def load_sensitivity(inputs: Mapping[str, Path]) -> Sensitivity | None:
    """What `score` stored, if it is among the inputs."""
    if "sensitivity" not in inputs:
        return None
    stored = json.loads((inputs["sensitivity"] / SENSITIVITY).read_text())
    return {name: {float(ratio): ppl for ratio, ppl in row.items()} for name, row in stored.items()}


def run(task: Task) -> dict[str, Any]:
    """Writes the compressed checkpoint; returns sizes and ranks."""
    config: CompressConfig = task.config
    method = build_method(config.method, config.settings)
    model, _ = load(task.inputs["model"], "fp32", "eager")
    tied_parameters = parameter_count(model)
    untie_compressed_head(method, model)
    dense_parameters = parameter_count(model)
    components = load_components(task.inputs["components"])
    rule = RankRule(config.rule, config.value)  # type: ignore[arg-type]
    kept = method.allocate(rule, components, load_sensitivity(task.inputs))
    compress(model, method, components, kept, load_statistics(task.inputs))
    save_model(model, task.out)
    copy_tokenizer(task.inputs["model"], task.out)
    return {
        "parameters": parameter_count(model),
        "dense_parameters": dense_parameters,
        "tied_parameters": tied_parameters,
        "kept": kept,
    }
