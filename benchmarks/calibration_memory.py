"""Whether a calibration pass fits: its memory planned from a model's shape, and measured where the model is run.

The plan runs the pass on the meta device (impact.calibration_memory): for Llama-2-70B that takes a minute and no
weights. With --measure the passes run on the GPU, with random weights, and torch's peak stands beside the plan; a CPU
cannot tell one memory from the other.

    python benchmarks/calibration_memory.py
    python benchmarks/calibration_memory.py --layers 8 --measure
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from evals.speed.random_weights import SHAPES, ModelShape, random_weights_model
from impact.calibration import Batch, calibrate
from impact.calibration_memory import PhaseMemory, plan_streaming_pass, plan_whole_pass
from impact.streaming_calibration import calibrate_streaming

STATISTICS = ("activation_covariance", "squared_gradient")
GPU_GB = 80
HOST = torch.device("cpu")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama2-70b")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    for name, default in (("rows", 8), ("tokens", 250), ("batches", 494), ("window", 32)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--layers", type=int, help="only so many of the shape's blocks")
    parser.add_argument("--measure", action="store_true", help="run the passes on the GPU, for --window batches")
    return parser.parse_args()


def shape_of(options: argparse.Namespace) -> ModelShape:
    """The named shape, or its first blocks."""
    shape = SHAPES[options.shape]
    return replace(shape, num_hidden_layers=options.layers or shape.num_hidden_layers)


def rows_of(phases: Iterable[PhaseMemory], name: str) -> list[list[str]]:
    """Each phase in gigabytes: weights, accumulators, the rest and all of it, on the accelerator and on the host."""
    rows = []
    for phase in phases:
        numbers = []
        for place in (phase.accelerator, phase.host):
            numbers += [place.weights, place.accumulators, place.activations, place.total]
        fits = "yes" if phase.accelerator.total < GPU_GB * 1e9 else "no"
        rows.append([name, phase.phase, *(f"{number / 1e9:.2f}" for number in numbers), fits])
    return rows


def batches(options: argparse.Namespace) -> list[Batch]:
    """A window of random full-length rows."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.window, options.rows, options.tokens)
    ids = torch.randint(0, SHAPES[options.shape].vocab_size, shape, generator=generator)
    return [Batch(each, torch.ones_like(each), each) for each in ids]


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Peak gigabytes that torch allocated in each pass, of the one model on the GPU and then on the host."""
    gpu, dtype, peaks = torch.device("cuda"), getattr(torch, options.dtype), {}
    model = random_weights_model(shape_of(options), None, dtype, "cuda", attention="eager")
    torch.cuda.reset_peak_memory_stats()
    calibrate(model, batches(options), STATISTICS, HOST)
    peaks["whole"] = torch.cuda.max_memory_allocated() / 1e9
    model.to(HOST)
    torch.cuda.reset_peak_memory_stats()
    for _ in calibrate_streaming(model, batches(options), STATISTICS, gpu):
        pass
    peaks["streaming"] = torch.cuda.max_memory_allocated() / 1e9
    return peaks


def main() -> None:
    options = arguments()
    model = random_weights_model(shape_of(options), None, getattr(torch, options.dtype), "meta", attention="eager")
    load = options.rows, options.tokens
    plans = {
        "whole": plan_whole_pass(model, *load, STATISTICS),
        "streaming": plan_streaming_pass(model, *load, STATISTICS, options.window),
        "streaming, all at once": plan_streaming_pass(model, *load, STATISTICS, options.batches),
    }
    table = Table(
        title=f"{options.shape}, {shape_of(options).num_hidden_layers} blocks, {options.dtype}, "
        f"{options.batches} batches of {options.rows} x {options.tokens} tokens, "
        f"streamed in windows of {options.window}; gigabytes, eager attention"
    )
    for column in ("pass", "phase"):
        table.add_column(column)
    for place in ("GPU", "host"):
        for column in ("weights", "accumulators", "the rest", "total"):
            table.add_column(f"{place}: {column}", justify="right")
    table.add_column(f"fits {GPU_GB} GB")
    for name, phases in plans.items():
        for row in rows_of(phases, name):
            table.add_row(*row)
    console = Console(width=200)
    console.print(table)
    if options.measure:
        for name, peak in measured(options).items():
            planned = max(phase.accelerator.total for phase in plans[name]) / 1e9
            console.print(f"{name}: {peak:.2f} GB allocated at peak, {planned:.2f} planned, {peak / planned:.3f} of it")


if __name__ == "__main__":
    main()
