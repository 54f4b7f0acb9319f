"""What happens in a run, for whoever watches it: the progress display, and what mirrors it elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from experiments.jobs.job import Job


@dataclass(frozen=True)
class Event:
    """What happened to a bundle of jobs.

    kind, values: `started`, nothing; `advanced`, what is done of its work and the whole of it; `logged`, numbers of the
    moment by name, such as a training step's loss; `told`, a line that a person should know although it goes on;
    `ended`, the line that it failed with, or None. Only a cluster's job tells of `died`: the line why this attempt came
    to nothing, where another one may do better.
    """

    jobs: list[Job]
    kind: Literal["started", "advanced", "logged", "told", "ended", "died"]
    values: tuple[Any, ...] = ()


Observer: TypeAlias = Callable[[Event], None]
"""Is called from the threads that wait for jobs."""
