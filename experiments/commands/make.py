"""Making tables and figures: everything is planned before the first job runs, then measured and published."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.commands.options import ROOT
from experiments.errors import NotInTableError, UserError
from experiments.settings import Preset, choose, load_preset
from experiments.tables.target import Asked, Plan, Publication, Selection, targets
from results.files import filling

if TYPE_CHECKING:
    from experiments.jobs.job import Job
    from experiments.jobs.store import Store
    from experiments.mirror.mirror import WandbMirror

OUTCOME_STYLES = {"holds": "green", "does not hold": "red", "cannot be told apart": "yellow", "not measured": "dim"}


def make(options: Namespace, words: Sequence[str], console: Console) -> None:
    """Tables and figures, the claims and the report; without a word, nothing."""
    names = list(options.words)
    if options.source == "paper":
        return _from_paper(names, options, console)
    plans = _plans(names, options, console)
    for name, plan in plans:
        with measured(options, name, plan, console) as run:
            if run is not None:
                with filling(results_of(options)):
                    publish(plan, name, run, results_of(options), console)
    if options.dry_run:
        return
    if "claims" in names or "all" in names:
        _claims(options, console)
    if "report" in names:
        _report(options, console)


def typed_command() -> str:
    """The command as the user typed it."""
    return os.environ.get("IMPACT_COMMAND") or "./reproduce.sh " + " ".join(sys.argv[1:])


def results_of(options: Namespace) -> Path:
    """Where a preset's tables and figures are."""
    return options.results or ROOT / "results" / load_preset(options.preset).name


def planned_from(options: Namespace) -> tuple[Preset, Selection]:
    """The preset, and what the user asked for beyond it."""
    from experiments.jobs.external import named_checkpoints

    given = {name: getattr(options, name) for name in ("batch_size", "prompt_tokens", "new_tokens")}
    selection = Selection(
        isolated=not options.unsafe_local_execution,
        externals=named_checkpoints(options.external),
        load={name: value for name, value in given.items() if value is not None},
        **{name: getattr(options, name) for name in ("methods", "rows", "seeds", "eta", "data_dir", "model_dir")},
        **{name: getattr(options, name) for name in ("models", "random_weights", "routes")},
    )
    return load_preset(options.preset), selection


def _plans(names: Sequence[str], options: Namespace, console: Console) -> list[tuple[str, Plan]]:
    """The plans of all that is asked for, each target once: in the user's order, `all` in its own."""
    everything, there = "all" in names, targets()
    preset, selection = planned_from(options)
    say = partial(console.print, markup=False, soft_wrap=True)
    made_with = {name: target.name for target in there.values() for name in target.names}
    plans: list[tuple[str, Plan]] = []
    for name in there if everything else dict.fromkeys(made_with[name] for name in names if name in made_with):
        target = there[name]
        own = frozenset(names) & {*target.names}
        asked = Asked(preset, selection, own, everything, say)
        try:
            plans.append((target.name, target.plan(asked)))
        except NotInTableError as reason:
            # accuracy tables come first: what not even they have is no part of a table, but a mistake
            if not everything or not plans:
                raise
            say(f"left out of all: {reason}")
    return plans


@contextmanager
def measured(
    options: Namespace, name: str, plan: Plan, console: Console
) -> "Iterator[tuple[Store, WandbMirror | None] | None]":
    """Makes a plan's missing outputs, and gives the store, locked; None after a dry run, which makes nothing."""
    from experiments.jobs.store import Store

    started = time.monotonic()
    store, cluster = Store(options.store), None
    if options.cluster is not None:
        from experiments.running.cluster import load_cluster, show_requests

        cluster = load_cluster(options.cluster, options.profile, load_preset(options.preset).hardware.gpus)
    if options.dry_run:
        missing = [job for job in plan.jobs if not store.finished(job)]
        plan.show_missing(missing, options.store, console)
        if cluster:
            show_requests(cluster, missing, console)
        yield None
        return
    from experiments.mirror.mirror import mirrored

    say = partial(console.print, markup=False, soft_wrap=True)
    with mirrored(store, name, options.preset, options.wandb, say) as mirror, store.locked():
        # not before the lock: until then another run may be finishing them
        missing = [job for job in plan.jobs if not store.finished(job)]
        if missing and cluster is None:
            _check_isolation(missing)
        damaged = [(job, store.damage(job, content=False)) for job in missing if store.directory(job).exists()]
        for job, wrong in damaged:
            console.print(f"made again: {job.describe()} ({wrong})", markup=False)
            store.discard(job)
        if missing:
            from experiments.running.progress import Progress
            from experiments.running.schedule import execute

            console.print(f"{len(plan.jobs)} jobs, {len(missing)} to run; outputs in {store.root}", markup=False)
            with Progress(missing, options.cores, console) as progress:
                gpus = 0 if cluster else _gpus(missing, load_preset(options.preset))
                watching = (progress, mirror) if mirror else (progress,)
                execute(plan.jobs, store, options.cores, gpus, watching, options.checkpoint_minutes, cluster)
        if mirror:
            mirror.complete(plan.jobs)
        yield store, mirror
    console.print(f"{time.monotonic() - started:.1f} s")


def publish(plan: Plan, name: str, run: "tuple[Store, WandbMirror | None]", out: Path, console: Console) -> None:
    """Writes and shows what the plan's finished jobs give, or shows it again where it is there already."""
    from experiments.tables.published import Published

    store, mirror = run
    published = Published(store, plan, name, out, f"{console.width} {console.is_terminal}")
    found = published.found()
    if found is None:
        files = []
        with console.capture() as shown:
            for publication in plan.publications(store, typed_command()):
                files.append(show(publication, out, console))
        found = shown.get(), files
        published.remember(*found)
    text, files = found
    sys.stdout.write(text)
    for made in files if mirror else ():
        mirror.published(made)  # type: ignore[union-attr]


def show(publication: Publication, out: Path, console: Console) -> list[Path]:
    """Writes a table and its figures into a folder and prints them; returns the files."""
    from rich.text import Text

    from results.tables.document import json_text, write_files

    document, name = publication.document, publication.name
    if document:
        files = document.write(out)
    else:  # what a figure without a table rests on
        record = {"figure": name, "provenance": dict(publication.provenance), "of": [{"runs": dict(publication.runs)}]}
        files = write_files(out, name, {".json": json_text(record)})
    drawn = publication.figures(out) if publication.figures else []
    if publication.heading:
        console.print(publication.heading, markup=False)
    if document:
        console.print(document.terminal())
        for verdict in document.verdicts:
            where = f" on {verdict.benchmark}" if verdict.benchmark else ""
            line = Text(f"{verdict.verdict}{where}: ", style=OUTCOME_STYLES[verdict.verdict])
            console.print(
                line.append(f"{verdict.statement} ({verdict.section}) {verdict.explanation}", style="default")
            )
    for remark in publication.remarks:
        console.print(remark, markup=False)
    names = [
        f"{name}.{{csv,md,json}}" if document else f"{name}.json",
        *sorted({f"{f.stem}.{{png,pdf}}" for f in drawn}),
    ]
    console.print(f"written to {out}: {', '.join(names)}", markup=False)
    return [*files, *drawn]


def _from_paper(names: Sequence[str], options: Namespace, console: Console) -> None:
    """Tables 10-13 from the printed accuracies: nothing runs."""
    derived = [name for target in targets().values() for name in target.derived]
    for name in names:
        choose(name, derived, "table that follows from the paper's printed ones")
    from experiments.tables.derived import printed_reductions

    for name in names:
        out = options.results or ROOT / "results" / "from-paper"
        show(printed_reductions(name, typed_command()), out, console)


def _claims(options: Namespace, console: Console) -> None:
    out = results_of(options)
    from experiments.tables.derived import measured_claims

    with _one_line(), filling(out):
        show(measured_claims(out, typed_command()), out, console)


def _report(options: Namespace, console: Console) -> None:
    """One page with everything that a folder of results holds, and what it lacks."""
    folder = results_of(options)
    from results.page.page import PAGE, build_page, write_page

    everything = {name: target.name for target in targets().values() for name in target.names} | {"claims": "claims"}
    with _one_line():
        page = build_page(folder, options.store, everything, f"--preset {options.preset}")
    write_page(page, typed_command(), folder / PAGE)
    names = ", ".join(section.document.label for section in page.sections)
    console.print(f"written to {folder / PAGE}: {names}; {len(page.missing)} not run", markup=False)


@contextmanager
def _one_line() -> Iterator[None]:
    """A damaged table is the user's to make again."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _check_isolation(missing: Sequence["Job"]) -> None:
    """Before hours of work, not after them: whether the programs that it ends in can be run."""
    if any(getattr(job.config, "isolation", None) == "bubblewrap" for job in missing):
        from evals.execution.isolation import IsolationError
        from evals.execution.programs import check_isolation
        from experiments.stages.judge import WITHOUT_ISOLATION

        try:
            check_isolation()
        except IsolationError as error:
            raise UserError(f"{error}; {WITHOUT_ISOLATION}") from error


def _gpus(jobs: Sequence["Job"], preset: Preset) -> int:
    """How many this machine has. Raises UserError if a preset that is meant for GPUs trains in more processes."""
    import torch

    there, wanted = torch.cuda.device_count(), max(job.processes for job in jobs)
    if preset.hardware.gpus and 0 < there < wanted:
        raise UserError(
            f"the preset trains in {wanted} processes, one a GPU, and here are {there}: take --cluster, or lower "
            "processes in the trainings of its file"
        )
    return there
