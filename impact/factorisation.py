"""Factorised layers: the module, and what all methods share that replace a Linear by two."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from impact.interface import Components, Kept, Method, Sensitivity, Statistics, Unit
from impact.rank_rule import RankRule
from impact.ranks import nuclear_norm_rank, parameter_ratio_rank


class FactorisedLinear(nn.Module):
    """y_hat = up (down x) + b': two Linears in the place of one (section 3.6).

    down: (r, n), no bias. up: (m, r), with bias. It has no in_features/out_features on purpose: libraries that
    look for them would take it for one matrix.
    """

    def __init__(self, in_features: int, rank: int, out_features: int, **factory: object) -> None:
        super().__init__()
        self.down = nn.Linear(in_features, rank, bias=False, **factory)
        self.up = nn.Linear(rank, out_features, bias=True, **factory)

    @classmethod
    def from_factors(cls, down: Tensor, up: Tensor, bias: Tensor) -> "FactorisedLinear":
        """The module with these factors: down (r, n), up (m, r), bias (m,)."""
        layer = cls(down.shape[1], down.shape[0], up.shape[0], device="meta")
        layer.down.weight = nn.Parameter(down.contiguous())
        layer.up.weight = nn.Parameter(up.contiguous())
        layer.up.bias = nn.Parameter(bias.contiguous())
        return layer

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class Factorisation(Method):
    """A method whose kept part is nested in r: it takes the first r rows of down and columns of up.

    Components.tensors: down (R, n), up (m, R), bias (m,) and, where the bias depends on the rank, offset (R,):
    b' = bias + up_r offset_r. R is the largest rank that was asked for.
    """

    def units(self, model: nn.Module) -> list[Unit]:
        # Every Linear, lm_head included: the printed sizes admit no other reading (docs/assumptions.md).
        return [Unit((name,)) for name, module in model.named_modules() if isinstance(module, nn.Linear)]

    def allocate(
        self, rule: RankRule, components: Mapping[str, Components], sensitivity: Sensitivity | None
    ) -> dict[str, Kept]:
        return {name: self.largest_rank(c, rule) for name, c in components.items()}

    def cap(self, components: Components, rules: Sequence[RankRule]) -> Components:
        rank = max(self.largest_rank(components, rule) for rule in rules)
        cut = {"down": (slice(rank),), "up": (slice(None), slice(rank)), "offset": (slice(rank),)}
        tensors = {name: t[cut[name]].clone() if name in cut else t for name, t in components.tensors.items()}
        return Components(components.spectrum, tensors, components.shape)

    def parameters(self, unit: Unit, modules: Sequence[nn.Linear], kept: Kept) -> int:
        m, n = modules[0].weight.shape
        return kept * (m + n) + m if isinstance(kept, int) else sum(p.numel() for p in modules[0].parameters())

    def largest_rank(self, components: Components, rule: RankRule) -> int:
        """The largest rank that `allocate` can give a unit under a rule, whatever the other units are."""
        if rule.kind == "nuclear_norm":
            return nuclear_norm_rank(components.spectrum, rule.value)
        return parameter_ratio_rank(components.shape, rule.value)

    def realise(
        self, modules: Sequence[nn.Linear], components: Components, kept: Kept, statistics: Statistics
    ) -> Sequence[nn.Module]:
        if not isinstance(kept, int):
            raise TypeError(f"{self.name} keeps a rank, not {kept!r}")
        tensors, weight = components.tensors, modules[0].weight
        if not 0 < kept <= len(tensors["down"]):
            raise ValueError(f"rank {kept} asked of components that were prepared up to rank {len(tensors['down'])}")
        up, bias = tensors["up"][:, :kept], tensors["bias"]
        if "offset" in tensors:
            bias = bias + up @ tensors["offset"][:kept]
        return [
            FactorisedLinear.from_factors(
                # copies: training the layer must not reach the components, or the dense bias they came from
                *(t.to(weight.device, weight.dtype, copy=True) for t in (tensors["down"][:kept], up, bias))
            )
        ]


def bias_of(linear: nn.Linear) -> Tensor:
    """The bias in float64, (m,), zeros where there is none."""
    if linear.bias is None:
        return torch.zeros(linear.weight.shape[0], dtype=torch.float64, device=linear.weight.device)
    return linear.bias.detach().double()
