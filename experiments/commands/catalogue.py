"""The commands: what each is called with, which options it takes, an example, and what runs it."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments.commands.make import make, planned_from, results_of, typed_command
from experiments.commands.options import EVERYWHERE, ROOT, Parser
from experiments.errors import UserError
from experiments.settings import choose, known, load_preset
from experiments.tables.target import Target, targets

Run = Callable[[Namespace, Sequence[str], Console], None]


@dataclass(frozen=True)
class Command:
    """What the user may call. words: what comes after its name. options: those that mean something to it.

    example: a call of it, without ./reproduce.sh.
    """

    name: str
    words: str
    about: str
    options: tuple[str, ...]
    example: str
    run: Run

    def parser(self) -> Parser:
        """Its options alone, for people to read."""
        usage = f"./reproduce.sh {self.name} {self.words}".strip() + " [OPTIONS]"
        example = f"example:\n  ./reproduce.sh {self.example}"
        return Parser("./reproduce.sh", self.options, usage=usage, description=self.about, epilog=example)


def _list(options: Namespace, words: Sequence[str], console: Console) -> None:
    if words:
        raise UserError("list takes no targets: ./reproduce.sh list")
    for target in targets().values():
        console.print(f"{', '.join((target.name, *target.figures))}: {target.about}", markup=False)
        for name, about in target.derived.items():
            console.print(f"{name}: {about}", markup=False)
    for name, about in BESIDE.items():
        console.print(f"{name}: {about}", markup=False)
    for name in known("presets"):
        console.print(f"--preset {name}: {load_preset(name).about}", markup=False)


def _why(options: Namespace, words: Sequence[str], console: Console) -> None:
    if not 1 <= len(words) <= 2:
        raise UserError("why takes a cell, such as impact:3 or dense:0, after its table if that is not table6")
    from experiments.commands.why import explain
    from experiments.jobs.store import Store
    from experiments.tables.accuracy import plan_table
    from experiments.tables.declared import load_table

    table = load_table(words[0] if len(words) == 2 else "table6")
    preset, selection = planned_from(options)
    explain(plan_table(table, preset, selection), words[-1], Store(options.store), console)


def _score(options: Namespace, words: Sequence[str], console: Console) -> None:
    if len(words) != 2 or options.data is None:
        raise UserError("score takes a benchmark and a file: score humaneval GENERATIONS.jsonl --data HumanEval.jsonl")
    from experiments.commands.score import score

    score(
        words[0],
        Path(words[1]),
        options.data,
        not options.unsafe_local_execution,
        options.cores,
        console,
        options.leave_out_unusable,
    )


def _compress(options: Namespace, words: Sequence[str], console: Console) -> None:
    if options.methods:
        raise UserError("compress takes one method: --method NAME")
    if len(words) != 2:
        raise UserError("compress takes a model and a new directory: compress MODEL OUT --keep 60 --calibration FILE")
    from experiments.commands.compress import compress_model

    asked = {name: getattr(options, name) for name in COMMANDS["compress"].options}
    made = compress_model(words[0], Path(words[1]), **asked, console=console)
    console.print(
        f"{words[1]}: {made.parameters:,} parameters, {100 * made.parameters / made.dense_parameters:.1f} % of "
        f"{made.dense_parameters:,} ({options.method}, keep {made.value:g} %)",
        markup=False,
    )


def _bless(options: Namespace, words: Sequence[str], console: Console) -> None:
    results, reference = _held(options)
    from experiments.commands.check import bless

    bless(results, reference, ROOT, _numbers(words), typed_command(), console)


def _check(options: Namespace, words: Sequence[str], console: Console) -> None:
    results, reference = _held(options)
    from experiments.commands.check import check, check_seeds, load_comparands

    compared = load_comparands(results, reference, _numbers(words), options.methods, options.rows)
    (check_seeds if options.each_seed else check)(compared, console)


def _held(options: Namespace) -> tuple[Path, Path]:
    """Where a run's tables lie and where its reference does."""
    from experiments.commands.check import REFERENCE

    return results_of(options), ROOT / REFERENCE / load_preset(options.preset).name


def _numbers(words: Sequence[str]) -> list[int]:
    """Those of accuracy tables that the paper has, too: no other has a reference."""
    from experiments.tables.declared import accuracy_tables, load_table

    of_paper = [name for name in accuracy_tables() if load_table(name).number]
    return [load_table(choose(name, of_paper, "table")).number or 0 for name in words]


def _collect_garbage(options: Namespace, words: Sequence[str], console: Console) -> None:
    if words:
        raise UserError("gc takes no targets: ./reproduce.sh gc")
    from experiments.commands.garbage import collect
    from experiments.jobs.store import Store

    store = Store(options.store)
    with store.locked():
        collect(store, [ROOT / "results", *([options.results] if options.results else [])], options.dry_run, console)


def _workspace(options: Namespace, words: Sequence[str], console: Console) -> None:
    if words:
        raise UserError("wandb-workspace takes no further target")
    from evals.benchmarks import BENCHMARKS
    from experiments.mirror.workspace import save_workspace
    from experiments.tables.declared import accuracy_tables, quantized_tables

    names = [name for target in targets().values() for name in target.names]
    judged = [*quantized_tables(), *accuracy_tables()]
    console.print(f"W&B: saved {save_workspace(names, judged, [*BENCHMARKS])}", markup=False, soft_wrap=True)


_OF_CELLS = ("methods", "rows", "seeds", "eta", "external", "data_dir", "model_dir", "unsafe_local_execution")
_COMPRESS = ("method", "keep", "target_size", "eta", "calibration", "max_length", "dense_if_larger")

_ALL = (
    Command(
        "compress", "MODEL OUT",
        "compresses a model from a directory or the hub into an ordinary Hugging Face directory",
        _COMPRESS, "compress meta-llama/Llama-2-7b-hf smaller --keep 60 --calibration rows.jsonl", _compress,
    ),
    Command(
        "score", "BENCHMARK FILE.jsonl",
        "judges anybody's generations (one JSON a line: task_id, completion): pass@1 with its interval",
        ("data", "leave_out_unusable", "unsafe_local_execution", "cores"),
        "score humaneval generations.jsonl --data HumanEval.jsonl", _score,
    ),
    Command("list", "", "the targets and the presets", (), "list", _list),
    Command(
        "why", "[TABLE] METHOD:ROW", "what a cell depends on, and why it would run again",
        (*_OF_CELLS, "preset", "store"), "why table8 afm:1", _why,
    ),
    Command(
        "check", "[TABLE ...]", "holds the measured accuracy tables to the reference in results/reference/",
        ("methods", "rows", "each_seed", "preset", "results"), "check table6 --methods impact", _check,
    ),
    Command(
        "bless", "[TABLE ...]", "makes the measured tables the reference, on a clean git tree",
        ("preset", "results"), "bless table6", _bless,
    ),
    Command(
        "gc", "", "removes stored outputs that no table under results/ rests on",
        ("dry_run", "store", "results"), "gc --dry-run", _collect_garbage,
    ),
    Command(
        "wandb-workspace", "", "saves a view of the W&B project (docs/wandb.md)", (), "wandb-workspace", _workspace,
    ),
)  # fmt: skip
COMMANDS = {command.name: command for command in _ALL}
"""Those that come first and by themselves."""

BESIDE = {
    "claims": "every numeric claim of the paper, on its printed tables and on the measured ones",
    "report": "all of a preset's tables, figures and claims on one page, report.html, with the runs behind every cell",
}
"""What can be asked for beside tables and figures."""

OWN_OF_THE_SCRIPT = {
    "test": "the test suite; further arguments go to pytest",
    "test-vllm": "compressed checkpoints under vLLM and lm-eval, in .venv-vllm",
    "test-chaos": "kills, damage, full disks, no network: the table must come out the same",
    "test-slurm": "a Slurm cluster of two nodes on this machine, and Table 6 through it (root)",
}
"""What reproduce.sh does itself."""


def target_command(names: Sequence[str], from_paper: bool = False) -> Command:
    """The making of some tables and figures. Raises UserError for a name that there isn't."""
    there = targets()
    made_with = {name: target for target in there.values() for name in target.names}
    for name in names:
        if choose(name, [*made_with, "all", *BESIDE, *COMMANDS, *OWN_OF_THE_SCRIPT], "target") in {
            *COMMANDS,
            *OWN_OF_THE_SCRIPT,
        }:
            raise UserError(f"{name} comes first, by itself: ./reproduce.sh {name} ...")
    asked: dict[str, Target] = dict(there) if "all" in names else {}
    asked |= {made_with[name].name: made_with[name] for name in names if name in made_with}
    taken = {option for target in asked.values() for option in target.options} if not from_paper else set()
    derived = any(name in target.derived for name in names for target in asked.values())
    about = "; ".join({**{target.name: target.about for target in asked.values()}, **BESIDE}[name] for name in asked)
    if derived:
        taken.add("from")
    if "cluster" in taken:
        taken.add("profile")
    about = about or BESIDE.get(names[0], "")
    options = (*taken, "preset", "store", "results", "cores")
    return Command(names[0], "[TARGET ...]", about, options, f"{names[0]} --preset tiny", make)


def takers(option: str) -> list[str]:
    """The targets and commands that an option means something to."""
    found = [target.name for target in targets().values() if option in target.options]
    return found + [command.name for command in COMMANDS.values() if option in command.options]


def check_meaning(command: Command, options: Namespace) -> None:
    """An option that the command does not take would be ignored, and its user would not know: a UserError."""
    from experiments.commands.options import OPTIONS, default, flag

    for name in OPTIONS:
        given = getattr(options, name if name != "from" else "source")
        if name in EVERYWHERE or name in command.options or given == default(name):
            continue
        if name == "methods" and command.name == "compress":
            continue  # which says what it takes instead
        called = "--from paper" if options.source == "paper" and command.name not in COMMANDS else command.name
        raise UserError(f"{flag(name)} is an option of {', '.join(takers(name))}, not of {called}")
    if options.random_weights and {*options.words} <= {"table14", "figure8"}:
        for name in ("seeds", "eta", "external", "data_dir", "model_dir"):
            if getattr(options, name) != default(name):
                raise UserError(f"{flag(name)} has no meaning for --random-weights")
