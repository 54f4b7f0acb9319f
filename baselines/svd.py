"""Plain SVD of the weights (the SVD rows, from Li et al. 2025a), and the SVD routine that its weighted forms share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from impact.factorisation import Factorisation, bias_of
from impact.interface import Components, Statistics, Unit
from impact.rank_rule import RankRule


@dataclass(frozen=True)
class Svd(Factorisation):
    """Truncated SVD of W; needs no calibration. Factors as Basel exports them: down = S V^T, up = U."""

    name: ClassVar[str] = "svd"
    version: ClassVar[int | None] = 1

    def statistics(self) -> frozenset[str]:
        return frozenset()

    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        (linear,) = modules
        U, S, Vh = singular_triplets(linear.weight.detach().double())
        return Components(
            S, {"down": S[:, None] * Vh, "up": U, "bias": bias_of(linear)}, (linear.out_features, linear.in_features)
        )


def singular_triplets(M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD in float64: U (m, d), S (d,), Vh (d, n) with d = min(m, n).

    A tall matrix is reduced to a square one by QR first, which for an lm_head saves most of the work.
    """
    m, n = M.shape
    if m > 2 * n:
        Q, R = torch.linalg.qr(M)
        U, S, Vh = torch.linalg.svd(R, full_matrices=False)
        return Q @ U, S, Vh
    return torch.linalg.svd(M, full_matrices=False)
