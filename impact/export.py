"""From a compressed model in memory to an ordinary Hugging Face directory (impact.modeling_impact)."""

import json
import os
import shutil
from pathlib import Path
from textwrap import shorten
from typing import Any
from uuid import uuid4

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from impact import architectures, modeling_impact
from impact.checkpoint import check_finite, pruned_layers
from impact.factorisation import FactorisedLinear
from impact.modeling_impact import PREFIX, CheckpointError, classes

ARCHITECTURES = tuple(architectures.ARCHITECTURES)
"""Model types of dense models that have a compressed counterpart."""


def export_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    directory: Path,
    *,
    dtype: torch.dtype | None = None,
    recipe: dict[str, Any] | None = None,
    max_shard_size: str = "5GB",
) -> None:
    """Writes a dense, mixed or compressed model, its tokenizer and its modeling file, all of it or nothing.

    model: as impact.compression.compress leaves it or impact.checkpoint.load_model returns it. dtype: of the stored
    weights, the model's own by default. recipe: kept in config.json for whoever reads it. Raises CheckpointError if
    the directory exists, or for an architecture, a layer or a number that has no place in such a checkpoint.
    """
    if directory.exists():
        raise CheckpointError(f"{directory} exists already")
    exported = as_pretrained(model)
    if recipe is not None:
        exported.config.impact_recipe = recipe
    if dtype is not None:
        exported.to(dtype)
    check_finite(exported)  # half precision ends at 65504
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{uuid4().hex}")
    partial.mkdir()
    try:
        exported.save_pretrained(partial, max_shard_size=max_shard_size)
        if tokenizer is not None:
            save_tokenizer(tokenizer, partial)
        for path in partial.rglob("*"):
            if path.is_file():  # safetensors makes its files private, and a server is another user
                path.chmod(partial.stat().st_mode & 0o666)
            _sync(path)
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(directory.parent)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Writes its files, without a word of code that it came with: whoever trusts our code would run that, too."""
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.pop("auto_map", None) is not None:
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def as_pretrained(model: PreTrainedModel) -> PreTrainedModel:
    """The model as its impact_* class, on the same tensors; for saving, since its buffers hold no values."""
    architecture = model.config.model_type.removeprefix(PREFIX)
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"no compressed form of model type '{architecture}': there are {', '.join(ARCHITECTURES)}"
        )
    config_class, _, model_class = classes(architecture)
    values = model.config.to_dict()
    # how the weights that it was read from were quantized (GGUF) is not how these are
    for name in ("model_type", "architectures", "auto_map", "quantization_config"):
        values.pop(name, None)
    values["impact_ranks"] = {
        name: module.down.out_features
        for name, module in model.named_modules()
        if isinstance(module, FactorisedLinear | modeling_impact.FactorisedLinear)
    }
    with torch.device("meta"):
        values["impact_pruned"] = None
        values["impact_pruned"] = pruned_layers(model, model_class(config_class(**values))) or None
        exported: Any = model_class(config_class(**values))
    try:
        exported.load_state_dict(model.state_dict(), assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"a layer is neither dense, factorised nor pruned: {shorten(str(error), 300)}") from None
    exported.tie_weights()
    exported.generation_config = model.generation_config
    return exported


def _sync(path: Path) -> None:
    """Brings a file's or a folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
