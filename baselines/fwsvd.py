"""FWSVD: Fisher-weighted SVD (Hsu et al. 2022, Language Model Compression with Weighted Low-Rank Factorization)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from baselines.svd import singular_triplets
from impact.factorisation import Factorisation, bias_of
from impact.interface import Components, Statistics, Unit
from impact.rank_rule import RankRule

FISHER_FLOOR = 1e-8
"""Smallest row Fisher relative to the mean: rows without a gradient would blow up D^-1."""


@dataclass(frozen=True)
class Fwsvd(Factorisation):
    """SVD of D W with D = diag(sqrt(row Fisher)), rows being outputs: up = D^-1 U S, down = V^T."""

    name: ClassVar[str] = "fwsvd"
    version: ClassVar[int | None] = 1

    def statistics(self) -> frozenset[str]:
        return frozenset({"weight_fisher"})

    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        (linear,) = modules
        W = linear.weight.detach().double()
        fisher = statistics["weight_fisher"].double().to(W.device)
        if fisher.sum() == 0:
            raise ValueError("the Fisher information of a layer is zero on the whole calibration set")
        D = (fisher / fisher.mean()).clamp(min=FISHER_FLOOR).sqrt()[:, None]
        U, S, Vh = singular_triplets(D * W)
        return Components(
            S, {"down": Vh, "up": U * S / D, "bias": bias_of(linear)}, (linear.out_features, linear.in_features)
        )
