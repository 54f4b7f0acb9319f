"""Kept generations: one JSON line a problem, from which a score can be recomputed without a model."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Generation:
    """One problem's prompt, completion and verdict."""

    task_id: str
    prompt: str
    completion: str
    extracted: str | None
    gold: str
    correct: bool


@dataclass(frozen=True)
class EvaluationSummary:
    """Verdicts of `n` problems, in the data file's order."""

    n: int
    correct: list[bool]

    @property
    def accuracy(self) -> float:
        """Share of right answers, in percent."""
        return 100.0 * sum(self.correct) / self.n


def write_generations(path: Path, generations: Sequence[Generation]) -> None:
    """Write JSONL so that `path` is either complete or untouched. Its folder must exist."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for generation in generations:
            stream.write(json.dumps(asdict(generation), ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
