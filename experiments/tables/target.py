"""Targets: what can be asked for by name, a table or a figure, with the plan that measures it and what comes of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import NotInTableError
from experiments.settings import Preset

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.jobs.job import Job
    from experiments.jobs.store import Store
    from results.tables.document import Document

_SAYS_TARGETS = "\ndef targets() -> "
RUNNING = ("checkpoint_minutes", "cluster", "wandb", "dry_run")
"""Options of everything that is measured."""
OF_MODELS = ("methods", "rows", "eta", "data_dir", "model_dir", "unsafe_local_execution", *RUNNING)
"""Options of what is measured of compressed models."""


@dataclass(frozen=True)
class Selection:
    """What the user asked for beyond preset and target; None leaves the preset's choice.

    isolated: whether generated programs run in isolation, or the user gave that up. externals: name -> directory or
    hub name of a checkpoint that stands as a row of its own. models: of those that the table has. random_weights, load
    and routes: of Table 14, load by the names of `experiments.settings.Load`.
    """

    methods: tuple[str, ...] | None = None
    rows: tuple[int, ...] | None = None
    seeds: int = 1
    eta: float | None = None
    data_dir: Path | None = None
    model_dir: Path | None = None
    isolated: bool = True
    externals: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    random_weights: bool = False
    load: Mapping[str, int] = field(default_factory=dict)
    routes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """What one target is to be planned for.

    names: of the target and of what is made with it, those that the user named. everything: whether `all` was asked
    for. say: tells the user a line.
    """

    preset: Preset
    selection: Selection
    names: frozenset[str] = frozenset()
    everything: bool = False
    say: Callable[[str], None] = print

    def wants(self, name: str) -> bool:
        """Whether a table or figure is wanted, by its name or as one of all."""
        return self.everything or name in self.names

    def leave_out(self, name: str, reason: NotInTableError) -> None:
        """Says why `all` goes without a table. Raises the reason where the user named it."""
        if name in self.names or not self.everything:
            raise reason
        self.say(f"left out of all: {reason}")


@dataclass(frozen=True)
class Publication:
    """One table, or figures, made from finished jobs.

    name: of the target. heading: a line above it on the terminal. figures: draws them into a folder and returns the
    files. remarks: lines below it. provenance, runs: of a figure without a table, whose record they are; runs: what it
    has of each -> its key in the store.
    """

    name: str
    heading: str
    document: "Document | None" = None
    figures: Callable[[Path], list[Path]] | None = None
    remarks: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)


class Plan(ABC):
    """A target's jobs, and what is published of them once they are finished."""

    @property
    @abstractmethod
    def jobs(self) -> "list[Job]":
        """Every job, inputs first."""

    @property
    def consulted(self) -> "Sequence[Job]":
        """Further jobs whose outputs it looks at if they are finished, but does not make."""
        return ()

    @property
    def wanted(self) -> frozenset[str]:
        """Of the names that its target makes, those that are published; empty where all of them are."""
        return frozenset()

    @abstractmethod
    def publications(self, store: "Store", command: str) -> Iterator[Publication]:
        """What was asked for, from the finished jobs. Raises UserError for what can't stand in one table."""

    def show_missing(self, missing: "Sequence[Job]", store: Path, console: "Console") -> None:
        """What a dry run says of the jobs that would run: a line each."""
        for job in missing:
            console.print(job.describe(), markup=False)
        console.print(f"{len(missing)} jobs would run")


@dataclass(frozen=True)
class Target:
    """A table or figure that is measured; options: the names of those that mean something to it.

    figures: names of those drawn with it. derived: names of the tables that are computed from its cells, and what they
    are.
    """

    name: str
    about: str
    plan: Callable[[Asked], Plan]
    options: tuple[str, ...]
    figures: tuple[str, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is made from its jobs."""
        return (self.name, *self.figures, *self.derived)


def targets() -> dict[str, Target]:
    """Every target by its name, of each file in this folder that says which it has; accuracy tables come first."""
    files = sorted(path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__))
    modules = [import_module(f"{__package__}.{path.stem}") for path in files if _SAYS_TARGETS in path.read_text()]
    return {target.name: target for module in modules for target in module.targets()}


def choose_rows(asked: Sequence[int] | None, known: Sequence[int], method: str, table: str) -> Sequence[int]:
    """The rows asked for, all of them if none is. Raises NotInTableError for one that the table does not have."""
    for row in asked or ():
        if row not in known:
            there = ", ".join(map(str, known))
            raise NotInTableError(f"{method} has no row {row} in {table}: its rows are {there}")
    return asked or known
