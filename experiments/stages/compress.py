"""prepare, score and compress: from a model and its statistics to a smaller model.

prepare and score run once a method, compress once a cell.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from baselines.registry import build_method
from evals.perplexity import response_perplexity
from evals.tokenisation import IGNORED_LABEL, padded_batches
from experiments.stages.configs import CompressConfig, PrepareConfig, ScoreConfig
from experiments.stages.data import rows_of
from experiments.stages.interface import Task
from experiments.stages.models import copy_tokenizer, load
from experiments.stages.profile import load_statistics
from impact.checkpoint import save_model
from impact.compression import compress, parameter_count, prepare_units, untie_compressed_head
from impact.interface import Components, Sensitivity
from impact.rank_rule import RankRule

COMPONENTS, SHAPES, SENSITIVITY = "components.safetensors", "shapes.json", "sensitivity.json"


def prepare(task: Task) -> dict[str, Any]:
    """Components of every unit, capped at the largest part that the grid asks for."""
    config: PrepareConfig = task.config
    method = build_method(config.method, config.settings)
    rules = [RankRule(kind, value) for kind, value in config.rules]  # type: ignore[arg-type]
    model, _ = load(task.inputs["model"], "fp32", "eager")
    untie_compressed_head(method, model)
    tensors: dict[str, Tensor] = {}
    shapes = {}
    units = method.units(model)
    for i, (name, components) in enumerate(prepare_units(method, model, load_statistics(task.inputs), rules)):
        task.progress(i, len(units))
        shapes[name] = components.shape
        tensors[f"{name}:spectrum"] = components.spectrum.cpu()
        for key, tensor in components.tensors.items():
            tensors[f"{name}:{key}"] = tensor.float().cpu().contiguous()
    save_file(tensors, task.out / COMPONENTS)
    (task.out / SHAPES).write_text(json.dumps(shapes))
    return {"units": len(shapes)}


def load_components(directory: Path) -> dict[str, Components]:
    """What `prepare` stored: unit -> components."""
    shapes = json.loads((directory / SHAPES).read_text())
    loaded = {name: Components(torch.empty(0), {}, tuple(shape)) for name, shape in shapes.items()}
    with safe_open(directory / COMPONENTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            name, _, tensor = key.rpartition(":")
            if tensor == "spectrum":
                loaded[name].spectrum = file.get_tensor(key)
            else:
                loaded[name].tensors[tensor] = file.get_tensor(key)
    return loaded


def score(task: Task) -> dict[str, Any]:
    """Runs the method's search and keeps what it measured."""
    config: ScoreConfig = task.config
    method = build_method(config.method, config.settings)
    model, tokenizer = load(task.inputs["model"], config.precision, config.attention)
    untie_compressed_head(method, model)
    rows = rows_of(task.inputs["data"] / "calibration.jsonl")[: config.rows]
    components = load_components(task.inputs["components"])
    perplexity = SearchPerplexity(task, tokenizer, rows, len(components) * len(config.settings.get("candidates", [1])))
    sensitivity = method.score(model, components, perplexity) or {}
    (task.out / SENSITIVITY).write_text(json.dumps(sensitivity))
    return {"evaluations": sum(len(row) for row in sensitivity.values())}


@dataclass
class SearchPerplexity:
    """Perplexity of the search's rows, with progress; also the losses behind it, for a search that goes by gradients.

    expected: how many evaluations the progress is counted against.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    rows: Sequence[Mapping[str, Any]]
    expected: int
    calls: int = 0

    def __call__(self, model: nn.Module) -> float:
        config: ScoreConfig = self.task.config
        self.calls += 1
        self.task.progress(min(self.calls, self.expected), self.expected)
        return response_perplexity(
            model, self.tokenizer, self.rows, batch_size=config.batch_size, max_length=config.max_length
        )

    def losses(self, model: nn.Module) -> Iterator[tuple[Tensor, int]]:
        """Of each batch, with its graph: the summed negative log-likelihood, and of how many response tokens."""
        config: ScoreConfig = self.task.config
        for batch in padded_batches(self.tokenizer, self.rows, config.batch_size, config.max_length):
            ids, mask, labels = (tensor.to(next(model.parameters()).device) for tensor in batch)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            counted = labels[:, 1:] != IGNORED_LABEL
            loss = F.cross_entropy(logits[counted].float(), labels[:, 1:][counted], reduction="sum")
            yield loss, int(counted.sum())


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
