"""`why CELL`: what a cell depends on, and why it would run again."""

from typing import Any

from rich.console import Console
from rich.tree import Tree

from experiments.jobs.job import Job
from experiments.jobs.store import Store
from experiments.settings import choose
from experiments.tables.accuracy import AccuracyPlan
from results.files import read_bounded, unseal


def explain(plan: AccuracyPlan, cell: str, store: Store, console: Console) -> None:
    """Prints the tree of jobs behind a cell (method:row), each with its state. Raises UserError for no such cell."""
    names = list(dict.fromkeys(planned.name for planned in plan.cells))
    choose(cell, names, "cell")
    for planned in plan.cells:
        if planned.name == cell:
            tree = Tree(f"{plan.table.called}, {cell}, seed {planned.seed}")
            shown: set[str] = set()
            for slot, job in planned.jobs.items():
                _grow(tree, slot, job, store, shown)
            console.print(tree)


def _grow(tree: Tree, slot: str, job: Job, store: Store, shown: set[str]) -> None:
    again = " (above)" if job.key in shown else ""
    branch = tree.add(f"{slot}: {job.describe()}  {job.id}  {_state(job, store)}{again}")
    if not again:
        shown.add(job.key)
        for name, upstream in job.inputs.items():
            _grow(branch, name, upstream, store, shown)


def _state(job: Job, store: Store) -> str:
    wrong = store.damage(job, content=False)
    if not wrong:
        run = store.provenance(job)
        return f"finished {run['started']} in {run['wall_s']} s"
    if store.directory(job).exists():
        return f"runs again: {wrong}"
    return f"would run: {_nearest_difference(job, store)}"


def _nearest_difference(job: Job, store: Store) -> str:
    """How the recipe differs from finished ones of the same stage and label."""
    best: list[str] | None = None
    for path in store.records(job.stage.name):
        try:
            run = unseal(read_bounded(path))
        except ValueError:
            continue
        if run.get("label") == job.label:
            changed = _changes(run, job.recipe())
            if best is None or len(changed) < len(best):
                best = changed
    return "changed " + ", ".join(best) if best else "no output yet"


def _changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in new.items():
        name, before = f"{prefix}{key}", old.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and key != "inputs":
            found += _changes(before, value, f"{name}.")
        elif key == "inputs" and isinstance(before, dict):
            found += [f"input {slot}" for slot in value if before.get(slot) != value[slot]]
        elif before != value:
            found.append(f"{name} ({before!r} -> {value!r})")
    return found
