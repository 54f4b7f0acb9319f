"""Loading what earlier stages wrote."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.tokenisation import padded, tokenise_row
from experiments.errors import UserError
from experiments.jobs.external import one_line_errors
from impact.calibration import Batch
from impact.checkpoint import check_finite, load_model
from impact.compressible import check_checkpoint, check_described
from impact.modeling_impact import CheckpointError

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "added_tokens.json",
)
_DESCRIPTIONS = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
ADAPTER = "adapter"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def device() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    directory: Path, precision: str, attention: str, place: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model, in eval mode and on the accelerator unless another place is given, and tokenizer of a checkpoint.

    A quantized one has the adapter that lies in it on top.
    """
    place = place or device()
    if is_quantized(directory):
        from baselines.quantization import load_quantized  # slow: it imports bitsandbytes

        adapter = directory / ADAPTER
        model = load_quantized(directory, DTYPES[precision], attention, place, adapter if adapter.is_dir() else None)
    else:
        model = load_model(directory, DTYPES[precision], attention).to(place)
    return model, AutoTokenizer.from_pretrained(directory, trust_remote_code=False)


def is_quantized(directory: Path) -> bool:
    """Whether baselines.quantization made a checkpoint; one read from a GGUF file has a quantization_config as well."""
    config, _ = PretrainedConfig.get_config_dict(directory)
    return "quantization" in (config.get("impact_recipe") or {})


def load_checkpoint(
    name: str, dtype: torch.dtype | Literal["auto"], *, compressible: bool, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, torch.dtype]:
    """Model, in eval mode, tokenizer and stored precision of a checkpoint that the user brought.

    name: a directory, or on the hub. compressible: whether it is to be compressed, and not only measured as it is. Code
    that it brings is not run, and not named in what is made of it. Raises UserError with one line if it isn't what
    impact.compressible describes.
    """
    with one_line_errors(name):
        place = Path(name)
        directory = place if place.exists() or place.is_absolute() else _downloaded(name, compressible, revision)
        stored = check_checkpoint(directory, compressible).dtype
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
        if info["missing_keys"]:
            raise CheckpointError(f"it lacks weights: {sorted(info['missing_keys'])[0]}")
        check_finite(model)
    model.config.__dict__.pop("auto_map", None)
    return model.eval(), tokenizer, stored if isinstance(stored, torch.dtype) else torch.float32


def _downloaded(name: str, compressible: bool, revision: str | None) -> Path:
    """The hub's checkpoint in its cache; its weights are asked for only where its config is one to go on with."""
    described = Path(snapshot_download(name, revision=revision, allow_patterns=_DESCRIPTIONS))
    check_described(described, compressible)
    return Path(snapshot_download(name, revision=revision, allow_patterns=[*_DESCRIPTIONS, "model*.safetensors"]))


def copy_tokenizer(source: Path, target: Path) -> None:
    """Puts the tokenizer's files beside a new checkpoint."""
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)


def batches(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], batch_size: int, max_length: int
) -> list[Batch]:
    """Calibration batches of {query, response} rows, prompts masked.

    Raises UserError where nothing of a response is left: statistics of it would be zeros, and nothing would say so.
    """
    tokenised = [tokenise_row(tokenizer, row, max_length) for row in rows]
    if not any(row.teaches for row in tokenised):
        raise UserError(
            f"each of the {len(rows)} prompts fills the {max_length} tokens that are calibrated on: set a larger "
            "max_length under [calibration] of the preset"
        )
    return [Batch(*tensors) for tensors in padded(tokenised, batch_size)]
