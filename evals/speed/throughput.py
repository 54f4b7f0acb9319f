"""How fast a model generates, and in how much memory: prefill, decoding and both together, beside the machine's limits.

A measurement generates a fixed number of tokens greedily, from prompts of one length, never stopping at an end token.
What is timed is the model and the choice of the next token, not tokenisation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from evals.speed.machine_limits import MachineLimits, hardware_name, wait_for
from evals.speed.peak_memory import MemoryKind, peak_memory, reset_peak
from impact.compression import parameter_count
from impact.decoding import fuse_for_decoding, is_factorised
from impact.static_decoder import Replay, StaticDecoder

Route = Literal["growing", "static", "cuda_graph", "compile"]


@dataclass(frozen=True)
class SpeedSettings:
    """What throughput depends on besides the model; the model's own dtype is its precision.

    route: "growing" is a cache that grows with every token, as `generate` has it by default; the others are
    impact.static_decoder.StaticDecoder's. fused: whether the model is to be fused first, by `fuse_for_decoding`.
    warmup: generations that are not timed, at least one where a step is recorded or compiled. seed: of the prompts.
    Raises ValueError for a number below 1, or fewer than 2 new tokens (the first comes from the prefill).
    """

    batch_size: int = 1
    prompt_tokens: int = 128
    new_tokens: int = 128
    warmup: int = 1
    repetitions: int = 5
    route: Route = "growing"
    fused: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "prompt_tokens": 1, "new_tokens": 2, "repetitions": 1}
        least["warmup"] = int(self.route in ("cuda_graph", "compile"))
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Work:
    """bytes_moved: every weight that is used read once a step, keys and values read and written; operations: products.

    The least that a step can do: activations stay in caches, and of a static cache only the filled part counts.
    """

    bytes_moved: float
    operations: float


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Phase:
    """One phase's speed in tokens a second (prompt tokens of a prefill, else generated ones), all rows together.

    bandwidth_bound and rate_bound: tokens a second if it took just the time to move its bytes, or to do its operations.
    """

    tokens_per_s: Spread
    work: Work
    bandwidth_bound: float | None
    rate_bound: float | None


@dataclass(frozen=True)
class SpeedMeasurement:
    """A model's speed and memory. Memory is in bytes: the peak as `memory_kind` says, the weights', the cache's."""

    settings: SpeedSettings
    dtype: str
    device: str
    hardware: str
    threads: int
    parameters: int
    prefill: Phase
    decode: Phase
    total: Phase
    peak_memory: int
    memory_kind: MemoryKind
    weight_memory: int
    cache_memory: int
    limits: MachineLimits | None


@torch.no_grad()
def measure_speed(
    model: PreTrainedModel, settings: SpeedSettings, limits: MachineLimits | None = None
) -> SpeedMeasurement:
    """Measures a model where it is, in its dtype; with `settings.fused` it is fused, and stays so.

    On a GPU the peak is what torch allocated there. On a CPU it is the process's resident memory, libraries included:
    measure one model a process, or the allocator's leftovers of the last one count too.
    Raises ValueError if the model's dtype isn't the limits'.
    """
    device, dtype = str(model.device), str(model.dtype).removeprefix("torch.")
    if limits is not None and limits.dtype != dtype:
        raise ValueError(f"the machine's limits were measured in {limits.dtype}, the model is in {dtype}")
    if settings.fused:
        fuse_for_decoding(model)
    model.eval()
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.batch_size, settings.prompt_tokens)
    prompts = torch.randint(0, model.config.vocab_size, shape, generator=generator).to(device)
    generate = _growing(model, settings) if settings.route == "growing" else _static(model, settings)

    memory_kind = reset_peak(device)
    for _ in range(settings.warmup):
        generate(prompts)
    times = [generate(prompts) for _ in range(settings.repetitions)]
    peak = peak_memory(device, memory_kind)

    work = workload(model, settings)
    rows, new = settings.batch_size, settings.new_tokens
    both = Work(*(getattr(work[0], f) + getattr(work[1], f) for f in ("bytes_moved", "operations")))
    return SpeedMeasurement(
        settings=settings,
        dtype=dtype,
        device=device,
        hardware=hardware_name(device),
        threads=torch.get_num_threads(),
        parameters=parameter_count(model),
        prefill=_phase(rows * settings.prompt_tokens, [prefill for prefill, _ in times], work[0], limits),
        decode=_phase(rows * (new - 1), [decode for _, decode in times], work[1], limits),
        total=_phase(rows * new, [prefill + decode for prefill, decode in times], both, limits),
        peak_memory=peak,
        memory_kind=memory_kind,
        weight_memory=sum(p.numel() * p.element_size() for p in model.parameters()),
        cache_memory=_cache_bytes(model) * rows * (settings.prompt_tokens + new),
        limits=limits,
    )


def _phase(tokens: int, seconds: Sequence[float], work: Work, limits: MachineLimits | None) -> Phase:
    return Phase(
        Spread.of([tokens / s for s in seconds]),
        work,
        tokens / limits.seconds_to_move(work.bytes_moved) if limits else None,
        tokens / limits.seconds_to_compute(work.operations) if limits else None,
    )


def workload(model: PreTrainedModel, settings: SpeedSettings) -> tuple[Work, Work]:
    """The prefill's work and that of all decoding steps, for a batch of a causal language model.

    Of the embedding only a few rows are read, which is not counted, unless its matrix serves as lm_head too. The
    prefill needs logits for each prompt's last token only.
    """
    rows, prompt, steps = settings.batch_size, settings.prompt_tokens, settings.new_tokens - 1
    head = model.get_output_embeddings()
    head_matrices = sum(p.numel() for p in head.parameters() if p.dim() == 2)
    embedding = model.get_input_embeddings().weight
    tied = any(p is embedding for p in head.parameters())
    read = [p for p in model.parameters() if p is not embedding or tied]
    weights = sum(p.numel() * p.element_size() for p in read)
    matrices = sum(p.numel() for p in read if p.dim() == 2)

    cache = _cache_bytes(model)
    # scores and weighted sum, a multiplication and an addition each, for a query against one key
    attention = 4 * _query_channels(model)
    keys = sum(range(prompt + 1, prompt + steps + 1))  # over all decoding steps
    prefill = Work(
        weights + rows * prompt * cache,
        rows * (2 * (matrices - head_matrices) * prompt + 2 * head_matrices + attention * prompt * (prompt + 1) / 2),
    )
    decode = Work(steps * weights + rows * (keys + steps) * cache, rows * (2 * matrices * steps + attention * keys))
    return prefill, decode


def _query_channels(model: PreTrainedModel) -> int:
    """Of all layers together; a pruned layer has fewer than the config says."""
    outputs: list[Any] = [module.o_proj for module in model.modules() if hasattr(module, "o_proj")]
    return sum((layer.down if is_factorised(layer) else layer).in_features for layer in outputs)


def _cache_bytes(model: PreTrainedModel) -> int:
    """Keys and values of one token, in bytes."""
    config = model.config
    # each head of keys serves as many of queries, pruned or not
    channels = _query_channels(model) * config.num_key_value_heads // config.num_attention_heads
    return 2 * channels * model.dtype.itemsize


Generate = Callable[[torch.Tensor], tuple[float, float]]
"""Prompts (batch, length) -> seconds of the prefill and of all decoding steps."""


def _growing(model: PreTrainedModel, settings: SpeedSettings) -> Generate:
    device = str(model.device)

    def generate(prompts: torch.Tensor) -> tuple[float, float]:
        wait_for(device)
        start = time.perf_counter()
        cache = DynamicCache(config=model.config)
        token = _next_token(model, prompts, cache)
        wait_for(device)
        first = time.perf_counter()
        for _ in range(settings.new_tokens - 1):
            token = _next_token(model, token, cache)
        wait_for(device)
        return first - start, time.perf_counter() - first

    return generate


def _next_token(model: nn.Module, tokens: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1:].argmax(dim=-1)


def _static(model: PreTrainedModel, settings: SpeedSettings) -> Generate:
    device = str(model.device)
    replay: Replay = "eager"
    if settings.route == "cuda_graph" or settings.route == "compile":
        replay = settings.route
    decoder = StaticDecoder(model, settings.batch_size, settings.prompt_tokens + settings.new_tokens, replay)

    def generate(prompts: torch.Tensor) -> tuple[float, float]:
        wait_for(device)
        start = time.perf_counter()
        decoder.prefill(prompts)
        wait_for(device)
        first = time.perf_counter()
        for _ in range(settings.new_tokens - 1):
            decoder.step()
        wait_for(device)
        return first - start, time.perf_counter() - first

    return generate
