"""`bless` and `check`: reference numbers of the accuracy tables, and whether a run is as good as they are."""

import json
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import rich.table
from rich.console import Console

from experiments.errors import CheckError, UserError
from experiments.settings import choose
from results.measured.cells import DENSE, Cell, grouped_by_point
from results.numbers.shown import BLANK
from results.regression.comparison import MINIMUM_DROP, Change, Gate, Reference, beside_paper, compare, match
from results.regression.power import as_seed, planted_drop, seeds_of
from results.tables.accuracy import AccuracyTable
from results.tables.columns import Column
from results.tables.document import json_text, terminal_table, write_files
from results.tables.written import written

AnyTable = TypeVar("AnyTable", bound=AccuracyTable)
REFERENCE = Path("results") / "reference"


def bless(results: Path, reference: Path, root: Path, numbers: Sequence[int], command: str, console: Console) -> None:
    """Makes the accuracy tables in `results` the reference that later runs are held to.

    root: the git work tree, which must be clean but for references. numbers: of these tables only, if any are named.
    Raises UserError where the tree has changes, or where there is no such table.
    """
    commit = _clean_commit(root)
    blessed = {"commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}", "command": command}
    for number, table in _measured(results, numbers).items():
        record = {
            "table": number,
            "blessed": blessed,
            "provenance": table.provenance,
            "cells": [json.loads(cell.model_dump_json()) for cell in table.cells],
        }
        write_files(reference, f"table{number}", {".json": json_text(record)})
        seeds = len(seeds_of({number: table.cells}))
        measured = f"measured {table.provenance.get('date', '')} at {table.provenance.get('commits', 'no commit')}"
        console.print(f"Table {number}: {len(table.cells)} cells, {seeds} seed{'s' if seeds > 1 else ''}, {measured}")
    console.print(f"blessed at {commit[:12]}, written to {reference}: commit it", markup=False)


def _clean_commit(root: Path) -> str:
    def git(*arguments: str) -> str:
        order = ["git", "-C", str(root), *arguments]
        try:
            return subprocess.run(order, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise UserError(f"bless needs a git checkout with a commit, which {root} is not") from error

    commit = git("rev-parse", "--verify", "HEAD").strip()
    changed = git("status", "--porcelain", "--", ".", f":(exclude){REFERENCE}").splitlines()
    if changed:
        raise UserError(
            "bless needs a clean git tree, so that the reference names the code it is of: "
            f"{len(changed)} changed or new, such as {changed[0][3:]}"
        )
    return commit


@dataclass(frozen=True)
class Comparands:
    """What is compared: tables by number in two folders, and of the reference's the cells that were asked for."""

    results: Path
    reference: Path
    run: dict[int, AccuracyTable]
    held: dict[int, Reference]
    chosen: dict[int, list[Cell]]

    @property
    def measured(self) -> dict[int, list[Cell]]:
        """The run's cells."""
        return {number: table.cells for number, table in self.run.items()}


def load_comparands(
    results: Path,
    reference: Path,
    numbers: Sequence[int],
    methods: Collection[str] | None,
    rows: Collection[int] | None,
) -> Comparands:
    """Reads the tables in `results` and the reference.

    numbers, methods, rows: of these only, where any are named. Raises UserError where there is nothing to compare.
    """
    held = _held(reference, numbers)
    chosen = {number: _chosen(table.cells, methods, rows) for number, table in held.items()}
    return Comparands(results, reference, _measured(results, numbers), held, chosen)


def check(compared: Comparands, console: Console) -> None:
    """Compares a run's tables with the reference, without running a model.

    Raises CheckError if a method got worse or something was not measured.
    """
    held, run = compared.held, compared.run
    found = compare(compared.chosen, compared.measured)
    console.print(_terminal(found.changes))
    for line in (*_power(found.changes, compared.chosen), *_sameness(compared), *_conditions(held, run)):
        console.print(line, markup=False)
    papers = [beside_paper(n, run[n].cells, run[n].provenance.get("model", "unnamed")) for n in held if n in run]
    for line in (*found.warnings, *filter(None, papers)):
        console.print(f"warning: {line}", markup=False)
    if found.failures:
        raise CheckError(found.failures)
    console.print(f"no method got worse than the reference in {compared.reference}", markup=False)


def check_seeds(compared: Comparands, console: Console) -> None:
    """Holds every seed of a run that is not the reference's to its first one, as a run of its own.

    Nothing but the seed of the second SFT differs, so a gate that fails calls an unchanged method worse. Then each
    method in turn loses the drop that can be detected, which has to fail. Raises CheckError with the gates that called
    an unchanged method worse, and UserError where there is no other seed.
    """
    held, run = compared.chosen, compared.measured
    known = seeds_of(held)
    seeds = [seed for seed in seeds_of(run) if seed not in known]
    if not seeds:
        raise UserError(
            f"the tables in {compared.results} have no seed beyond the reference's: measure them with --seeds 11"
        )
    failures: list[str] = []
    caught: list[bool] = []
    quiet = 0
    for seed in seeds:
        unchanged = as_seed(run, seed, known[0])
        found = compare(held, unchanged)
        falls = [(change.accuracy.before - change.accuracy.after, change.method) for change in found.changes]
        drop, method = max(falls, default=(0.0, "none"))
        planted = {}
        for change in found.changes:
            if change.method != DENSE and change.detectable is not None:
                lost = round(change.detectable / 100 * change.marks)
                worse = compare(held, planted_drop(unchanged, change.method, lost, np.random.default_rng(seed)))
                planted[change.method] = any(line.startswith(f"{change.method}: ") for line in worse.failures)
        caught += planted.values()
        missed = ", ".join(method for method, fails in planted.items() if not fails)
        said = "fails" if found.failures else "quiet"
        drops = ", ".join(f"{change.method} {_points(change.detectable)}" for change in found.changes)
        overlooked = f"; planted and overlooked: {missed}" if missed else ""
        console.print(
            f"seed {seed}: {said}; largest drop {drop:.1f} points ({method}); detectable: {drops}{overlooked}"
        )
        quiet += not found.failures
        failures += [f"seed {seed}: {line}" for line in found.failures]
    console.print(f"{quiet} of {len(seeds)} unchanged seeds are quiet")
    console.print(f"{sum(caught)} of {len(caught)} planted drops of the detectable size fail")
    if failures:
        raise CheckError(failures)


def _held(reference: Path, numbers: Sequence[int]) -> dict[int, Reference]:
    without = f"no reference in {reference}: ./reproduce.sh bless makes one of measured tables"
    return _tables(reference, Reference, numbers, without)


def _measured(results: Path, numbers: Sequence[int]) -> dict[int, AccuracyTable]:
    without = f"no accuracy table in {results}: measure one first, such as ./reproduce.sh table6"
    return _tables(results, AccuracyTable, numbers, without)


def _tables(folder: Path, kind: type[AnyTable], numbers: Sequence[int], without: str) -> dict[int, AnyTable]:
    try:
        tables = written(folder, kind)
        for table in tables.values():
            grouped_by_point(table.cells)
    except ValueError as error:
        raise UserError(f"{folder}: {str(error).splitlines()[0]}") from error
    for number in numbers:
        if number not in tables:
            raise UserError(f"no Table {number} in {folder}")
    if not tables:
        raise UserError(without)
    return {number: table for number, table in tables.items() if number in numbers or not numbers}


def _chosen(cells: Sequence[Cell], methods: Collection[str] | None, rows: Collection[int] | None) -> list[Cell]:
    """Of the methods and rows asked for; the dense model is what recovery is relative to."""
    for method in methods or ():
        choose(method, sorted({cell.method for cell in cells}), "method of the reference")
    return [
        cell
        for cell in cells
        if cell.method == DENSE
        or ((methods is None or cell.method in methods) and (rows is None or cell.row in rows or cell.row == 0))
    ]


def _terminal(changes: Sequence[Change]) -> rich.table.Table:
    def gate(header: str, shown: Callable[[Gate], str], of_recovery: bool = False) -> Column:
        def field(change: Change) -> str:
            asked = change.recovery if of_recovery else change.accuracy
            return BLANK if asked is None else shown(asked)

        return Column(header, field, unmeasured=header.startswith("reference"))

    columns = [
        Column("method", lambda change: change.method, text=True),
        Column("problems", lambda change: str(change.problems)),
        Column("marks", lambda change: str(change.marks)),
        Column("flipped", lambda change: str(change.flipped)),
        gate("reference %", lambda g: f"{g.before:.2f}"),
        gate("now %", lambda g: f"{g.after:.2f}"),
        gate("change", lambda g: f"{g.after - g.before:+.2f}"),
        gate("p", lambda g: f"{g.p_value:.2g}"),
        gate("reference recovery %", lambda g: f"{g.before:.1f}", True),
        gate("recovery now %", lambda g: f"{g.after:.1f}", True),
        gate("recovery p", lambda g: f"{g.p_value:.2g}", True),
        gate("allowed drop", lambda g: f"{g.minimum:.1f}"),
        Column("detectable drop", lambda change: _points(change.detectable)),
    ]
    return terminal_table(columns, changes)


def _points(drop: float | None) -> str:
    return "none" if drop is None else f"{drop:.1f}"


def _power(changes: Sequence[Change], reference: Mapping[int, Sequence[Cell]]) -> list[str]:
    """How the column of detectable drops is to be read."""
    several = len(seeds_of(reference)) > 1
    if several:
        unchanged = "where unchanged runs differ as the reference's seeds do, or as these two if that is more"
    elif any(change.flipped for change in changes):
        unchanged = "where unchanged runs differ in as many marks as these two"
    else:
        unchanged = "in a run that repeats all other marks, as this one does"
    lines = [f"detectable drop: points that one method must lose to fail with at least 95 % probability, {unchanged}"]
    if not several:
        lines.append(
            "the reference has one seed, and so knows nothing of how far another seed or machine moves a method: it "
            f"may well be by more than {MINIMUM_DROP:g} points"
        )
    return lines


def _sameness(compared: Comparands) -> list[str]:
    """Where the two runs have the very same numbers, marks and perplexities included."""
    matched, _ = match(compared.chosen, compared.measured)
    lines = []
    for number in sorted({number for number, _, _ in matched}):
        pairs = [(_numbers(one), _numbers(other)) for table, one, other in matched if table == number]
        same = sum(one == other for one, other in pairs)
        lines.append(f"Table {number}: {same} of {len(pairs)} cells are bit-identical to the reference's")
    return lines


def _numbers(cell: Cell) -> str:
    return cell.model_dump_json(exclude={"runs", "note"})


def _conditions(held: Mapping[int, Reference], run: Mapping[int, AccuracyTable]) -> list[str]:
    """A line for each hardware and package list that is not the reference's."""
    lines = []
    for what in ("hardware", "packages"):
        for number in sorted({*held} & {*run}):
            then, now = held[number].provenance.get(what, BLANK), run[number].provenance.get(what, BLANK)
            if then != now:
                lines.append(f"other {what} than the reference's: {now}; the reference's: {then}")
    return [*dict.fromkeys(lines)]
