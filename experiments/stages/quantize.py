"""quantize and qlora: a finished model in 8 or 4 bits, and an adapter trained on 4-bit weights."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel, set_seed

from baselines.quantization import save_quantized
from experiments.jobs.stage import Task
from experiments.stages.configs import QLoraConfig, QuantizeConfig
from experiments.stages.data import rows_of
from experiments.stages.models import ADAPTER, DTYPES, copy_tokenizer, device, load
from experiments.stages.train import fit
from impact.compression import parameter_count
from impact.gauge import balance


def run(task: Task) -> dict[str, Any]:
    """Writes the quantized checkpoint; returns its size in parameters, in the file and in memory."""
    config: QuantizeConfig = task.config
    model, _ = load(task.inputs["model"], "fp32", "eager", torch.device("cpu"))
    parameters = parameter_count(model)
    if config.gauge == "balanced":
        balance(model)
    save_quantized(model, task.out, config.scheme, DTYPES[config.precision], device())
    copy_tokenizer(task.inputs["model"], task.out)
    return {"parameters": parameters, **_bytes(task.out, config.precision)}


def qlora(task: Task) -> dict[str, Any]:
    """Trains an adapter on the quantized checkpoint in the slot "model", and writes both."""
    config: QLoraConfig = task.config
    torch.set_num_threads(task.threads)
    set_seed(config.seed)
    rows = rows_of(task.inputs["data"] / "train.jsonl")[: config.qlora.training.rows]
    quantized, tokenizer = load(task.inputs["model"], config.precision, config.attention)
    checkpointing = config.qlora.training.gradient_checkpointing
    prepared = prepare_model_for_kbit_training(quantized, use_gradient_checkpointing=checkpointing)
    lora = LoraConfig(
        r=config.qlora.rank,
        lora_alpha=config.qlora.alpha,
        lora_dropout=config.qlora.dropout,
        target_modules="all-linear",  # but the output layer, as PEFT understands it
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(prepared, lora)
    optimizer = "paged_adamw_32bit" if torch.cuda.is_available() else "adamw_torch_fused"
    limits = {"max_grad_norm": config.qlora.max_grad_norm, "optim": optimizer}
    _, measured = fit(model, tokenizer, rows, task, config.qlora.training, config.seed, **limits)
    shutil.copytree(task.inputs["model"], task.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json"))
    model.save_pretrained(task.out / ADAPTER)
    added = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    return {**measured, "parameters_added": added, **_bytes(task.out, config.precision)}


def _bytes(directory: Path, precision: str) -> dict[str, int]:
    """Of all weight files of a checkpoint, and of the tensors of the model once it is loaded."""
    model: PreTrainedModel = load(directory, precision, "eager")[0]
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    return {
        "file_bytes": sum(path.stat().st_size for path in directory.rglob("*.safetensors")),
        "memory_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()),
    }
