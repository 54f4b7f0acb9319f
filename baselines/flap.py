"""FLAP: heads and neurons pruned by how little they fluctuate, their means kept in a bias (An et al. 2024,
Fluctuation-based Adaptive Structured Pruning for Large Language Models)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from impact.factorisation import bias_of
from impact.interface import Components, Kept, Method, Sensitivity, Statistics, Unit
from impact.rank_rule import RankRule, RuleKind

# The Linear that reads the parts first, then those that write them: one each, or one for all of them (Phi-3).
_ATTENTION = (("o_proj", "q_proj", "k_proj", "v_proj"), ("o_proj", "qkv_proj"))
_MLP = (("down_proj", "gate_proj", "up_proj"), ("down_proj", "gate_up_proj"))


@dataclass(frozen=True)
class Flap(Method):
    """Removes the parts of attention blocks and MLPs whose contribution to the output varies least over tokens.

    A part is a neuron, or a key-value head with all query heads that share it. Its weighted fluctuation is
    Var(x_j) |W_j|^2 of its channels j in o_proj or down_proj; what it gave on average goes into their bias. lm_head,
    the embeddings and the residual stream keep their width.
    """

    name: ClassVar[str] = "flap"
    version: ClassVar[int | None] = 1
    rule: ClassVar[RuleKind] = "parameter_ratio"

    def statistics(self) -> frozenset[str]:
        return frozenset({"input_variance"})

    def units(self, model: nn.Module) -> list[Unit]:
        units = []
        for name, module in model.named_modules():
            block: Any = module
            children = {child for child, _ in module.named_children()}
            for spanned in (*_ATTENTION, *_MLP):
                if children.issuperset(spanned):
                    parts = block.get_submodule(spanned[0]).in_features
                    if spanned in _ATTENTION:
                        parts //= block.head_dim * block.num_key_value_groups
                    units.append(Unit(tuple(f"{name}.{child}" for child in spanned), parts))
        if not units:
            layers = " nor ".join(", ".join(spanned) for spanned in (*_ATTENTION, *_MLP))
            raise ValueError(f"FLAP finds neither {layers} in this model")
        return units

    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        W = modules[0].weight.detach().double()
        mean, variance = (statistics[f"channel_{moment}"].double().to(W.device) for moment in ("mean", "variance"))
        fluctuation = variance * W.square().sum(dim=0)
        attention = unit.name.endswith("o_proj")
        if attention:
            fluctuation = fluctuation.square()  # as the published code does, for attention alone
        deviation = fluctuation.std()
        if not 0 < deviation < torch.inf:
            raise ValueError("all of its channels fluctuate alike on the calibration set: none can be preferred")
        importance = (fluctuation / deviation).view(unit.parts, -1).mean(dim=1)
        spectrum, order = importance.sort(descending=True, stable=True)
        weights = sum(module.weight.numel() for module in modules)
        tensors = {"order": order, "mean": mean}
        if len(modules) == 2:
            # of one writer for all: how many of its rows are each's, q, k and v or gate and up
            first, rest = W.shape[1], modules[1].out_features - W.shape[1]
            tensors["rows"] = torch.tensor([first, rest // 2, rest // 2] if attention else [first, rest])
        return Components(spectrum, tensors, (weights // unit.parts, unit.parts))

    def allocate(
        self, rule: RankRule, components: Mapping[str, Components], sensitivity: Sensitivity | None
    ) -> dict[str, Kept]:
        if rule.kind != "parameter_ratio":
            raise ValueError("FLAP keeps a share of the weights: it has a parameter ratio and no keep ratio k")
        units = components.values()
        counts = adaptive_search([c.spectrum for c in units], [c.shape[0] for c in units], rule.value)
        return {
            name: None if count == c.shape[1] else tuple(sorted(c.tensors["order"][:count].long().tolist()))
            for (name, c), count in zip(components.items(), counts, strict=True)
        }

    def realise(
        self, modules: Sequence[nn.Linear], components: Components, kept: Kept, statistics: Statistics
    ) -> Sequence[nn.Module]:
        if not isinstance(kept, tuple):
            raise TypeError(f"{self.name} keeps an index set, not {kept!r}")
        reader, *writers = modules
        parts = components.shape[1]
        W, mean = reader.weight.detach(), components.tensors["mean"].to(reader.weight.device, torch.float64)
        removed = _channels(sorted(set(range(parts)) - set(kept)), reader.in_features // parts, W.device)
        bias = bias_of(reader) + W[:, removed].double() @ mean[removed]
        narrowed = [_linear(W[:, _channels(kept, reader.in_features // parts, W.device)], bias)]
        for writer in writers:
            matrices = (
                components.tensors["rows"].long().tolist() if "rows" in components.tensors else writer.out_features
            )
            split = torch.arange(writer.out_features, device=W.device).split(matrices)
            rows = torch.cat([matrix.view(parts, -1)[list(kept)].flatten() for matrix in split])
            narrowed.append(_linear(writer.weight.detach()[rows], None if writer.bias is None else writer.bias[rows]))
        return narrowed

    def parameters(self, unit: Unit, modules: Sequence[nn.Linear], kept: Kept) -> int:
        dense = sum(p.numel() for module in modules for p in module.parameters())
        if not isinstance(kept, tuple):
            return dense
        reader, *writers = modules
        narrowed = reader.weight.numel() + sum(p.numel() for module in writers for p in module.parameters())
        added = reader.out_features if reader.bias is None else 0
        return dense - narrowed + narrowed // unit.parts * len(kept) + added


def adaptive_search(spectra: Sequence[Tensor], weights: Sequence[int], ratio: float) -> list[int]:
    """FLAP's adaptive structure (AL-AM): how many parts each unit keeps, its most important ones.

    spectra: of each unit, (parts,), descending, over the deviation of its channels; less their mean they are the
    published standard scores, which are comparable between units. weights: of one part of each unit, 4 h d_head of a
    head without sharing and 3 h of a neuron. Of all parts ordered by score, those are kept whose weights together come
    closest to `ratio` of all weights.
    """
    scores = [(spectrum - spectrum.mean()).cpu() for spectrum in spectra]
    for score in scores:
        score[0] = torch.inf  # a block without any head or neuron could not run
    sizes = torch.tensor([len(score) for score in scores])
    order = torch.cat(scores).argsort(descending=True, stable=True)
    kept = torch.tensor(weights).repeat_interleave(sizes)[order].cumsum(dim=0).double()
    # The part that comes closest is kept: the published code drops it too, and so would remove one at a ratio of 1.
    count = max(int((kept - ratio * kept[-1]).abs().argmin()) + 1, len(scores))
    owner = torch.arange(len(scores)).repeat_interleave(sizes)
    return [int(parts) for parts in owner[order[:count]].bincount(minlength=len(scores))]


def _channels(parts: Sequence[int], size: int, device: torch.device) -> Tensor:
    """The channels of the parts, each of them `size` neighbours."""
    first = torch.tensor(parts, dtype=torch.long, device=device) * size
    return (first[:, None] + torch.arange(size, device=device)).flatten()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear of a weight (m, n) and a bias (m,). No class of its own: quantization looks for nn.Linear itself."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().to(weight.dtype))
    return layer
