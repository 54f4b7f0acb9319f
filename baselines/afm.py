"""AFM: atomic feature mimicking (Yu and Wu 2023, Compressing Transformers: Features Are Low-Rank, but Weights Not)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from impact.interface import Statistics
from impact.method import Impact


@dataclass(frozen=True)
class Afm(Impact):
    """PCA of the activations: IMPACT with a = 1, so that no gradient is gathered. Ranks by the same k rule."""

    name: ClassVar[str] = "afm"
    version: ClassVar[int | None] = 2
    eta: float = field(default=1.0, init=False)

    def statistics(self) -> frozenset[str]:
        return frozenset({"activation_covariance"})

    def coefficient(self, m: int, statistics: Statistics) -> Tensor:
        return torch.ones(m, dtype=torch.float64)
