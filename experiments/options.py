"""What the user may ask for: targets, options, and which target takes which option."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError
from experiments.settings import choose, known, load_quantized_table, load_table

ROOT = Path(__file__).resolve().parent.parent
ACCURACY = (*known("tables"),)
QUANTIZED = (*known("quantized_tables"),)
OF_MODELS = (*ACCURACY, *QUANTIZED, "gauge", "table14")
TABLES = (*OF_MODELS, "table5")
TOGETHER = ("all", "claims", "report")
"""Targets that stand beside tables and figures."""
COMMANDS = ("list", "why", "gc", "score", "compress", "bless", "check", "wandb-workspace")
"""What comes first and by itself; so does test, which is reproduce.sh's own."""

TAKEN_BY = {
    "methods": (*OF_MODELS, "why", "check"),
    "rows": (*OF_MODELS, "why", "check"),
    "seeds": (*ACCURACY, *QUANTIZED, "table14", "why"),
    "models": QUANTIZED,
    "eta": (*OF_MODELS, "why", "compress"),
    "external": (*ACCURACY, "table14", "why"),
    "data_dir": (*OF_MODELS, "why"),
    "model_dir": (*OF_MODELS, "why"),
    "unsafe_local_execution": (*OF_MODELS, "why", "score"),
    "random_weights": ("table14",),
    "batch_size": ("table14",),
    "prompt_tokens": ("table14",),
    "new_tokens": ("table14",),
    "routes": ("table14",),
    "checkpoint_minutes": TABLES,
    "cluster": TABLES,
    "wandb": TABLES,
    "dry_run": (*TABLES, "gc"),
    "each_seed": ("check",),
    "data": ("score",),
    "method": ("compress",),
    "keep": ("compress",),
    "target_size": ("compress",),
    "calibration": ("compress",),
    "dense_if_larger": ("compress",),
}
"""Option -> the tables and commands that it means something to; what is not named here, all of them take."""


def targets() -> dict[str, str]:
    """Every table and figure -> the table whose measurements it needs."""
    found = {**{name: name for name in TABLES}, "figure8": "table14"}
    for name in QUANTIZED:
        if figure := load_quantized_table(name).figure:
            found[f"figure{figure}"] = name
    for name in ACCURACY:
        found |= dict.fromkeys(load_table(name).figures, name)
    return found | derived_targets()


def derived_targets() -> dict[str, str]:
    """Every table that is computed from another -> that other."""
    return {f"table{load_table(name).derived}": name for name in ACCURACY}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the user asked for. Raises UserError, in one line, for what there isn't or what has no meaning together."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.targets[0] not in COMMANDS:
        for name in options.targets:
            if choose(name, [*targets(), *TOGETHER, *COMMANDS, "test"], "target") in (*COMMANDS, "test"):
                raise UserError(f"{name} comes first, by itself: ./reproduce.sh {name} ...")
    _check_meaning(options, parser)
    _check_values(options)
    return options


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors as one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (./reproduce.sh --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="./reproduce.sh",
        description="Measures the tables and figures of the IMPACT paper, beside the printed numbers.",
        epilog="Targets: " + ", ".join(targets()) + ", all. Commands: list, why [TABLE] CELL, claims, report, gc, "
        "score gsm8k|math|humaneval|mbpp GENERATIONS.jsonl --data FILE, "
        "compress MODEL OUT --keep PERCENT --calibration FILE, bless [TABLE ...], check [TABLE ...], "
        "wandb-workspace, test.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("targets", nargs="+", metavar="TARGET", help="a table or figure, 'all', or a command")
    add("--preset", default="tiny", help="size of the experiment: " + ", ".join(known("presets")) + " (default: tiny)")
    add("--methods", type=_names, help="only these methods, comma-separated")
    add("--models", type=_names, help="table3: only these models, 7b or 13b")
    add("--rows", type=_numbers, help="only these rows of the table, comma-separated")
    add("--seeds", type=int, default=1, help="repeat the second SFT with this many seeds (default: 1)")
    add("--from", dest="source", choices=("runs", "paper"), default="runs", help="table10-13: from the printed numbers")
    add("--data", type=Path, help="score: the benchmark's data file, in its published format")
    add("--method", default="impact", help="compress: the method (default: impact)")
    add("--keep", type=float, metavar="PERCENT", help="compress: k of the rank rule in percent")
    add(
        "--target-size", type=float, metavar="SIZE", help="compress: instead of --keep, at most so many parameters or B"
    )
    add("--calibration", type=Path, metavar="FILE", help="compress: JSON lines with query and response")
    add(
        "--dense-if-larger", action="store_true", help="compress: leave a layer dense where its factors would be larger"
    )
    add("--unsafe-local-execution", action="store_true", help="run generated programs without isolation")
    add("--external", action="append", default=[], metavar="NAME=PATH", help="a checkpoint as a row of its own")
    add("--random-weights", action="store_true", help="table14: random weights in the preset's shape, at printed sizes")
    add("--batch-size", type=int, help="table14: rows that are decoded at a time")
    add("--prompt-tokens", type=int, help="table14: tokens of a prompt")
    add("--new-tokens", type=int, help="table14: tokens to generate")
    add("--routes", type=_names, help="table14: 'growing', 'static fused', 'vllm native', ..., comma-separated")
    add("--eta", type=float, help="IMPACT's eta instead of the table's .25")
    add("--data-dir", type=Path, help="local files of the published data: gsm8k/train.jsonl, gsm8k/test.jsonl, ...")
    add("--model-dir", type=Path, help="local copies of the hub's models, by their names")
    add("--store", type=Path, default=ROOT / "runs", help="where outputs of stages are kept (default: runs)")
    add("--results", type=Path, help="where tables and figures go (default: results/<preset>)")
    add(
        "--checkpoint-minutes",
        type=float,
        default=10,
        metavar="MINUTES",
        help="how often a training that takes longer keeps what it would go on from if it were killed; 0: never "
        "(default: 10)",
    )
    add("--cores", type=int, default=len(os.sched_getaffinity(0)), help="CPU cores to use (default: all)")
    add("--cluster", metavar="NAME", help="run jobs on a cluster, through this executor plugin of Snakemake: slurm")
    add("--profile", type=Path, metavar="FILE", help="the cluster's partition, limits, ... (docs/cluster.md)")
    add("--wandb", action="store_true", help="mirror jobs and tables to W&B; without a key, offline (docs/wandb.md)")
    add("--each-seed", action="store_true", help="check: every further seed as an unchanged run of its own")
    add("--dry-run", action="store_true", help="say what would run, and run nothing")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(number) for number in _names(text)))
    except ValueError:
        raise UserError(f"--rows takes row numbers such as 1,3, not '{text}'") from None


def _check_meaning(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """An option that no target takes would be ignored, and its user would not know."""
    first, tables = options.targets[0], targets()
    if first in COMMANDS:
        asked = {first}
    elif options.source == "paper":
        first, asked = "--from paper", set()
    else:
        asked = {tables.get(name, name) for name in options.targets}
        if "all" in asked:
            asked |= {*TABLES}
    if first == "compress" and options.methods:
        raise UserError("compress takes one method: --method NAME")
    for name, takers in TAKEN_BY.items():
        if getattr(options, name) != parser.get_default(name) and not asked & {*takers}:
            raise UserError(f"--{name.replace('_', '-')} is an option of {', '.join(takers)}, not of {first}")
    if options.random_weights:
        for name in ("seeds", "eta", "external", "data_dir", "model_dir"):
            if getattr(options, name) != parser.get_default(name) and asked == {"table14"}:
                raise UserError(f"--{name.replace('_', '-')} has no meaning for --random-weights")


def _check_values(options: argparse.Namespace) -> None:
    if options.seeds < 1 or options.cores < 1:
        raise UserError("--seeds and --cores take a number of at least 1")
    if any(value is not None and value < 1 for value in (options.batch_size, options.prompt_tokens)):
        raise UserError("--batch-size and --prompt-tokens take a number of at least 1")
    if options.new_tokens is not None and options.new_tokens < 2:
        raise UserError("--new-tokens takes a number of at least 2: the first comes from the prompt")
    if not options.checkpoint_minutes >= 0:
        raise UserError("--checkpoint-minutes takes a number of at least 0")
    if options.profile is not None and options.cluster is None:
        raise UserError("--profile describes a cluster: give --cluster NAME too, such as slurm")
    if options.eta is not None and not 0 <= options.eta <= 1:
        raise UserError(f"--eta must lie in [0, 1], got {options.eta:g}")
