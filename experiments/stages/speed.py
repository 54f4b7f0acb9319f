"""limits and speed: how fast and in how much memory a model generates, beside what the machine allows."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from evals.speed.machine_limits import MachineLimits, hardware_name, machine_limits
from evals.speed.random_weights import ModelShape, random_weights_model
from evals.speed.throughput import SpeedSettings, measure_speed
from experiments.errors import UserError
from experiments.jobs.stage import Task
from experiments.settings import Load, Shape
from experiments.stages.configs import LimitsConfig, SpeedConfig
from experiments.stages.models import DTYPES, device
from impact.checkpoint import load_model
from impact.export import export_model

ROOT = Path(__file__).resolve().parents[2]
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
LIMITS = "limits.json"


def limits(task: Task) -> dict[str, Any]:
    """Measures memory bandwidth and matrix rate, and keeps them for the speed stages."""
    config: LimitsConfig = task.config
    measured = asdict(machine_limits(str(device()), DTYPES[config.precision]))
    (task.out / LIMITS).write_text(json.dumps(measured))
    return measured


def run(task: Task) -> dict[str, Any]:
    """Returns a SpeedMeasurement (evals.speed.throughput) of the input model or of random weights, as a mapping."""
    config: SpeedConfig = task.config
    allowed = MachineLimits(**json.loads((task.inputs["limits"] / LIMITS).read_text()))
    if (here := hardware_name(str(device()))) != allowed.hardware:
        raise UserError(f"the limits were measured on {allowed.hardware}, this is {here}: give --store a new directory")
    # vLLM loads the model itself, in a process of its own
    place = torch.device("cpu") if config.engine == "vllm" else device()
    dtype = DTYPES[config.load.precision]
    if config.random is None:
        model = load_model(task.inputs["model"], dtype, config.attention).to(place)
    else:
        shape, share = model_shape(config.random.shape), config.random.share
        parameters = None if share is None else round(share * shape.parameters())
        model = random_weights_model(shape, parameters, dtype, str(place), config.attention)
    if config.engine == "vllm":
        return _served(model, config, task)
    settings = SpeedSettings(**_numbers(config.load), route=config.route, fused=config.fused)  # type: ignore[arg-type]
    return asdict(measure_speed(model, settings, allowed))


def _numbers(load: Load) -> dict[str, int]:
    return load.model_dump(exclude={"precision"})


def _served(model: PreTrainedModel, config: SpeedConfig, task: Task) -> dict[str, Any]:
    """The measurement by vLLM, which lives in an environment of its own: of an ordinary checkpoint of the model."""
    if not VLLM_PYTHON.exists():
        raise UserError("vLLM is not set up: ./reproduce.sh test-vllm makes its environment")
    dtype = str(model.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory(dir=task.out) as folder:
        checkpoint = Path(folder) / "checkpoint"
        export_model(model, None, checkpoint)
        order = [str(VLLM_PYTHON), "-m", "evals.speed.vllm_throughput", str(checkpoint), "--dtype", dtype]
        order += ["--route", config.route]
        for name, value in _numbers(config.load).items():
            order += [f"--{name.replace('_', '-')}", str(value)]
        environment = os.environ | {"OMP_NUM_THREADS": str(task.threads)}
        ended = subprocess.run(order, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise UserError(f"vLLM ended with exit code {ended.returncode}; what it said is in the log of this job")
    return dict(json.loads(ended.stdout))


def model_shape(shape: Shape) -> ModelShape:
    """A preset's shape as that of a model with random weights."""
    return ModelShape(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
    )
