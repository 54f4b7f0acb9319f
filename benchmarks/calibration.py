"""What calibration costs: IMPACT's pass against a bare forward and backward, and against Algorithm 1 as printed.

All variants run over the same sequences with random weights of SmolLM2-135M's shape, one after the other in every
repetition, and the ratios are medians over repetitions of times measured side by side. The weights are frozen in all of
them: only the activations' gradients are computed. Algorithm 1 loops over samples, so it sees one sequence at a time by
definition; a second row gives it the same batches as the others. A second table says what the pass adds to a bare
forward and backward: the products, what of them is due to accumulating in float32, the casts, the squares.

    MALLOC_TOP_PAD_=1073741824 MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184 \\
    OMP_WAIT_POLICY=PASSIVE python benchmarks/calibration.py
"""

import argparse
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from impact import naive
from impact.calibration import (
    ActivationCovariance,
    Batch,
    CurrentMask,
    accumulation_dtype,
    calibrate,
    input_groups,
    observed,
    sequence_mean_loss,
)

STATISTICS = ("activation_covariance", "squared_gradient")
AIMS = {"bare forward + backward": 1.3, "Algorithm 1, no lm_head": 0.65}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("layers", 4),
        ("hidden", 576),
        ("ffn", 1536),
        ("heads", 9),
        ("kv-heads", 3),
        ("vocab", 4096),
        ("tokens", 256),
        ("sequences", 8),
        ("batch", 8),
        ("repetitions", 7),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float64"))
    return parser.parse_args()


def build(options: argparse.Namespace) -> nn.Module:
    """A randomly initialised Llama of this shape, with frozen weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=options.ffn,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
    )
    model = LlamaForCausalLM(config).to(getattr(torch, options.dtype)).eval()
    return model.requires_grad_(False)


def sequences(options: argparse.Namespace) -> list[Batch]:
    """Batches of random full-length sequences whose first quarter is the prompt."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, options.vocab, (options.sequences, options.tokens), generator=generator)
    labels = ids.clone()
    labels[:, : options.tokens // 4] = -100
    mask = torch.ones_like(ids)
    return [
        Batch(*(t[i : i + options.batch] for t in (ids, mask, labels)))
        for i in range(0, options.sequences, options.batch)
    ]


def forward_backward(model: nn.Module, batches: list[Batch]) -> None:
    """The least that E[g^2] needs, gathering nothing."""
    for batch in batches:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        sequence_mean_loss(logits, batch.labels).backward()


def algorithm_1_batched(model: nn.Module, batches: list[Batch]) -> None:
    """impact.naive's accumulators, whole batches at a time."""
    moments: dict[str, torch.Tensor] = {}

    def on_output(name: str, y: torch.Tensor) -> None:
        y_flat = y.detach().flatten(0, 1).float()
        moments[name] = moments.get(name, 0) + y_flat.T @ y_flat
        moments[name + " mean"] = moments.get(name + " mean", 0) + y_flat.sum(dim=0)
        y.register_hook(lambda g: moments.update({name + " g2": moments.get(name + " g2", 0) + g.square().sum((0, 1))}))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "lm_head":
                handle = module.register_forward_hook(lambda _, args, y, name=name: on_output(name, y))
                stack.callback(handle.remove)
        forward_backward(model, batches)


class Recorder(ActivationCovariance):
    """Keeps the tensors that the pass's two statistics would accumulate."""

    def __init__(self, groups: Mapping[str, list[str]], linears: Mapping[str, nn.Linear]) -> None:
        super().__init__(groups, linears)
        self.tokens: list[torch.Tensor] = []
        self.gradients: list[torch.Tensor] = []

    def _accumulate(self, key: str, values: torch.Tensor, mask: torch.Tensor | None) -> None:
        self.tokens.append(values.flatten(0, 1).clone())

    def on_gradient(self, module: str, g: torch.Tensor) -> None:
        self.gradients.append(g.clone())


def recorded(model: nn.Module, batches: list[Batch]) -> Recorder:
    """What the statistics see of these batches."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    groups = input_groups(linears, partial(model, input_ids=batches[0].input_ids[:1, :4], use_cache=False))
    recorder = Recorder(groups, linears)
    with observed(groups, linears, [recorder], CurrentMask()):
        forward_backward(model, batches)
    return recorder


def parts(model: nn.Module, batches: list[Batch], repetitions: int) -> dict[str, float]:
    """Median seconds of each thing that the pass does beyond forward and backward, alone, on the pass's own tensors."""
    seen = recorded(model, batches)
    own = seen.tokens[0].dtype
    accumulated = accumulation_dtype(own)
    shifts = [tokens.to(accumulated).mean(dim=0) for tokens in seen.tokens]
    centred = [tokens - shift for tokens, shift in zip(seen.tokens, shifts, strict=True)]
    grams = [c.new_zeros(c.shape[1], c.shape[1]) for c in centred]
    products, casts = f"Gram products in {str(accumulated).removeprefix('torch.')}", "centring"
    low = f"of these, what they would take in {str(own).removeprefix('torch.')}"
    if own != accumulated:
        casts += f", with the casts to {str(accumulated).removeprefix('torch.')}"
    work: dict[str, Callable[[], object]] = {
        products: lambda: [gram.addmm_(c.T, c) for gram, c in zip(grams, centred, strict=True)],
        low: lambda: [tokens.T @ tokens for tokens in seen.tokens],
        casts: lambda: [tokens - shift for tokens, shift in zip(seen.tokens, shifts, strict=True)],
        "squares of the gradients": lambda: [g.to(accumulated).square().sum(dim=(0, 1)) for g in seen.gradients],
    }
    if own == accumulated:
        del work[low]
    return {name: median(seconds(each) for _ in range(repetitions)) for name, each in work.items()}


def gap_table(gap: float, found: Mapping[str, float]) -> Table:
    """Each part in seconds and in percent of what the pass takes beyond a bare forward and backward."""
    table = Table(title="what the pass adds to forward and backward: each part alone, on the same tensors")
    table.add_column("part")
    for column in ("seconds", "of the gap"):
        table.add_column(column, justify="right")
    explained = sum(spent for name, spent in found.items() if not name.startswith("of these"))
    rows = {**found, "the rest: hooks, and colder caches": gap - explained, "the gap": gap}
    for name, spent in rows.items():
        table.add_row(name, f"{spent:.3f}", f"{100 * spent / gap:.0f} %")
    return table


def seconds(work: Callable[[], object]) -> float:
    """On the CPU: a GPU would have to be waited for."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    options = arguments()
    model, batches = build(options), sequences(options)
    # The embedding's output starts the graph, since no weight does.
    model.get_input_embeddings().register_forward_hook(lambda _, args, output: output.requires_grad_(True))  # type: ignore[operator]
    head = frozenset({"lm_head"})
    variants: dict[str, Callable[[], object]] = {
        "IMPACT's pass": lambda: calibrate(model, batches, STATISTICS),
        "bare forward + backward": lambda: forward_backward(model, batches),
        "Algorithm 1, no lm_head": lambda: naive.profile(model, batches, head),
        "the same, in batches": lambda: algorithm_1_batched(model, batches),
    }
    for work in variants.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.repetitions):
        for name, work in variants.items():
            times[name].append(seconds(work))

    own = times["IMPACT's pass"]
    size = sum(p.numel() for p in model.parameters()) / 1e6
    table = Table(
        title=f"{options.sequences} x {options.tokens} tokens in batches of {options.batch}, {size:.0f} M parameters, "
        f"{options.dtype}, median of {options.repetitions}"
    )
    table.add_column("variant")
    for column in ("seconds", "IMPACT / this", "range", "aim"):
        table.add_column(column, justify="right")
    for name, measured in times.items():
        ratios = [a / b for a, b in zip(own, measured, strict=True)]
        aim = f"<= {AIMS[name]:g}" if name in AIMS else ""
        table.add_row(
            name, f"{median(measured):.2f}", f"{median(ratios):.2f}", f"{min(ratios):.2f} - {max(ratios):.2f}", aim
        )
    console = Console()
    console.print(table)
    gap = median(own) - median(times["bare forward + backward"])
    console.print(gap_table(gap, parts(model, batches, options.repetitions)))


if __name__ == "__main__":
    main()
