"""The command line behind ./reproduce.sh."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rich.console import Console

from experiments.errors import CheckError, NotInTableError, UserError
from experiments.options import ACCURACY, QUANTIZED, ROOT, derived_targets, parse, targets
from experiments.settings import Preset, choose, known, load_preset, load_quantized_table, load_table
from results.atomic import filling

if TYPE_CHECKING:
    from experiments.cluster import Cluster
    from experiments.jobs import Job
    from experiments.plan import Plan, Selection
    from experiments.store import Store


class Measurement(Protocol):
    """A planned table that is no grid of accuracies."""

    @property
    def jobs(self) -> "list[Job]":
        """Every job, inputs first."""

    def publish(self, store: "Store", out: Path, command: str, console: Console) -> list[Path]:
        """Writes the table from its finished jobs, shows it, and returns the files."""


class Finished(NamedTuple):
    """A run whose jobs are all finished. published: to be told of the files of a table that is made from them."""

    store: "Store"
    published: Callable[[list[Path]], None]


# Piped into a file there is no terminal to fit the tables to.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 2 after one line that says what is wrong, or 1 if a check failed."""
    try:
        _run(parse(arguments))
    except UserError as error:
        return _fail(str(error))
    except CheckError as failed:
        for line in failed.lines:
            _fail(line)
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        return _fail(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, and the same command goes on from there", 130)
    return 0


def _fail(line: str, code: int = 2) -> int:
    print(f"reproduce.sh: {line}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace) -> None:
    first, *rest = options.targets
    if first in ("list", "gc") and rest:
        raise UserError(f"{first} takes no targets: ./reproduce.sh {first}")
    if first == "list":
        return _list()
    if first == "gc":
        return _collect_garbage(options)
    if first == "score":
        return _score(options, rest)
    if first == "compress":
        return _compress(options, rest)
    if first in ("bless", "check"):
        return _hold(options, first, [load_table(name).number for name in rest])
    if first == "wandb-workspace":
        return _workspace(rest)
    if first == "why":
        if not 1 <= len(rest) <= 2:
            raise UserError("why takes a cell, such as impact:3 or dense:0, after its table if that is not table6")
        return _why(options, rest[-1], rest[0] if len(rest) == 2 else "table6")
    _make(options)


def _make(options: argparse.Namespace) -> None:
    """Tables and figures, all of them planned before the first one is measured."""
    chosen, table_of = [*options.targets], targets()
    if "all" in chosen:
        chosen = [*ACCURACY, *derived_targets(), *MEASUREMENTS, "claims", *chosen]
    if options.source == "paper":
        return _from_paper(options, chosen)
    planned = list[Callable[[], None]]()
    for table in dict.fromkeys(table_of[name] for name in chosen if name in table_of):
        try:
            if table in MEASUREMENTS:
                planned.append(partial(_measure, options, table, MEASUREMENTS[table](options)))
            else:
                wanted = [name for name in chosen if table_of.get(name) == table]
                planned.append(partial(_reproduce, options, table, *_wanted(options, table, wanted)))
        except NotInTableError as reason:
            # accuracy tables come first: what not even they have is no part of a table, but a mistake
            if "all" not in options.targets or not planned:
                raise
            _leave_out(reason)
    for make in planned:
        make()
    if options.dry_run:
        return
    if "claims" in chosen:
        _claims(options)
    if "report" in chosen:
        _report(options)


def _leave_out(reason: NotInTableError) -> None:
    console.print(f"left out of all: {reason}", markup=False, soft_wrap=True)


def _list() -> None:
    for name in known("tables"):
        table = load_table(name)
        console.print(f"{name}, {', '.join(table.figures)}: {table.title}; methods {', '.join(table.grids)}")
        console.print(f"table{table.derived}: size reductions at the same accuracy, from {name}")
    console.print("gauge: what balanced factors change in 8 bits, a table of our own")
    console.print("table5: time and memory of profiling, ours and Algorithm 1 as printed, of random weights")
    console.print("table14, figure8: throughput and memory of Table 6's models, or of --random-weights")
    console.print("claims: every numeric claim of the paper, on its printed tables and on the measured ones")
    console.print("report: all of a preset's tables, figures and claims on one page, report.html")
    for name in known("quantized_tables"):
        quantized = load_quantized_table(name)
        console.print(f"{name}{f', figure{quantized.figure}' if quantized.figure else ''}: {quantized.title}")
    for name in known("presets"):
        console.print(f"--preset {name}: {load_preset(name).about}")


def _planned(options: argparse.Namespace, table: str) -> "Plan":
    from experiments.plan import plan_table

    return plan_table(load_table(table), load_preset(options.preset), _selection(options))


def _selection(options: argparse.Namespace) -> "Selection":
    from experiments.external import named_checkpoints
    from experiments.plan import Selection

    return Selection(
        options.methods,
        options.rows,
        options.seeds,
        options.eta,
        options.data_dir,
        options.model_dir,
        not options.unsafe_local_execution,
        named_checkpoints(options.external),
        options.models,
    )


def _from_paper(options: argparse.Namespace, chosen: Sequence[str]) -> None:
    """Tables 10-13 from the printed accuracies: nothing runs."""
    for name in chosen:
        choose(name, derived_targets(), "table that follows from the paper's printed ones")
    from experiments.derived import publish_printed_reductions

    for name in chosen:
        out = options.results or ROOT / "results" / "from-paper"
        publish_printed_reductions(int(name.removeprefix("table")), out, command(), console)


def _claims(options: argparse.Namespace) -> None:
    load_preset(options.preset)
    from experiments.derived import publish_claims

    out = options.results or ROOT / "results" / options.preset
    try:
        with filling(out):
            publish_claims(out, out, command(), console)
    except ValueError as error:
        raise UserError(str(error)) from error


def _report(options: argparse.Namespace) -> None:
    """One page with everything that a folder of results holds, and what it lacks."""
    load_preset(options.preset)
    from results.report_page import PAGE, build_page, write_page

    folder = options.results or ROOT / "results" / options.preset
    everything = {**targets(), "claims": "claims"}
    try:
        page = build_page(folder, options.store, everything, f"--preset {options.preset}")
    except ValueError as error:
        raise UserError(str(error)) from error
    write_page(page, command(), folder / PAGE)
    names = ", ".join(section.label for section in page.sections)
    console.print(f"written to {folder / PAGE}: {names}; {len(page.missing)} not run", markup=False)


def _wanted(options: argparse.Namespace, name: str, wanted: Sequence[str]) -> "tuple[Plan, Sequence[str]]":
    """The plan of an accuracy table, and what is wanted of it and follows from it.

    Raises NotInTableError if the table of size reductions is wanted and its methods are not; of `all`, it is left out.
    """
    from results.evidence import BASELINES, METHOD

    plan, derived = _planned(options, name), f"table{load_table(name).derived}"
    measured = {cell.method for cell in plan.cells}
    if derived in wanted and not (METHOD in measured and measured & {*BASELINES}):
        lacking = NotInTableError(f"{derived} compares IMPACT with a baseline: --methods {METHOD} and another one")
        if "all" not in options.targets or derived in options.targets:
            raise lacking
        _leave_out(lacking)
        wanted = [target for target in wanted if target != derived]
    return plan, wanted


def _reproduce(options: argparse.Namespace, name: str, plan: "Plan", wanted: Sequence[str]) -> None:
    """Measures an accuracy table's cells where they are missing, and shows what is wanted of it and follows from it."""
    with _measured(options, name, plan.jobs, lambda missing: _estimate(plan, missing, options)) as run:
        if run is None:
            return
        out = options.results or ROOT / "results" / options.preset
        with filling(out):
            if set(wanted) - {*derived_targets()}:
                run.published(_publish(plan, run.store, out))
            if set(wanted) & {*derived_targets()}:
                from experiments.derived import publish_reductions

                run.published(publish_reductions(plan, run.store, out, command(), console))


def _measure(options: argparse.Namespace, name: str, plan: "Measurement") -> None:
    """Makes and shows a table of its own kind, such as Table 14."""
    with _measured(options, name, plan.jobs, _list_missing) as run:
        if run is not None:
            out = options.results or ROOT / "results" / options.preset
            with filling(out):
                run.published(plan.publish(run.store, out, command(), console))


def _speed(options: argparse.Namespace) -> "Measurement":
    """Table 14: of Table 6's models, or of random ones."""
    from experiments.speed import plan_speed

    preset = _under_load(load_preset(options.preset), options)
    models = None if options.random_weights else _planned(options, "table6")
    return plan_speed(preset, models, options.rows, options.methods)


def _quantization(name: str) -> Callable[[argparse.Namespace], "Measurement"]:
    """Plans Table 1, 2 or 3."""

    def planned(options: argparse.Namespace) -> "Measurement":
        from experiments.quantization import plan_quantization

        table = load_quantized_table(name)
        drawn = bool({"all", f"figure{table.figure}"} & {*options.targets})
        return plan_quantization(table, load_preset(options.preset), _of_methods(options, name), drawn)

    return planned


def _of_methods(options: argparse.Namespace, name: str) -> "Selection":
    """The selection for a table that has not all methods, or other ones: what `all` is asked for is for most tables.

    Raises NotInTableError if the table has none of the methods.
    """
    selection, table = _selection(options), load_quantized_table("table1" if name == "gauge" else name)
    if selection.methods is None or "all" not in options.targets or name in options.targets:
        return selection
    if table.four_bit:  # its methods are no accuracy table's
        return replace(selection, methods=None)
    there = [*table.grids, *table.rows]
    methods = tuple(method for method in selection.methods if method in there)
    if not methods:
        raise NotInTableError(f"{name} has no such methods: it has {', '.join(there)}")
    return replace(selection, methods=methods)


def _gauge(options: argparse.Namespace) -> "Measurement":
    """Table 1's IMPACT models by scheme and gauge."""
    from experiments.gauge import plan_gauge

    return plan_gauge(load_preset(options.preset), _of_methods(options, "gauge"))


def _profiling_cost(options: argparse.Namespace) -> "Measurement":
    """Table 5, of random weights in the preset's shape."""
    from experiments.profiling_cost import plan_profiling_cost

    return plan_profiling_cost(load_preset(options.preset))


def _under_load(preset: Preset, options: argparse.Namespace) -> Preset:
    """The preset with the load that the user asked for."""
    asked = {name: getattr(options, name) for name in ("batch_size", "prompt_tokens", "new_tokens")}
    load = preset.speed.load.model_copy(update={name: value for name, value in asked.items() if value is not None})
    speed = preset.speed.model_copy(update={"load": load, "routes": options.routes or preset.speed.routes})
    return preset.model_copy(update={"speed": speed})


def _list_missing(missing: Sequence["Job"]) -> None:
    for job in missing:
        console.print(job.describe(), markup=False)
    console.print(f"{len(missing)} jobs would run")


@contextmanager
def _measured(
    options: argparse.Namespace, table: str, jobs: list["Job"], dry_run: Callable[[list["Job"]], None]
) -> Iterator[Finished | None]:
    """Makes a table's missing outputs, and gives the store, locked; None after a dry run, which makes nothing."""
    from experiments.observer import Together
    from experiments.schedule import execute
    from experiments.store import Store
    from experiments.wandb_mirror import mirrored

    started = time.monotonic()
    store = Store(options.store)
    cluster = _cluster(options)
    if options.dry_run:
        missing = [job for job in jobs if not store.finished(job)]
        dry_run(missing)
        if cluster:
            from experiments.cluster import show_requests

            show_requests(cluster, missing, console)
        yield None
        return
    say = partial(console.print, markup=False, soft_wrap=True)
    with mirrored(store, table, options.preset, options.wandb, say) as mirror, store.locked():
        # not before the lock: until then another run may be finishing them
        missing = [job for job in jobs if not store.finished(job)]
        if cluster is None:
            _check_isolation(missing)
        damaged = [(job, store.damage(job, content=False)) for job in missing if store.directory(job).exists()]
        for job, wrong in damaged:
            console.print(f"made again: {job.describe()} ({wrong})", markup=False)
            store.discard(job)
        if missing:
            from experiments.progress import Progress

            console.print(f"{len(jobs)} jobs, {len(missing)} to run; outputs in {store.root}", markup=False)
            with Progress(missing, options.cores, console) as progress:
                watching = Together([progress, *([mirror] if mirror else [])])
                gpus = 0 if cluster else _gpus(missing, load_preset(options.preset))
                execute(jobs, store, options.cores, gpus, watching, options.checkpoint_minutes, cluster)
        if mirror:
            mirror.complete(jobs)
        yield Finished(store, mirror.published if mirror else lambda files: None)
    console.print(f"{time.monotonic() - started:.1f} s")


def _cluster(options: argparse.Namespace) -> "Cluster | None":
    """Where jobs run instead of this machine."""
    if options.cluster is None:
        return None
    from experiments.cluster import load_cluster

    return load_cluster(options.cluster, options.profile, load_preset(options.preset).hardware.gpus)


def _estimate(plan: "Plan", missing: list["Job"], options: argparse.Namespace) -> None:
    from experiments.estimate import show_estimate

    show_estimate(plan, missing, options.store, console)


def _publish(plan: "Plan", store: "Store", out: Path) -> list[Path]:
    from experiments.published import Published

    published = Published(store, plan, out, f"{console.width} {console.is_terminal}")
    text, files = published.text(), published.files
    if text is None:
        from experiments.report import publish

        with console.capture() as shown:
            files = publish(plan, store, out, command(), console)
        text = shown.get()
        published.record(text, files)
    sys.stdout.write(text)
    return files


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


def _why(options: argparse.Namespace, cell: str, table: str) -> None:
    from experiments.store import Store
    from experiments.why import explain

    explain(_planned(options, table), cell, Store(options.store), console)


def _score(options: argparse.Namespace, rest: Sequence[str]) -> None:
    if len(rest) != 2 or options.data is None:
        raise UserError("score takes a benchmark and a file: score humaneval GENERATIONS.jsonl --data HumanEval.jsonl")
    from experiments.score import score

    score(rest[0], Path(rest[1]), options.data, not options.unsafe_local_execution, options.cores, console)


def _workspace(rest: Sequence[str]) -> None:
    if rest:
        raise UserError("wandb-workspace takes no further target")
    from evals.benchmarks import BENCHMARKS
    from experiments.wandb_workspace import save_workspace

    judged = [*known("quantized_tables"), *known("tables")]
    console.print(f"W&B: saved {save_workspace([*targets()], judged, [*BENCHMARKS])}", markup=False, soft_wrap=True)


def _compress(options: argparse.Namespace, rest: Sequence[str]) -> None:
    if len(rest) != 2:
        raise UserError("compress takes a model and a new directory: compress MODEL OUT --keep 60 --calibration FILE")
    from experiments.compress_model import compress_model

    made = compress_model(
        rest[0],
        Path(rest[1]),
        method=options.method,
        keep=options.keep,
        target_size=options.target_size,
        eta=options.eta,
        calibration=options.calibration,
        dense_if_larger=options.dense_if_larger,
        console=console,
    )
    console.print(
        f"{rest[1]}: {made.parameters:,} parameters, {100 * made.parameters / made.dense_parameters:.1f} % of "
        f"{made.dense_parameters:,} ({options.method}, keep {made.value:g} %)",
        markup=False,
    )


def _hold(options: argparse.Namespace, order: str, numbers: Sequence[int]) -> None:
    """Makes accuracy tables the reference, or holds them to it; all tables if none is named."""
    load_preset(options.preset)
    from experiments.regression import REFERENCE, bless, check, check_seeds, load_comparands

    results = options.results or ROOT / "results" / options.preset
    reference = ROOT / REFERENCE / options.preset
    if order == "bless":
        bless(results, reference, ROOT, numbers, command(), console)
        return
    compared = load_comparands(results, reference, numbers, options.methods, options.rows)
    (check_seeds if options.each_seed else check)(compared, console)


def _collect_garbage(options: argparse.Namespace) -> None:
    from experiments.garbage import collect
    from experiments.store import Store

    store = Store(options.store)
    with store.locked():
        collect(store, [ROOT / "results", *([options.results] if options.results else [])], options.dry_run, console)


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], "Measurement"]] = {
    **{name: _quantization(name) for name in QUANTIZED},
    "gauge": _gauge,
    "table5": _profiling_cost,
    "table14": _speed,
}
"""Tables that are no grid of accuracies, each with what plans it."""


def command() -> str:
    """The command as the user typed it."""
    return os.environ.get("IMPACT_COMMAND") or "./reproduce.sh " + " ".join(sys.argv[1:])


def _gpus(jobs: "Sequence[Job]", preset: Preset) -> int:
    """How many this machine has. Raises UserError if a preset that is meant for GPUs trains in more processes."""
    import torch

    there, wanted = torch.cuda.device_count(), max(job.processes for job in jobs)
    if preset.hardware.gpus and 0 < there < wanted:
        raise UserError(
            f"the preset trains in {wanted} processes, one a GPU, and here are {there}: take --cluster, or lower "
            "processes in the trainings of its file"
        )
    return there
