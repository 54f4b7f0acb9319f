"""What ASVD's search costs: as published, with replayed prefixes, and with sensitivities from one backward pass.

All three search the same briefly trained Llama on the same sequences, one after the other in one run. The published
search makes one SVD and one evaluation of the whole model for each candidate of each Linear; the time of its
evaluations alone is shown too, which is what it would take if it shared the SVDs. The times of the other two include
their SVDs. The language to learn is a sparse bigram whose second half repeats the first, so that attention matters.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/asvd_search.py
"""

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from baselines import naive_search
from baselines.asvd import Asvd
from impact.calibration import Batch, calibrate
from impact.compression import compress, prepare_units
from impact.interface import Components, Kept, Sensitivity
from impact.rank_rule import RankRule

AIMS = {"exact, replayed": 2, "estimated": 10}
TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("layers", 8),
        ("hidden", 256),
        ("ffn", 688),
        ("heads", 4),
        ("kv-heads", 4),
        ("vocab", 256),
        ("tokens", 32),
        ("sequences", 8),
        ("batch", 8),
        ("steps", 60),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    return parser.parse_args()


def language(options: argparse.Namespace) -> Callable[[int], Tensor]:
    """A sampler of (count, tokens) sequences in which each token has four successors and the second half repeats."""
    generator = torch.Generator().manual_seed(0)
    successors = torch.randint(0, options.vocab, (options.vocab, 4), generator=generator)
    odds = torch.tensor([0.6, 0.25, 0.1, 0.05])

    def sample(count: int) -> Tensor:
        half = [torch.randint(0, options.vocab, (count,), generator=generator)]
        while len(half) < options.tokens // 2:
            choice = torch.multinomial(odds.expand(count, 4), 1, generator=generator)[:, 0]
            half.append(successors[half[-1], choice])
        return torch.stack(half * 2, dim=1)

    return sample


def train(options: argparse.Namespace, sample: Callable[[int], Tensor]) -> nn.Module:
    """A Llama of this shape after a few steps on the language."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=options.ffn,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=options.steps + 1)
    for _ in range(options.steps):
        ids = sample(16)
        loss = model(input_ids=ids, labels=ids).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    optimiser.zero_grad(set_to_none=True)
    return model.eval()


@dataclass
class Perplexity:
    """Perplexity of full-length sequences, of which the first quarter is the prompt; and how long it took in all."""

    batches: list[Batch]
    seconds: float = 0.0

    def losses(self, model: nn.Module) -> Iterator[tuple[Tensor, int]]:
        for batch in self.batches:
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            targets = batch.labels[:, 1:]
            counted = targets >= 0
            yield F.cross_entropy(logits[:, :-1][counted], targets[counted], reduction="sum"), int(counted.sum())

    @torch.inference_mode()
    def __call__(self, model: nn.Module) -> float:
        start = time.perf_counter()
        pairs = [(loss.item(), count) for loss, count in self.losses(model)]
        self.seconds += time.perf_counter() - start
        return math.exp(sum(loss for loss, _ in pairs) / sum(count for _, count in pairs))


def batches_of(ids: Tensor, size: int) -> list[Batch]:
    labels = ids.clone()
    labels[:, : ids.shape[1] // 4] = -100
    mask = torch.ones_like(ids)
    return [Batch(*(t[i : i + size] for t in (ids, mask, labels))) for i in range(0, len(ids), size)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """On the CPU: a GPU would have to be waited for."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def agreement(one: Sensitivity, other: Sensitivity) -> float:
    """Spearman's rank correlation over all (layer, ratio) pairs."""
    pairs = [(ppl, other[name][ratio]) for name, row in one.items() for ratio, ppl in row.items()]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def truncated(
    model: nn.Module, method: Asvd, components: Mapping[str, Components], kept: Mapping[str, Kept]
) -> nn.Module:
    """A compressed copy."""
    smaller = copy.deepcopy(model)
    compress(smaller, method, components, kept, {})
    return smaller


def main() -> None:
    options = arguments()
    sample = language(options)
    model, spent = timed(lambda: train(options, sample))
    search, heldout = (Perplexity(batches_of(sample(options.sequences), options.batch)) for _ in range(2))
    exact, gradient = Asvd(), Asvd(sensitivity="gradient")
    statistics = calibrate(model, search.batches, exact.statistics())["input_magnitude"]
    print(f"trained in {spent:.0f} s to a perplexity of {heldout(model):.2f} on held-out sequences")

    def prepared(method: Asvd) -> tuple[dict[str, Components], Sensitivity]:
        components = dict(prepare_units(method, model, statistics))
        return components, method.score(model, components, search)

    search.seconds = 0.0
    published, naive_seconds = timed(lambda: naive_search.score(exact, model, statistics, search))
    evaluations = search.seconds
    (components, replayed), exact_seconds = timed(lambda: prepared(exact))
    (_, estimated), gradient_seconds = timed(lambda: prepared(gradient))

    console = Console()
    pairs = sum(len(row) for row in published.values())
    table = Table(title=f"{pairs} pairs of layer and ratio, {options.sequences} x {options.tokens} tokens")
    for column in ("search", "seconds", "published / this", "its evaluations / this", "aim", "Spearman"):
        table.add_column(column, justify="left" if column == "search" else "right")
    for name, seconds, sensitivity in (
        ("as published", naive_seconds, published),
        ("exact, replayed", exact_seconds, replayed),
        ("estimated", gradient_seconds, estimated),
    ):
        table.add_row(
            name,
            f"{seconds:.1f}",
            f"{naive_seconds / seconds:.1f}",
            f"{evaluations / seconds:.1f}",
            f">= {AIMS[name]}" if name in AIMS else "",
            f"{agreement(published, sensitivity):.4f}",
        )
    console.print(table)

    table = Table(title="what each decides, and held-out perplexity of the model that results")
    for column in ("ratio", "replayed: same ranks", "estimated: same ranks", "exact: ppl", "estimated: ppl"):
        table.add_column(column, justify="right")
    for target in TARGETS:
        rule = RankRule("parameter_ratio", target)
        oracle, own, guess = (exact.allocate(rule, components, s) for s in (published, replayed, estimated))
        same = sum(oracle[name] == guess[name] for name in oracle)
        table.add_row(
            f"{target:g}",
            "yes" if own == oracle else "NO",
            f"{same} of {len(oracle)}",
            *(f"{heldout(truncated(model, exact, components, kept)):.3f}" for kept in (own, guess)),
        )
    console.print(table)


if __name__ == "__main__":
    main()
