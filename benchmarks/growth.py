"""How the calibration pass, the decomposition and a decoding step grow with width, depth and tokens.

Each is measured at several sizes along one axis while the others stay put, on random weights. Tokens are those of the
calibration set for the pass, and those in the cache for a decoding step; the decomposition doesn't see them. Writes
growth.csv and growth.{png,pdf} to --out, and prints the exponents. Five minutes on two cores.

    MALLOC_TOP_PAD_=1073741824 MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184 \\
    python benchmarks/growth.py --out results/growth

Threads may spin here, where one process has the machine: asleep between operations (OMP_WAIT_POLICY=PASSIVE) they would
show how long a wake-up takes, not how the work grows.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM

from evals.speed.machine_limits import hardware_name, wait_for
from evals.speed.random_weights import ModelShape, random_weights_model
from evals.speed.throughput import SpeedSettings, measure_speed
from impact.calibration import Batch, calibrate
from impact.compression import prepare_units
from impact.method import Impact
from plots.growth import COLUMNS, fitted_exponent, write_growth
from results.files import written_whole

VOCABULARY, HEAD = 1024, 64


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, sizes in (
        ("widths", [192, 320, 512, 832]),
        ("depths", [2, 4, 8, 16]),
        ("tokens", [512, 1024, 2048, 4096, 8192]),
        ("contexts", [256, 512, 1024, 2048, 4000]),
    ):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=sizes, help=f"default {sizes}")
    for name, default in (("width", 256), ("depth", 2), ("repetitions", 5), ("rows", 8), ("length", 128)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results"), help="default results")
    return parser.parse_args()


def build(width: int, depth: int, device: str) -> LlamaForCausalLM:
    """A Llama of Llama-2's proportions: heads of 64, an MLP 8/3 times as wide."""
    heads = width // HEAD
    shape = ModelShape(VOCABULARY, width, 8 * width // 3, depth, heads, heads)
    return random_weights_model(shape, None, torch.float32, device)


def batches(tokens: int, options: argparse.Namespace) -> list[Batch]:
    """So many random tokens in full rows, the first quarter of each being the prompt."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (tokens // options.length, options.length), generator=generator)
    labels = ids.clone()
    labels[:, : options.length // 4] = -100
    columns = (ids, torch.ones_like(ids), labels)
    return [Batch(*(c[i : i + options.rows] for c in columns)) for i in range(0, len(ids), options.rows)]


def pass_time(model: LlamaForCausalLM, tokens: int, options: argparse.Namespace) -> list[float]:
    """Seconds of IMPACT's calibration pass, by repetition."""
    made, names = batches(tokens, options), Impact().statistics()
    return timed(lambda: calibrate(model, made, names), options)


def decomposition_time(model: LlamaForCausalLM, options: argparse.Namespace) -> list[float]:
    """Seconds of IMPACT's eigenproblems and factors for every Linear, at full rank."""
    method = Impact()
    statistics: dict[str, dict[str, Any]] = {}
    for gathered in calibrate(model, batches(8 * options.length, options), method.statistics()).values():
        for name, tensors in gathered.items():
            statistics.setdefault(name, {}).update(tensors)

    def decompose() -> None:
        for _ in prepare_units(method, model, statistics):
            pass

    return timed(decompose, options)


def step_time(model: LlamaForCausalLM, context: int, options: argparse.Namespace) -> list[float]:
    """Seconds of a decoding step behind a prompt of so many tokens: median, lowest and highest."""
    settings = SpeedSettings(prompt_tokens=context, new_tokens=17, repetitions=options.repetitions)
    speed = measure_speed(model, settings).decode.tokens_per_s
    return [1 / speed.high, 1 / speed.median, 1 / speed.low]


def timed(work: Callable[[], object], options: argparse.Namespace) -> list[float]:
    """Seconds by repetition, after a call that is not timed."""
    work()
    times = []
    for _ in range(options.repetitions):
        wait_for(options.device)
        start = time.perf_counter()
        work()
        wait_for(options.device)
        times.append(time.perf_counter() - start)
    return times


def measurements(options: argparse.Namespace) -> Iterator[tuple[str, str, int, list[float]]]:
    """(cost, axis, size, seconds by repetition) of every point."""
    usual, context = 8 * options.length, 2 * options.length
    for axis, sizes in (("width", options.widths), ("depth", options.depths)):
        for size in sizes:
            width, depth = (size, options.depth) if axis == "width" else (options.width, size)
            model = build(width, depth, options.device)
            yield "calibration pass", axis, size, pass_time(model, usual, options)
            yield "decomposition", axis, size, decomposition_time(model, options)
            yield "decoding step", axis, size, step_time(model, context, options)
    model = build(options.width, options.depth, options.device)
    for tokens in options.tokens:
        yield "calibration pass", "tokens", tokens, pass_time(model, tokens, options)
    for tokens in options.contexts:
        yield "decoding step", "tokens", tokens, step_time(model, tokens, options)


def main() -> None:
    options = arguments()
    records = [
        dict(zip(COLUMNS, (cost, axis, size, median(times), min(times), max(times)), strict=True))
        for cost, axis, size, times in measurements(options)
    ]
    measured = pd.DataFrame(records)
    with written_whole(options.out / "growth.csv") as path:
        measured.to_csv(path, index=False, float_format="%.6g")
    machine = f"{hardware_name(options.device)}, {torch.get_num_threads()} threads"
    files = write_growth(measured, {"machine": machine}, options.out)

    table = Table(title=f"seconds, median of {options.repetitions}, and the exponent that fits; {machine}")
    for column in ("cost", "along", "sizes", "seconds", "exponent"):
        table.add_column(column)
    for (axis, cost), points in measured.groupby(["axis", "cost"], sort=False):
        sizes, seconds = points["size"], points["seconds"]
        shown = (", ".join(map(str, sizes)), ", ".join(f"{s:.3g}" for s in seconds))
        table.add_row(str(cost), str(axis), *shown, f"{fitted_exponent(sizes, seconds):.2f}")
    Console(width=160).print(table)
    print("written:", options.out / "growth.csv", *files)


if __name__ == "__main__":
    main()
