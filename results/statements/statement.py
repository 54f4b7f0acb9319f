"""A sentence of the paper that can be judged: on a run, and on the paper's own printed numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from results.statements.criteria import Finding, Kind, Recomputed
from results.statements.run import Run


@dataclass(frozen=True)
class Statement(ABC):
    """A sentence of the paper; a finding is none, but a pattern of its numbers.

    tables: those that it is about. Their documents show its verdict, unless it is a headline: what the abstract, the
    conclusion and others say of the same tables once more.
    """

    id: str
    section: str
    sentence: str
    _: KW_ONLY
    tables: tuple[int, ...] = ()
    kind: Kind = "claim"
    headline: bool = False

    @property
    def name(self) -> str:
        """What it is called among those of all tables."""
        return self.id

    def benchmarks(self, measured: Sequence[str] | None = None) -> Sequence[str]:
        """Those of the measured ones, or else of the printed ones, that get a verdict each; "" for one of them all."""
        return ("",)

    @abstractmethod
    def judge(self, run: Run, benchmark: str = "") -> Finding:
        """What a run says of it; "not measured" where it lacks what the sentence speaks of."""

    @abstractmethod
    def on_print(self, benchmark: str = "") -> Recomputed:
        """What the printed tables say of it."""
