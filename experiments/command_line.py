"""The command line behind ./reproduce.sh."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from experiments.errors import UserError
from experiments.settings import choose, known, load_preset, load_table

if TYPE_CHECKING:
    from experiments.plan import Plan

ROOT = Path(__file__).resolve().parent.parent
# Piped into a file there is no terminal to fit the tables to.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 after one line that says what is wrong."""
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        _run(options)
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        return _fail(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, and the same command goes on from there", 130)
    return 0


def targets() -> dict[str, str]:
    """Every target -> the table that it needs."""
    found = {}
    for name in known("tables"):
        found[name] = name
        found |= dict.fromkeys(load_table(name).figures, name)
    return found


def _fail(line: str, code: int = 2) -> int:
    print(f"reproduce.sh: {line}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors as one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (./reproduce.sh --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="./reproduce.sh",
        description="Measures the tables and figures of the IMPACT paper, beside the printed numbers.",
        epilog="Targets: " + ", ".join(targets()) + ", all. Commands: list, why CELL, gc, test.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("targets", nargs="+", metavar="TARGET", help="a table or figure, 'all', or list | why CELL | gc | test")
    add("--preset", default="tiny", help="size of the experiment: " + ", ".join(known("presets")) + " (default: tiny)")
    add("--methods", type=_names, help="only these methods, comma-separated")
    add("--rows", type=_numbers, help="only these rows of the table, comma-separated")
    add("--seeds", type=int, default=1, help="repeat the second SFT with this many seeds (default: 1)")
    add("--eta", type=float, help="IMPACT's eta instead of the table's .25")
    add("--data-dir", type=Path, help="local files of the published data: gsm8k/train.jsonl, gsm8k/test.jsonl, ...")
    add("--model-dir", type=Path, help="local copies of the hub's models, by their names")
    add("--store", type=Path, default=ROOT / "runs", help="where outputs of stages are kept (default: runs)")
    add("--results", type=Path, help="where tables and figures go (default: results/<preset>)")
    add("--cores", type=int, default=len(os.sched_getaffinity(0)), help="CPU cores to use (default: all)")
    add("--dry-run", action="store_true", help="say what would run, and run nothing")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in _names(text))
    except ValueError:
        raise UserError(f"--rows takes row numbers such as 1,3, not '{text}'") from None


def _check(options: argparse.Namespace) -> None:
    if options.seeds < 1 or options.cores < 1:
        raise UserError("--seeds and --cores take a number of at least 1")
    if options.eta is not None and not 0 <= options.eta <= 1:
        raise UserError(f"--eta must lie in [0, 1], got {options.eta:g}")


def _run(options: argparse.Namespace) -> None:
    first, *rest = options.targets
    if first == "list":
        return _list()
    if first == "gc":
        return _collect_garbage(options)
    if first == "why":
        if len(rest) != 1:
            raise UserError("why takes one cell, such as impact:3 or dense:0")
        return _why(options, rest[0])
    all_targets = targets()
    chosen = [choose(name, [*all_targets, "all", "list", "why", "gc", "test"], "target") for name in options.targets]
    tables = dict.fromkeys(all_targets.values()) if "all" in chosen else dict.fromkeys(all_targets[c] for c in chosen)
    for table in tables:
        _reproduce(options, table)


def _list() -> None:
    for name in known("tables"):
        table = load_table(name)
        console.print(f"{name}, {', '.join(table.figures)}: {table.title}; methods {', '.join(table.grids)}")
    for name in known("presets"):
        console.print(f"--preset {name}: {load_preset(name).about}")


def _planned(options: argparse.Namespace, table: str) -> "Plan":
    from experiments.plan import Selection, plan_table

    selection = Selection(
        options.methods, options.rows, options.seeds, options.eta, options.data_dir, options.model_dir
    )
    return plan_table(load_table(table), load_preset(options.preset), selection)


def _reproduce(options: argparse.Namespace, name: str) -> None:
    from experiments.published import Published
    from experiments.schedule import execute
    from experiments.store import Store

    started = time.monotonic()
    plan = _planned(options, name)
    store = Store(options.store)
    missing = [job for job in plan.jobs if not store.finished(job)]
    if options.dry_run:
        from experiments.estimate import show_estimate

        return show_estimate(plan, missing, options.store, console)
    with store.locked():
        damaged = [(job, store.damage(job, content=False)) for job in missing if store.directory(job).exists()]
        for job, wrong in damaged:
            console.print(f"made again: {job.describe()} ({wrong})", markup=False)
            store.discard(job)
        if missing:
            from experiments.progress import Progress

            console.print(f"{len(plan.jobs)} jobs, {len(missing)} to run; outputs in {store.root}", markup=False)
            with Progress(missing, options.cores, console) as progress:
                execute(plan.jobs, store, options.cores, _gpus(), progress)
        out = options.results or ROOT / "results" / options.preset
        published = Published(store, plan, out, f"{console.width} {console.is_terminal}")
        text = published.text()
        if text is None:
            from experiments.report import publish

            with console.capture() as shown:
                files = publish(plan, store, out, command(), console)
            text = shown.get()
            published.record(text, files)
        sys.stdout.write(text)
    console.print(f"{time.monotonic() - started:.1f} s")


def _why(options: argparse.Namespace, cell: str) -> None:
    from experiments.store import Store
    from experiments.why import explain

    for table in known("tables"):
        explain(_planned(options, table), cell, Store(options.store), console)


def _collect_garbage(options: argparse.Namespace) -> None:
    from experiments.garbage import collect
    from experiments.store import Store

    store = Store(options.store)
    with store.locked():
        collect(store, [ROOT / "results", *([options.results] if options.results else [])], options.dry_run, console)


def command() -> str:
    """The command as the user typed it."""
    return os.environ.get("IMPACT_COMMAND") or "./reproduce.sh " + " ".join(sys.argv[1:])


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
