"""IMPACT as a method on the layer interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from impact.factorisation import Factorisation, bias_of
from impact.importance import transformation_coefficient
from impact.interface import Components, Statistics, Unit
from impact.rank_rule import RankRule
from impact.reconstruction import ActivationMoments, reconstruction_factors, weighted_eigenbasis


@dataclass(frozen=True)
class Impact(Factorisation):
    """Reconstructs activations along the eigenvectors of the importance-weighted covariance (IMPACT, Algorithm 1).

    eta: 1 ignores the gradient (and is AFM), 0 weights by it alone (equation 4). The spectrum is sqrt(Lambda).
    """

    name: ClassVar[str] = "impact"
    version: ClassVar[int | None] = 2
    eta: float = 0.25

    def statistics(self) -> frozenset[str]:
        return frozenset({"activation_covariance", "squared_gradient"})

    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        (linear,) = modules
        W, b = linear.weight.detach().double(), bias_of(linear)
        moments = activation_moments(statistics)
        a = self.coefficient(W.shape[0], statistics).to(W.device)
        shape = (W.shape[0], W.shape[1])

        def rank_of(Lambda: Tensor) -> int:
            outline = Components(Lambda.sqrt(), {}, shape)
            return max((self.largest_rank(outline, rule) for rule in rules), default=len(Lambda))

        Lambda, U = weighted_eigenbasis(W, moments, a, rank_of)
        tensors = reconstruction_factors(W, b, moments.activation_mean(W, b), a, U)
        return Components(Lambda.sqrt(), tensors, shape)

    def coefficient(self, m: int, statistics: Statistics) -> Tensor:
        """a of equation 4, (m,)."""
        return transformation_coefficient(statistics["squared_gradient"], self.eta)


def activation_moments(statistics: Statistics) -> ActivationMoments:
    """The moments that calibration gathered, whichever side it chose."""
    side = "input" if "input_covariance" in statistics else "output"
    return ActivationMoments(statistics[f"{side}_mean"], statistics[f"{side}_covariance"], side)
