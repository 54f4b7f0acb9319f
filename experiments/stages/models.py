"""Loading what earlier stages wrote."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from evals.tokenisation import padded_batches
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
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def device() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    directory: Path, precision: str, attention: str, place: torch.device | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model, in eval mode and on the accelerator unless another place is given, and tokenizer of a checkpoint."""
    model = load_model(directory, DTYPES[precision], attention).to(place or device())
    return model, AutoTokenizer.from_pretrained(directory)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Puts the tokenizer's files beside a new checkpoint."""
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)


def batches(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], batch_size: int, max_length: int
) -> list[Batch]:
    """Calibration batches of {query, response} rows, prompts masked."""
    return [Batch(*tensors) for tensors in padded_batches(tokenizer, rows, batch_size, max_length)]
