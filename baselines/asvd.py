"""ASVD: activation-aware SVD with a sensitivity-based search for truncation ranks (Yuan et al. 2023)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
from torch import nn

from baselines.gradient_sensitivity import LossSource, loss_changes
from baselines.replay import Replay
from baselines.svd import singular_triplets
from impact.factorisation import Factorisation, bias_of
from impact.interface import Components, Kept, Sensitivity, Statistics, Unit
from impact.rank_rule import RankRule, RuleKind
from impact.ranks import parameter_ratio_rank

DENSE = 1.0
Measured = Literal["exact", "gradient"]


@dataclass(frozen=True)
class Asvd(Factorisation):
    """SVD of W S with S = diag(mean|x|^alpha); the singular values are split evenly between the factors.

    candidates: the parameter ratios that the search tries for each layer, ascending. sensitivity: "exact" evaluates
    each of them, "gradient" estimates them all from one backward pass.
    """

    name: ClassVar[str] = "asvd"
    version: ClassVar[int | None] = 1
    rule: ClassVar[RuleKind] = "parameter_ratio"
    searches: ClassVar[bool] = True
    alpha: float = 0.5
    candidates: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    sensitivity: Measured = "exact"

    def __post_init__(self) -> None:
        if not self.candidates or any(low >= high for low, high in pairwise((0.0, *self.candidates, DENSE))):
            raise ValueError(f"ASVD's candidates must ascend inside (0, 1), got {self.candidates}")
        if self.sensitivity not in get_args(Measured):
            raise ValueError(f"ASVD's sensitivity is one of {', '.join(get_args(Measured))}, got {self.sensitivity!r}")

    def statistics(self) -> frozenset[str]:
        return frozenset({"input_magnitude"})

    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        (linear,) = modules
        scale = statistics["input_magnitude"].double().to(linear.weight.device).pow(self.alpha) + 1e-6
        U, S, Vh = singular_triplets(linear.weight.detach().double() * scale)
        root = S.sqrt()
        tensors = {"down": root[:, None] * Vh / scale, "up": U * root, "bias": bias_of(linear)}
        return Components(S, tensors, (linear.out_features, linear.in_features))

    def candidate_ranks(self, component: Components) -> list[int]:
        """The rank at each candidate ratio."""
        return [parameter_ratio_rank(component.shape, ratio) for ratio in self.candidates]

    def largest_rank(self, components: Components, rule: RankRule) -> int:
        return parameter_ratio_rank(components.shape, self.candidates[-1])

    def score(
        self, model: nn.Module, components: Mapping[str, Components], perplexity: Callable[[nn.Module], float]
    ) -> Sensitivity:
        """Perplexity with each layer alone truncated to each candidate; the model is left as it was.

        Exactly: `perplexity` runs the model on the same batches each time, and what a truncation leaves unchanged is
        not computed again (baselines.replay). By gradients: `perplexity` is a LossSource, and the result is the dense
        perplexity times 1 + the change of the loss. Raises ValueError if it is none.
        """
        if self.sensitivity == "gradient":
            if not isinstance(perplexity, LossSource):
                raise ValueError("ASVD's sensitivity = gradient needs the losses of the batches, not only a perplexity")
            return self._estimate(model, components, perplexity)
        replay = Replay(model, perplexity)
        sensitivity: Sensitivity = {}
        for name, component in components.items():
            dense = model.get_submodule(name)
            assert isinstance(dense, nn.Linear)
            sensitivity[name] = {}
            for ratio, rank in zip(self.candidates, self.candidate_ranks(component), strict=True):
                (truncated,) = self.realise([dense], component, rank, {})
                sensitivity[name][ratio] = replay.replaced(name, truncated)
        return sensitivity

    def _estimate(self, model: nn.Module, components: Mapping[str, Components], source: LossSource) -> Sensitivity:
        loss, changes = loss_changes(model, components, self.candidate_ranks, source.losses)
        # not exp(change): it would overflow, and only the order counts
        return {
            name: {ratio: math.exp(loss) * (1 + change) for ratio, change in zip(self.candidates, row, strict=True)}
            for name, row in changes.items()
        }

    def allocate(
        self, rule: RankRule, components: Mapping[str, Components], sensitivity: Sensitivity | None
    ) -> dict[str, Kept]:
        if rule.kind != "parameter_ratio" or sensitivity is None:
            raise ValueError("ASVD's search aims at a parameter ratio and needs the measured sensitivities")
        weights = {name: c.shape[0] * c.shape[1] for name, c in components.items()}
        ratios = search_ratios({name: sensitivity[name] for name in components}, weights, rule.value)
        return {
            name: None if ratios[name] == DENSE else parameter_ratio_rank(component.shape, ratios[name])
            for name, component in components.items()
        }


def search_ratios(sensitivity: Sensitivity, weights: Mapping[str, int], target: float) -> dict[str, float]:
    """ASVD's binary search: layer -> parameter ratio, 1 for dense, at most `target` of all weights together.

    All (layer, ratio) pairs are ordered from the most harmful down. Cutting the list at p leaves each layer its
    smallest ratio behind the cut; the largest p that meets the target is taken. Raises ValueError for a target below
    the smallest candidates.
    """
    pairs = sorted(
        ((ppl, name, ratio) for name, row in sensitivity.items() for ratio, ppl in row.items()),
        key=lambda pair: (-torch.inf if pair[0] != pair[0] else -pair[0], pair[2], pair[1]),
    )

    def ratios_behind(cut: int) -> dict[str, float]:
        chosen = dict.fromkeys(sensitivity, DENSE)
        for _, name, ratio in pairs[cut:]:
            chosen[name] = min(chosen[name], ratio)
        return chosen

    def kept(cut: int) -> float:
        chosen = ratios_behind(cut)
        return sum(chosen[name] * weights[name] for name in chosen) / sum(weights[name] for name in chosen)

    reachable = kept(0)
    if reachable > target + 1e-9:
        raise ValueError(f"ASVD's smallest candidates keep {reachable:.2f} of the weights: {target:g} is out of reach")
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if kept(middle) <= target + 1e-9 else (low, middle - 1)
    return ratios_behind(low)
