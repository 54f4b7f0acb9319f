"""Decode throughput of a compressed model relative to the dense one, against the ratio of the bytes that they move.

Dense, compressed as it is loaded, and compressed and fused (impact.decoding) decode one after the other in every
repetition, all through the same static cache; ratios are medians over repetitions of times measured side by side. The
ideal is the ratio of bytes moved: weights that are read once a step, and the filled part of the cache. Weights are
random, every layer at the same share of its full rank. OMP_WAIT_POLICY=PASSIVE costs the smallest models a tenth: a
step is many short parallel parts, and each has to wake the threads.

    python benchmarks/decoding.py --replay compile
    python benchmarks/decoding.py --shape llama2-7b --device cuda --replay cuda_graph --dtype float32
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import get_args

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from evals.speed.machine_limits import MachineLimits, machine_limits, wait_for
from evals.speed.random_weights import SHAPES, ModelShape, random_weights_model
from evals.speed.throughput import SpeedSettings, workload
from impact.decoding import fuse_for_decoding
from impact.static_decoder import Replay, StaticDecoder

AIMS = {"cpu": 0.7, "cuda": 0.8}
# Two layers of Llama 2-7B, with a vocabulary that keeps the embedding as small a part as there: done in a minute on two
# cores, and large enough that a cache holds none of it.
DEFAULT_SHAPE = ModelShape(2000, 4096, 11008, 2, 32, 32)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="a real model's shape (default: the numbers below)")
    for name, default in (
        ("vocab-size", DEFAULT_SHAPE.vocab_size),
        ("hidden-size", DEFAULT_SHAPE.hidden_size),
        ("intermediate-size", DEFAULT_SHAPE.intermediate_size),
        ("num-hidden-layers", DEFAULT_SHAPE.num_hidden_layers),
        ("num-attention-heads", DEFAULT_SHAPE.num_attention_heads),
        ("num-key-value-heads", DEFAULT_SHAPE.num_key_value_heads),
        ("batch", 1),
        ("prompt", 64),
        ("tokens", 12),
        ("repetitions", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument(
        "--sizes", type=float, nargs="+", default=[46, 36, 25, 11], help="percent of the dense parameters"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--replay", default="eager", choices=get_args(Replay), help="how a step runs")
    return parser.parse_args()


def shape_of(options: argparse.Namespace) -> ModelShape:
    """The named shape, or the one given in numbers."""
    if options.shape:
        return SHAPES[options.shape]
    return replace(
        DEFAULT_SHAPE, **{k: v for k, v in vars(options).items() if k.endswith(("_size", "_layers", "_heads"))}
    )


def seconds(decoder: StaticDecoder, prompts: torch.Tensor, steps: int) -> float:
    """The time of `steps` decoding steps, the prefill before them not counted."""
    decoder.prefill(prompts)
    wait_for(str(prompts.device))
    start = time.perf_counter()
    for _ in range(steps):
        decoder.step()
    wait_for(str(prompts.device))
    return time.perf_counter() - start


def side_by_side(
    models: dict[str, PreTrainedModel], prompts: torch.Tensor, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of a generation by model, one a repetition, the models taking turns."""
    length = options.prompt + options.tokens + 1
    decoders = {name: StaticDecoder(model, options.batch, length, options.replay) for name, model in models.items()}
    for decoder in decoders.values():
        seconds(decoder, prompts, options.tokens)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(options.repetitions):
        for name, decoder in decoders.items():
            times[name].append(seconds(decoder, prompts, options.tokens))
    return times


def rows_of(
    size: float,
    models: dict[str, PreTrainedModel],
    times: dict[str, list[float]],
    limits: MachineLimits,
    settings: SpeedSettings,
) -> list[list[str]]:
    """Of each model: time, share of the machine's bandwidth, and against the dense one the speed-up and the ideal."""
    work = {name: workload(model, settings)[1] for name, model in models.items()}
    steps = settings.new_tokens - 1
    rows = []
    for name, measured in times.items():
        time_a_step = median(measured) / steps
        # the bound may be the arithmetic where batches are large: the share of the bandwidth is small then, rightly
        bandwidth = limits.seconds_to_move(work[name].bytes_moved) / median(measured)
        row = [
            f"{size:g} %" if name != "dense" else "100 %",
            name,
            f"{1e3 * time_a_step:.3g}",
            f"{100 * bandwidth:.0f} %",
        ]
        if name != "dense":
            ratios = [dense / own for dense, own in zip(times["dense"], measured, strict=True)]
            ideal = work["dense"].bytes_moved / work[name].bytes_moved
            row += [
                f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})",
                f"{ideal:.2f}",
                f"{median(ratios) / ideal:.2f}",
            ]
        rows.append(row)
    return rows


def result_table(rows: Sequence[Sequence[str]], title: str, aim: float) -> Table:
    table = Table(title=title)
    for i, column in enumerate(
        ("size", "variant", "ms a token", "of bandwidth", "speed-up (range)", "ideal", f"share, aim >= {aim:g}")
    ):
        table.add_column(column, justify="left" if i == 1 else "right")
    for row in rows:
        table.add_row(*row, end_section=row[1] == "fused")
    return table


def main() -> None:
    options = arguments()
    shape, dtype = shape_of(options), getattr(torch, options.dtype)
    limits = machine_limits(options.device, dtype)
    settings = SpeedSettings(
        batch_size=options.batch, prompt_tokens=options.prompt, new_tokens=options.tokens + 1, repetitions=1
    )
    prompts = torch.randint(0, shape.vocab_size, (options.batch, options.prompt), device=options.device)
    dense = random_weights_model(shape, None, dtype, options.device)
    rows = []
    for size in options.sizes:
        parameters = round(size / 100 * shape.parameters())
        models = {
            "dense": dense,
            "compressed": random_weights_model(shape, parameters, dtype, options.device),
            "fused": random_weights_model(shape, parameters, dtype, options.device),
        }
        fuse_for_decoding(models["fused"])
        times = side_by_side(models, prompts, options)
        rows += rows_of(size, models, times, limits, settings)
    title = (
        f"{shape.parameters() / 1e9:.2f} B parameters, {options.dtype} on {limits.hardware} ({limits.threads} threads, "
        f"{limits.bandwidth / 1e9:.1f} GB/s, {limits.matrix_rate / 1e12:.2f} TFLOP/s), batch {options.batch}, prompts "
        f"of {options.prompt}, {options.tokens} tokens, {options.replay}, median of {options.repetitions}"
    )
    Console().print(result_table(rows, title, AIMS[torch.device(options.device).type]))


if __name__ == "__main__":
    main()
