"""Kept generations: one JSON line a problem, from which a score can be computed without a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evals.json_lines import write_json_lines


@dataclass(frozen=True)
class Generation:
    """One problem's prompt and completion."""

    task_id: str
    prompt: str
    completion: str


def write_generations(path: Path, generations: Sequence[Generation]) -> None:
    """One JSON line a generation, as `write_json_lines`."""
    write_json_lines(path, map(asdict, generations))
