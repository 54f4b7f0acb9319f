"""The layer interface: what every compression method is made of.

A method says which statistics calibration must gather and which units of a model it compresses; then

    prepare (once) -> allocate (once a ratio) -> realise

`prepare` costs an eigendecomposition or an SVD and does not depend on the ratio, `allocate` turns the spectra of all
units into what each keeps, `realise` builds the replacement modules. For a factorisation a unit is one Linear and what
it keeps is a rank (impact.factorisation). For pruning (FLAP) a unit is an attention block or an MLP with the Linears
it spans, its spectrum holds one importance a head or neuron, and what it keeps is an index set.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from impact.rank_rule import RankRule, RuleKind

Statistics = Mapping[str, Tensor]
"""What calibration gathered for one module: tensor name (impact.calibration) -> tensor."""

Kept = int | tuple[int, ...] | None
"""What a unit keeps: a rank, an index set, or None where it stays dense."""

Sensitivity = dict[str, dict[float, float]]
"""Unit -> candidate parameter ratio -> perplexity with this unit alone truncated to it."""


@dataclass(frozen=True)
class Unit:
    """What a method compresses as one piece: dotted names of the Linears it spans; the first one names the unit and
    is the one whose statistics it reads. parts: how many heads or neurons it is made of, where those are pruned."""

    modules: tuple[str, ...]
    parts: int = 1

    @property
    def name(self) -> str:
        return self.modules[0]


@dataclass
class Components:
    """A prepared unit: its importance spectrum and the tensors that any kept part is cut from.

    spectrum: (d,), descending, at full length even where the tensors are capped. shape: (m, n) of the dense weight; of
    a pruned unit, the weights of one part and how many parts there are. Either way m n counts the dense weights.
    """

    spectrum: Tensor
    tensors: Mapping[str, Tensor]
    shape: tuple[int, int]


class Method(ABC):
    """One compression method."""

    name: ClassVar[str]
    version: ClassVar[int | None] = None
    """Raised whenever its components would be others; it is not inherited. None: outputs follow its source files."""
    rule: ClassVar[RuleKind] = "nuclear_norm"
    """What its keep ratio is a share of."""
    searches: ClassVar[bool] = False
    """Whether `score` must run before `allocate`."""

    @abstractmethod
    def statistics(self) -> frozenset[str]:
        """Names of the statistics that `prepare` and `realise` read (impact.calibration.STATISTICS)."""

    @abstractmethod
    def units(self, model: nn.Module) -> list[Unit]:
        """What it compresses in this model."""

    @abstractmethod
    def prepare(
        self, unit: Unit, modules: Sequence[nn.Linear], statistics: Statistics, rules: Sequence[RankRule] = ()
    ) -> Components:
        """Components of one unit, no smaller than any of the rules can ask for; at full rank without rules."""

    @abstractmethod
    def allocate(
        self, rule: RankRule, components: Mapping[str, Components], sensitivity: Sensitivity | None
    ) -> dict[str, Kept]:
        """What each unit keeps. Raises ValueError for a rule that has no meaning for the method."""

    @abstractmethod
    def realise(
        self, modules: Sequence[nn.Linear], components: Components, kept: Kept, statistics: Statistics
    ) -> Sequence[nn.Module]:
        """The replacement of each module of the unit, in the order of Unit.modules."""

    @abstractmethod
    def parameters(self, unit: Unit, modules: Sequence[nn.Linear], kept: Kept) -> int:
        """Parameters of the unit's replacements, or where it stays dense of its modules."""

    def cap(self, components: Components, rules: Sequence[RankRule]) -> Components:
        """The components without what no rule can ask for: full bases of a 7B model would take 41 GB."""
        return components

    def score(
        self, model: nn.Module, components: Mapping[str, Components], perplexity: Callable[[nn.Module], float]
    ) -> Sensitivity | None:
        """Runs the model where allocation needs that (ASVD); None for the methods that don't."""
        return None
