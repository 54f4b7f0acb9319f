"""A job: one run of a stage, identified by its recipe alone."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from experiments.jobs.stage import Stage
from experiments.settings import Settings


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a stage.

    inputs: slot -> the job whose output fills it. paths: physical places (a data directory) that the stage reads;
    they stay out of the identity, and what they hold enters it through the config (hashes of files).
    label: what a person calls it, such as "impact row 3".
    """

    stage: Stage
    config: Settings
    inputs: Mapping[str, "Job"] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @cached_property
    def id(self) -> str:
        """Hash of the recipe: stage, its version, config and the inputs' identities. No path, no library version."""
        recipe = json.dumps(self.recipe(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def recipe(self) -> dict[str, Any]:
        """What the identity is made of."""
        return {
            "stage": self.stage.name,
            "version": self.stage.version_of(self.config),
            "config": self.config.model_dump(mode="json"),
            "inputs": {slot: job.id for slot, job in self.inputs.items()},
        }

    @property
    def key(self) -> str:
        """Where its output lies in a store: stage/id."""
        return f"{self.stage.name}/{self.id}"

    @property
    def accelerated(self) -> bool:
        """Whether it works on a GPU where there is one."""
        return "model" in self.inputs or self.stage.accelerated

    @property
    def processes(self) -> int:
        """Processes that it trains in, each on a GPU of its own where there are GPUs; 1 for everything else."""
        return int(getattr(getattr(self.config, "training", None), "processes", 1))

    def describe(self) -> str:
        """Stage and label, for people."""
        return f"{self.stage.name} {self.label}".strip()


def with_inputs(jobs: Iterable[Job]) -> list[Job]:
    """The jobs and everything that they depend on, inputs first, each recipe once."""
    ordered: dict[str, Job] = {}

    def visit(job: Job) -> None:
        if job.key not in ordered:
            for upstream in job.inputs.values():
                visit(upstream)
            ordered.setdefault(job.key, job)

    for job in jobs:
        visit(job)
    return list(ordered.values())


def bundles(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs that one run of their stage can make together: those of a bundling stage with equal inputs."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.stage.bundles:
            rest = job.config.model_dump(mode="json", exclude=set(job.stage.bundles))
            key = json.dumps([job.stage.name, rest, {slot: up.id for slot, up in job.inputs.items()}], sort_keys=True)
        else:
            key = job.key
        groups.setdefault(key, []).append(job)
    yield from groups.values()
