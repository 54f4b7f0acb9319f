"""Whoever watches a run: the progress display, and what mirrors it elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from experiments.jobs import Job


class Observer(Protocol):
    """Is told what happens to bundles of jobs, from the threads that wait for them."""

    def started(self, jobs: list[Job]) -> None:
        """A bundle begins."""

    def advanced(self, jobs: list[Job], done: float, total: float) -> None:
        """A bundle has done some part of its work."""

    def logged(self, jobs: list[Job], values: Mapping[str, float]) -> None:
        """A bundle has numbers of the moment, such as a training step's loss."""

    def told(self, jobs: list[Job], line: str) -> None:
        """A bundle has something that a person should know although it goes on."""

    def ended(self, jobs: list[Job], error: str | None) -> None:
        """A bundle is finished, or failed with one line."""


class Together:
    """Several observers as one, or none."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self.observers = observers

    def started(self, jobs: list[Job]) -> None:
        for observer in self.observers:
            observer.started(jobs)

    def advanced(self, jobs: list[Job], done: float, total: float) -> None:
        for observer in self.observers:
            observer.advanced(jobs, done, total)

    def logged(self, jobs: list[Job], values: Mapping[str, float]) -> None:
        for observer in self.observers:
            observer.logged(jobs, values)

    def told(self, jobs: list[Job], line: str) -> None:
        for observer in self.observers:
            observer.told(jobs, line)

    def ended(self, jobs: list[Job], error: str | None) -> None:
        for observer in self.observers:
            observer.ended(jobs, error)
