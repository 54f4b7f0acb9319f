"""Loading what earlier stages wrote."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evals.tokenisation import padded, tokenise_row
from experiments.errors import UserError
from impact.calibration import Batch
from impact.checkpoint import load_model

TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "added_tokens.json",
)
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
    return model, AutoTokenizer.from_pretrained(directory)


def is_quantized(directory: Path) -> bool:
    """Whether baselines.quantization made a checkpoint; one read from a GGUF file has a quantization_config as well."""
    config, _ = PretrainedConfig.get_config_dict(directory)
    return "quantization" in (config.get("impact_recipe") or {})


def load_checkpoint(name: str, dtype: torch.dtype | Literal["auto"]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model, in eval mode, and tokenizer of a checkpoint that the user brought: a directory or a name on the hub.

    Raises UserError with one line if it can't be loaded, holds no safetensors, or lacks weights.
    """
    with one_line_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(name)
        model, info = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    if info["missing_keys"]:
        raise UserError(f"{name} lacks weights: {sorted(info['missing_keys'])[0]}")
    return model.eval(), tokenizer


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turns what goes wrong in loading a user's checkpoint into a UserError."""
    try:
        yield
    except Exception as error:  # the hub, safetensors, tokenizers and transformers have each their own
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        what = f"{name} can't be loaded" if Path(name).exists() else f"no model {name}, neither here nor on the hub"
        raise UserError(f"{what}: {first}") from None


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
