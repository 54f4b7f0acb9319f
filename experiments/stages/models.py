"""Loading what earlier stages wrote."""

import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from evals.benchmarks import Row
from evals.tokenisation import tokenise_row
from impact.calibration import IGNORED_LABEL, Batch
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


def batches(tokenizer: PreTrainedTokenizerBase, rows: list[Row], batch_size: int, max_length: int) -> list[Batch]:
    """Right-padded batches of {query, response} rows, prompts masked, rows of like length together."""
    tokenised = sorted(
        (tokenise_row(tokenizer, row["query"], row["response"], max_length) for row in rows),
        key=lambda row: len(row.input_ids),
    )
    made = []
    for start in range(0, len(tokenised), batch_size):
        chunk = tokenised[start : start + batch_size]
        shape = (len(chunk), max(len(row.input_ids) for row in chunk))
        batch = Batch(
            torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED_LABEL)
        )
        for i, row in enumerate(chunk):
            length = len(row.input_ids)
            batch.input_ids[i, :length] = torch.tensor(row.input_ids)
            batch.attention_mask[i, :length] = 1
            batch.labels[i, :length] = torch.tensor(row.labels)
        made.append(batch)
    return made
