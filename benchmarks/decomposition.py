"""What decomposition costs: gate and up projections against Algorithm 1's eigenproblem, and five ratios against one.

Gate and up are wider than their input: two eigenproblems as large as the input, with the products that lead to them and
back to as many eigenvectors as the largest ratio keeps, stand against two as large as the output (impact.naive), all in
float64 and from the same statistics. What comes after it, Algorithm 1 repeats for each ratio; here components are
prepared once and cut. Everything is measured side by
side in every repetition, and the ratios are medians over repetitions.

    MALLOC_TOP_PAD_=1073741824 MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184 \\
    OMP_WAIT_POLICY=PASSIVE python benchmarks/decomposition.py
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from evals.speed.random_weights import ModelShape, random_weights_model
from impact import naive
from impact.calibration import Batch, calibrate, weights_frozen
from impact.compression import prepare_units
from impact.interface import Components, Unit
from impact.method import Impact, activation_moments
from impact.naive import NaiveMoments
from impact.rank_rule import RankRule
from impact.ranks import nuclear_norm_rank
from impact.reconstruction import weighted_eigenbasis

AIMS = {"eigenproblems": ">= 10", "ratios": "<= 1.2"}
RATIOS = (70, 60, 50, 40, 30)
RULES = [RankRule("nuclear_norm", k) for k in RATIOS]
PAIR = ("gate_proj", "up_proj")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("hidden", 1024),
        ("ffn", 2765),
        ("heads", 16),
        ("layers", 1),
        ("vocab", 1024),
        ("tokens", 256),
        ("sequences", 16),
        ("repetitions", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--eigenproblems-only", action="store_true", help="not the components and ratios after them")
    return parser.parse_args()


def sequences(options: argparse.Namespace) -> list[Batch]:
    """Random full-length sequences, four at a time."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, options.vocab, (options.sequences, options.tokens), generator=generator)
    return [Batch(part, torch.ones_like(part), part) for part in ids.split(4)]


def seconds(work: Callable[[], object]) -> float:
    """On the CPU: a GPU would have to be waited for."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Decomposition:
    """A model, what calibration found in it, and the ways to decompose it that are compared."""

    def __init__(self, options: argparse.Namespace) -> None:
        heads = options.heads
        shape = ModelShape(options.vocab, options.hidden, options.ffn, options.layers, heads, heads)
        self.model = random_weights_model(shape, None, torch.float32)
        self.method = Impact()
        self.statistics: dict[str, dict[str, Tensor]] = {}
        batches = sequences(options)
        for gathered in calibrate(self.model, batches, self.method.statistics()).values():
            for name, tensors in gathered.items():
                self.statistics.setdefault(name, {}).update(tensors)
        self.pair = [f"model.layers.0.mlp.{name}" for name in PAIR]
        others = {name for name, m in self.model.named_modules() if isinstance(m, nn.Linear)} - {*self.pair}
        with weights_frozen(self.model):
            self.moments = naive.profile(self.model, batches, frozenset(others))

    def linear(self, name: str) -> nn.Linear:
        module = self.model.get_submodule(name)
        assert isinstance(module, nn.Linear)
        return module

    def eigenbases(self) -> None:
        """Eigenvalues of gate and up and the eigenvectors that are kept, from their input's covariance."""
        for name in self.pair:
            W, statistics = self.linear(name).weight.detach().double(), self.statistics[name]
            a = self.method.coefficient(len(W), statistics)
            weighted_eigenbasis(
                W, activation_moments(statistics), a, lambda Lambda: nuclear_norm_rank(Lambda.sqrt(), RATIOS[0])
            )

    def parts(self) -> dict[str, Callable[[], object]]:
        """Of `eigenbases`, the eigenproblems alone, on matrices with the covariance's eigenvalues."""
        covariance = activation_moments(self.statistics[self.pair[0]]).covariance.double()
        return {"  of it eigenproblems": lambda: [torch.linalg.eigh(covariance) for _ in PAIR]}

    def components(self) -> None:
        """All that gate and up need before they are cut to a ratio."""
        for name in self.pair:
            self.method.prepare(Unit((name,)), [self.linear(name)], self.statistics[name], RULES)

    def eigenproblem(self) -> None:
        """Algorithm 1's eigenvalues and eigenvectors of gate and of up, from their outputs' covariances."""
        for name in self.pair:
            g2 = self.moments[name].squared_gradient.double()
            a = torch.sqrt((1 - self.method.eta) * g2 / g2.mean() + self.method.eta)
            torch.linalg.eigh(self.moments[name].covariance().double() * torch.outer(a, a))

    def algorithm_1(self) -> None:
        """Stage 2 of Algorithm 1 for gate and up at one ratio, as printed."""
        for name in self.pair:
            W, found = self.linear(name).weight.detach().double(), self.moments[name]
            moments = NaiveMoments(found.second.double(), found.mean.double(), found.squared_gradient.double())
            naive.compress_linear(W, W.new_zeros(len(W)), moments, RATIOS[0], self.method.eta)

    def layers(self, ratios: Sequence[float]) -> None:
        """The replacement of every Linear at each ratio, from components that are prepared once."""
        components: Mapping[str, Components] = dict(prepare_units(self.method, self.model, self.statistics, RULES))
        for k in ratios:
            kept = self.method.allocate(RankRule("nuclear_norm", k), components, None)
            for name, rank in kept.items():
                self.method.realise([self.linear(name)], components[name], rank, {})


def side_by_side(variants: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Seconds by variant, one a repetition, the variants taking turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repetitions):
        for name, work in variants.items():
            times[name].append(seconds(work))
    return times


def main() -> None:
    options = arguments()
    work = Decomposition(options)
    variants: dict[str, Callable[[], object]] = {
        "gate and up: eigenbases": work.eigenbases,
        **work.parts(),
        "  Algorithm 1's eigenproblems": work.eigenproblem,
    }
    if not options.eigenproblems_only:
        variants |= {
            "gate and up: components for every ratio": work.components,
            "  Algorithm 1, stage 2 at one ratio": work.algorithm_1,
            "every Linear: one ratio": lambda: work.layers(RATIOS[:1]),
            "  five ratios": lambda: work.layers(RATIOS),
        }
    work.eigenbases()
    times = side_by_side(variants, options.repetitions)
    table = Table(
        title=f"{options.hidden} wide, MLP {options.ffn}, {options.layers} block(s), float64, "
        f"{torch.get_num_threads()} thread(s), median of {options.repetitions}"
    )
    table.add_column("what")
    for column in ("seconds", "ratio", "range", "of", "aim"):
        table.add_column(column, justify="right")
    compared = {
        "  Algorithm 1's eigenproblems": ("gate and up: eigenbases", "this / ours", AIMS["eigenproblems"]),
        "  Algorithm 1, stage 2 at one ratio": ("gate and up: components for every ratio", "this / ours", ""),
        "  five ratios": ("every Linear: one ratio", "five / one", AIMS["ratios"]),
    }
    for name in variants:
        row = [name, f"{median(times[name]):.2f}"]
        if name in compared:
            other, what, aim = compared[name]
            ratios = [a / b for a, b in zip(times[name], times[other], strict=True)]
            row += [f"{median(ratios):.2f}", f"{min(ratios):.2f} - {max(ratios):.2f}", what, aim]
        table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
