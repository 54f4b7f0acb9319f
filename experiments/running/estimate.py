"""What a job would cost on GPUs: for `--dry-run`, and for what a cluster is asked for.

Costs are counted from the model's real shapes (meta device) and printed sizes, against the rates below; they are
estimates to plan a cluster allocation with, not measurements.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as Grid

from evals.benchmarks import get_benchmark
from evals.published import published_set
from experiments.jobs.job import Job
from experiments.settings import HubModel, PublishedData, Shape, Training

if TYPE_CHECKING:
    from experiments.tables.accuracy import AccuracyPlan

# One A100-80GB, and what of its peak such work reaches.
BF16_FLOPS, FP32_FLOPS, FP64_FLOPS = 312e12 * 0.4, 19.5e12 * 0.9, 9.7e12 * 0.5
BANDWIDTH = 2.0e12 * 0.4
TOKENS_PER_ROW = 250  # of MetaMathQA under Llama's tokenizer; the paper's profiling times agree with it
STORED_BYTES = 4  # of a parameter in a checkpoint: float32
IMPORTS_GB = 8  # of one process with torch, transformers and CUDA's libraries, generously

# Of stages that cost about the same for every job: GPUs, hours, gigabytes left and bytes left of each parameter beside
# them, and checkpoints of the dense model in memory.
_SIMPLE = {
    "data": (0, 0.1, 1, 0, 0),
    "base": (0, 0.1, 0, STORED_BYTES, 1.5),
    "compress": (1, 0.05, 0, STORED_BYTES, 3),
    "quantize": (1, 0.1, 0, 1, 2),
    "judge": (0, 0.1, 0, 0, 0),
    "limits": (1, 0.1, 0, 0, 0),
    "speed": (1, 0.2, 0, 0, 2),
}


@dataclass(frozen=True)
class Cost:
    """GPUs that a job holds, hours that it holds them, gigabytes that it leaves and gigabytes of host memory.

    guessed: whether nothing is known about its stage.
    """

    gpus: int
    hours: float
    disk_gb: float
    memory_gb: float
    guessed: bool = False


@lru_cache
def _linears(shape: Shape) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The model's parameters, and (outputs, inputs) of each Linear."""
    # only for models of the hub: other plans are shown without waiting for torch
    import torch
    from torch import nn
    from transformers import LlamaConfig, LlamaForCausalLM

    from impact.compression import parameter_count

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    linears = (module.weight.shape for module in model.modules() if isinstance(module, nn.Linear))
    return parameter_count(model), tuple((int(outputs), int(inputs)) for outputs, inputs in linears)


class Estimator:
    """Costs of jobs on a model of a shape; printed: (method, row) -> size of a compressed model, where it is known."""

    def __init__(self, shape: Shape, printed: Mapping[tuple[str, int], float] | None = None) -> None:
        self.dense, self.linears = _linears(shape)
        self.printed = printed or {}

    def cost(self, job: Job) -> Cost:
        """The estimate for one job."""
        if known := _SIMPLE.get(job.stage.name):
            gpus, hours, gb, bytes_left, checkpoints = known
            return Cost(gpus, hours, gb + bytes_left * self.parameters(job) / 1e9, self._memory(checkpoints))
        return getattr(self, f"_{job.stage.name}", self._unknown)(job)

    def _unknown(self, job: Job) -> Cost:
        """Of a stage without an estimate of its own: an hour of one GPU, and a checkpoint of the dense model."""
        return Cost(1, 1, self.dense * STORED_BYTES / 1e9, self._memory(2), guessed=True)

    def parameters(self, job: Job) -> float:
        """Size of the model that a job reads or writes; a compressed one's from the printed table."""
        if job.stage.name == "compress":
            method, row = job.label.split(" row ")
            return self.printed.get((method, int(row)), float(self.dense))
        return self.parameters(job.inputs["model"]) if "model" in job.inputs else float(self.dense)

    def _memory(self, checkpoints: float, more_gb: float = 0.0, processes: int = 1) -> float:
        """Of so many copies of the dense model's checkpoint, more beside them, and processes."""
        return IMPORTS_GB * processes + checkpoints * self.dense * STORED_BYTES / 1e9 + more_gb

    def _finetune(self, job: Job) -> Cost:
        return self._training(job, job.config.training, 1)  # type: ignore[attr-defined]

    _sft = _finetune

    def _qlora(self, job: Job) -> Cost:
        # each product unpacks its 4-bit weights first
        return self._training(job, job.config.qlora.training, 1.3)  # type: ignore[attr-defined]

    def _training(self, job: Job, training: Training, slower: float) -> Cost:
        data = job.inputs["data"].config.data  # type: ignore[attr-defined]
        rows = sum(published_set(name).training_rows for name in data.train)
        tokens = min(rows, training.rows or rows) * training.epochs * TOKENS_PER_ROW
        passes = (8 if training.gradient_checkpointing else 6) * slower
        gpus = training.processes
        hours = passes * self.parameters(job) * tokens / BF16_FLOPS / gpus / 3600
        # each process loads the model before it is sharded, and one of them gathers it at the end
        memory = self._memory(gpus + 1, processes=gpus)
        return Cost(gpus, hours, self.parameters(job) * STORED_BYTES / 1e9, memory)

    def _profile(self, job: Job) -> Cost:
        tokens = job.inputs["data"].config.data.calibration * TOKENS_PER_ROW  # type: ignore[attr-defined]
        statistic = job.config.statistic  # type: ignore[attr-defined]
        passes = 2 if statistic in ("activation_covariance", "input_magnitude") else 4
        gram = disk = 0.0
        if statistic == "activation_covariance":
            gram, disk = 2 * self._sides() * tokens / FP32_FLOPS, self._sides() * 8 / 1e9
        return Cost(1, (passes * self.dense * tokens / BF16_FLOPS + gram) / 3600, disk, self._memory(1, disk))

    def _sides(self) -> float:
        """Entries of all covariances, each of a Linear's shorter side."""
        return sum(min(shape) ** 2 for shape in self.linears)

    def _prepare(self, job: Job) -> Cost:
        flops = sum(9 * min(shape) ** 3 + 6 * shape[0] * shape[1] * min(shape) for shape in self.linears)
        largest = max((size for (method, _), size in self.printed.items() if method == job.label), default=self.dense)
        return Cost(1, flops / FP64_FLOPS / 3600, largest * 4 / 1e9, self._memory(2, self._sides() * 8 / 1e9))

    def _score(self, job: Job) -> Cost:
        config = job.config
        evaluations = len(self.linears) * len(config.settings["candidates"])  # type: ignore[attr-defined]
        if config.settings["sensitivity"] == "gradient":  # type: ignore[attr-defined]
            evaluations = 4  # a forward and a backward pass, and the truncations' products
        else:
            evaluations //= 2  # what lies before the truncated layer isn't computed again
        tokens = config.rows * TOKENS_PER_ROW  # type: ignore[attr-defined]
        return Cost(1, evaluations * 2 * self.dense * tokens / BF16_FLOPS / 3600, 0, self._memory(2))

    def _perplexity(self, job: Job) -> Cost:
        tokens = job.config.perplexity.rows * TOKENS_PER_ROW  # type: ignore[attr-defined]
        hours = 2 * self.parameters(job) * tokens / BF16_FLOPS / 3600 + 0.02
        return Cost(1, hours, 0, self._memory(1.5))

    def _evaluate(self, job: Job) -> Cost:
        config = job.config
        benchmark = get_benchmark(config.benchmark)  # type: ignore[attr-defined]
        batches = benchmark.test_size / config.evaluation.batch_size  # type: ignore[attr-defined]
        # a batch runs until its longest answer ends, taken as twice the mean
        steps = batches * benchmark.typical_tokens * 2
        hours = steps * (self.parameters(job) * 2 / BANDWIDTH + 0.03) / 3600
        return Cost(1, hours, 0.05, self._memory(1.5))

    def _profiling_cost(self, job: Job) -> Cost:
        config = job.config
        load, naive = config.load, config.implementation == "naive"  # type: ignore[attr-defined]
        flops = 6 * self.dense * load.rows * load.tokens
        # Algorithm 1 as printed forms the products of every token of every layer by itself
        return Cost(1, flops * (4 if naive else 1) / FP32_FLOPS / 3600, 0, self._memory(2, 4 * self._sides() / 1e9))


def show_estimate(plan: "AccuracyPlan", missing: Sequence[Job], store: Path, console: Console) -> None:
    """Prints every job that would run; for a hub model with its cost, and what is missing on this machine."""
    source = plan.preset.models[plan.table.model]
    estimator = Estimator(source.shape, _printed_sizes(plan)) if isinstance(source, HubModel) else None
    grid = Grid("stage", "cell", "GPUs", "hours", "GPU-hours", "memory GB", "disk GB", box=None)
    hours = disk = 0.0
    for job in missing:
        cost = estimator.cost(job) if estimator else None
        numbers = [""] * 5
        if cost:
            hours, disk = hours + cost.hours * cost.gpus, disk + cost.disk_gb
            numbers = [str(cost.gpus), f"{cost.hours:.2f}", f"{cost.hours * cost.gpus:.2f}"]
            numbers += [f"{cost.memory_gb:.0f}", f"{cost.disk_gb:.1f}"]
        guessed = " (a guess)" if cost and cost.guessed else ""
        grid.add_row(job.stage.name + guessed, job.label, *numbers)
    console.print(grid)
    console.print(f"{len(missing)} jobs would run, {len(plan.jobs) - len(missing)} are finished")
    if estimator:
        total = f"{hours:,.0f} GPU-hours, {disk:,.0f} GB of disk"
        console.print(f"estimated from shapes ({estimator.dense:,} parameters) at A100 rates: {total}")
        for line in missing_here(plan, source, store, disk):  # type: ignore[arg-type]
            console.print(f"missing here: {line}", markup=False)


def _printed_sizes(plan: "AccuracyPlan") -> dict[tuple[str, int], float]:
    """(method, row) -> parameters, of the paper's table; nothing of one that it does not have."""
    if plan.table.number is None:
        return {}
    from results.numbers.printed import printed_lines

    return {point: float(line["model_size_b"]) * 1e9 for point, line in printed_lines(plan.table.number).items()}


def missing_here(plan: "AccuracyPlan", source: HubModel, store: Path, disk_gb: float) -> list[str]:
    """What this machine lacks for the plan, a line each."""
    import torch

    lines = []
    wanted = max((plan.preset.sft_of(plan.table.size).processes, plan.preset.hardware.gpus))
    if (found := torch.cuda.device_count()) < wanted:
        lines.append(f"GPUs: a job needs up to {wanted}, this machine has {found}")
    if not _weights_at_hand(plan, source):
        lines.append(f"weights of {source.repository}: not in the hub's cache; log in to the hub, or give --model-dir")
    data = plan.preset.data[plan.table.domain]
    if isinstance(data, PublishedData) and "data_dir" not in plan.data.paths:
        lines.append(f"data: {', '.join(data.train)} and the test sets would come from the hub, or from --data-dir")
    place = next(path for path in (store, *store.resolve().parents) if path.exists())
    if (free := shutil.disk_usage(place).free / 1e9) < disk_gb:
        lines.append(f"disk: {disk_gb:,.0f} GB are needed, {free:,.0f} GB are free at {place}; give --store DIR")
    return lines


def _weights_at_hand(plan: "AccuracyPlan", source: HubModel) -> bool:
    from huggingface_hub import try_to_load_from_cache

    base = next(job for job in plan.jobs if job.stage.name == "base")
    if "model_dir" in base.paths:
        return source.directory(Path(base.paths["model_dir"])).is_dir()
    return isinstance(try_to_load_from_cache(source.repository, "config.json", revision=source.revision), str)
