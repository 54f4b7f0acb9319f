"""profile: calibration statistics of a model, each an output of its own, all that are missing from one pass."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.jobs.stage import Task
from experiments.stages.configs import ProfileConfig
from experiments.stages.data import rows_of
from experiments.stages.halving import halving
from experiments.stages.models import batches, load
from impact.calibration import Batch, Gathered, calibrate
from impact.compression import by_module

TENSORS, OWNERS = "statistic.safetensors", "owners.json"


def run(task: Task) -> dict[str, Any]:
    """Gathers the statistics of all configs in one pass over the calibration rows."""
    config: ProfileConfig = task.configs[0]
    calibration = config.calibration
    model, tokenizer = load(task.inputs["model"], calibration.precision, config.attention)
    rows = rows_of(task.inputs["data"] / "calibration.jsonl")

    def gathered(batch_size: int) -> dict[str, Any]:
        made = batches(tokenizer, rows, batch_size, calibration.max_length)

        def reported() -> Iterable[Batch]:
            for i, batch in enumerate(made):
                task.progress(i, len(made))
                yield batch

        # on the host one after the other: all of a large model at once would take twice the accumulators beside them
        statistics = calibrate(model, reported(), [c.statistic for c in task.configs], torch.device("cpu"))
        for c, out in zip(task.configs, task.outputs, strict=True):
            save_statistic(statistics[c.statistic], out)
        return {"rows": len(rows), "tokens": sum(int(batch.attention_mask.sum()) for batch in made)}

    return halving(gathered, calibration.batch_size, task.say)


def save_statistic(gathered: Gathered, directory: Path) -> None:
    """One statistic: each tensor once, under the first module that has it, and who shares it."""
    tensors: dict[str, Tensor] = {}
    owners: dict[str, dict[str, str]] = {}
    first: dict[int, str] = {}
    for module, named in gathered.items():
        for name, tensor in named.items():
            key = first.setdefault(id(tensor), f"{module}:{name}")
            tensors[key] = tensor.contiguous().cpu()
            owners.setdefault(module, {})[name] = key
    save_file(tensors, directory / TENSORS)
    (directory / OWNERS).write_text(json.dumps(owners))


def load_statistics(inputs: Mapping[str, Path]) -> dict[str, dict[str, Tensor]]:
    """Module -> tensor name -> tensor, over all inputs whose slot begins with "statistic "; sharing is kept.

    On the host: beside the weights of 13B a GPU has no room for all covariances, and a method moves what it works on.
    """
    return by_module(_load_statistic(place) for slot, place in inputs.items() if slot.startswith("statistic "))


def _load_statistic(directory: Path) -> Gathered:
    tensors = load_file(directory / TENSORS)
    owners = json.loads((directory / OWNERS).read_text())
    return {module: {name: tensors[key] for name, key in named.items()} for module, named in owners.items()}
