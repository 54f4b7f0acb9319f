"""The generated domains by name."""

from typing import Any

from experiments.miniature.problems import MATHEMATICS
from experiments.miniature.programs import CODE
from experiments.miniature.splits import Domain, Row, Sizes

__all__ = ["DOMAINS", "Row", "Sizes", "generate"]

DOMAINS: dict[str, Domain[Any]] = {"mathematics": MATHEMATICS, "code": CODE}


def generate(domain: str, seed: int, sizes: Sizes) -> dict[str, list[Row]]:
    """All splits of a domain: one test split a benchmark, heldout, calibration and train."""
    return DOMAINS[domain].generate(seed, sizes)
