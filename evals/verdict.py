"""The outcome of scoring one completion."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a completion is right, the answer read out of it (None: none was found) and the gold answer, as texts."""

    correct: bool
    extracted: str | None
    gold: str
