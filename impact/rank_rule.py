"""How much a method is asked to keep; apart from the interface, so that planning a run need not import torch."""

from dataclasses import dataclass
from typing import Literal

RuleKind = Literal["nuclear_norm", "parameter_ratio"]


@dataclass(frozen=True)
class RankRule:
    """How much to keep: k percent of each spectrum's sum, or a fraction of the dense parameters.

    Raises ValueError for a value outside (0, 100] or (0, 1].
    """

    kind: RuleKind
    value: float

    def __post_init__(self) -> None:
        name, top = {"nuclear_norm": ("keep ratio k", 100), "parameter_ratio": ("parameter ratio", 1)}[self.kind]
        if not 0 < self.value <= top:
            raise ValueError(f"{name} must lie in (0, {top}], got {self.value:g}")
