"""Options by name, the parser of a command from those that it takes, and what their values may be."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.settings import known

ROOT = Path(__file__).resolve().parents[2]
MOST_SEEDS = 1_000


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _rows(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(number) for number in _names(text)))
    except ValueError:
        raise UserError(f"--rows takes row numbers such as 1,3, not '{text}'") from None


# fmt: off
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "preset": {"default": "tiny", "help": "size of the experiment: " + ", ".join(known("presets"))},
    "methods": {"type": _names, "help": "only these methods, comma-separated"},
    "rows": {"type": _rows, "help": "only these rows of the table, comma-separated"},
    "models": {"type": _names, "help": "only these models, 7b or 13b"},
    "seeds": {"type": int, "default": 1, "help": "repeat the second SFT with this many seeds"},
    "eta": {"type": float, "help": "IMPACT's eta instead of .25"},
    "external": {
        "action": "append", "default": [], "metavar": "NAME=PATH",
        "help": "a checkpoint of your own, a directory or a name on the hub, as a row measured as it is",
    },
    "random_weights": {"action": "store_true", "help": "random weights in the preset's shape, at printed sizes"},
    "batch_size": {"type": int, "help": "rows that are decoded at a time"},
    "prompt_tokens": {"type": int, "help": "tokens of a prompt"},
    "new_tokens": {"type": int, "help": "tokens to generate"},
    "routes": {"type": _names, "help": "'growing', 'static fused', 'vllm native', ..., comma-separated"},
    "from": {
        "dest": "source", "choices": ("runs", "paper"), "default": "runs",
        "help": "table10 to table13: from measured accuracies or from the printed ones",
    },
    "data_dir": {
        "type": Path, "metavar": "DIR",
        "help": "local files of the published data: gsm8k/train.jsonl, gsm8k/test.jsonl, math/..., "
        "humaneval/HumanEval.jsonl, mbpp/mbpp378.jsonl, code/train.jsonl, metamath/train.jsonl",
    },
    "model_dir": {"type": Path, "metavar": "DIR", "help": "local copies of the hub's models, by their names"},
    "unsafe_local_execution": {
        "action": "store_true",
        "help": "run programs that a model wrote without isolation; without it and without bubblewrap none is run",
    },
    "checkpoint_minutes": {
        "type": float, "default": 10, "metavar": "MINUTES",
        "help": "how often a training that takes longer keeps what it would go on from if it were killed; 0: never",
    },
    "cluster": {"metavar": "NAME", "help": "run jobs on a cluster, through this executor plugin of Snakemake: slurm"},
    "profile": {"type": Path, "metavar": "FILE", "help": "the cluster's partition, limits, ... (docs/cluster.md)"},
    "wandb": {"action": "store_true", "help": "mirror jobs and tables to W&B; without a key, offline (docs/wandb.md)"},
    "dry_run": {"action": "store_true", "help": "say what would run, and run nothing"},
    "each_seed": {"action": "store_true", "help": "every further seed as an unchanged run of its own"},
    "data": {"type": Path, "metavar": "FILE", "help": "the benchmark's data file, in its published format"},
    "leave_out_unusable": {
        "action": "store_true",
        "help": "leave problems out, and name them, whose tests or gold answer can't be used, instead of refusing them",
    },
    "method": {"default": "impact", "help": "the method"},
    "keep": {"type": float, "metavar": "PERCENT", "help": "k of the rank rule in percent"},
    "target_size": {
        "type": float, "metavar": "SIZE",
        "help": "instead of --keep, at most so many parameters, or billions of them",
    },
    "calibration": {"type": Path, "metavar": "FILE", "help": "rows with a prompt and a response (docs/calibration.md)"},
    "max_length": {"type": int, "default": 512, "metavar": "TOKENS", "help": "after which a row of it is cut"},
    "dense_if_larger": {"action": "store_true", "help": "leave a layer dense where its factors would be larger"},
    "store": {"type": Path, "default": ROOT / "runs", "metavar": "DIR", "help": "where outputs of stages are kept"},
    "results": {"type": Path, "metavar": "DIR", "help": "where tables and figures go, or are (results/<preset>)"},
    "cores": {"type": int, "default": len(os.sched_getaffinity(0)), "help": "CPU cores to use"},
}
# fmt: on
"""Every option by its name in Python: what argparse is told of it."""

EVERYWHERE = ("preset", "store", "results", "cores", "from", "profile")
"""What every command lets pass, whether it has a meaning for it or not."""
_SHOWN_DEFAULTS = ("preset", "seeds", "checkpoint_minutes", "method", "max_length", "from")


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


class Parser(argparse.ArgumentParser):
    """argparse with its errors as one line, for some of the options."""

    def __init__(self, prog: str, names: Iterable[str], **settings: Any) -> None:
        super().__init__(
            prog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False, **settings
        )
        shown = {*names}
        self.taken = {*shown, *EVERYWHERE}
        for name, told in OPTIONS.items():
            if name in self.taken:
                text = told["help"] + (f" (default: {told['default']})" if name in _SHOWN_DEFAULTS else "")
                self.add_argument(flag(name), **{**told, "help": text if name in shown else argparse.SUPPRESS})
        self.add_argument("--help", "-h", action="help", help="this text")

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (./reproduce.sh --help)")


def all_options(arguments: Sequence[str]) -> argparse.Namespace:
    """What is asked for by any option, and in `words` what is none.

    Raises UserError for an option that nothing has.
    """
    parser = Parser("./reproduce.sh", OPTIONS)
    parser.add_argument("words", nargs="*")
    # --help is the chosen command's
    options, rest = parser.parse_known_intermixed_args([a for a in arguments if a not in ("--help", "-h")])
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def default(name: str) -> object:
    """An option's value where it is not given."""
    told = OPTIONS[name]
    return told.get("default", False if told.get("action") == "store_true" else None)


def check_values(options: argparse.Namespace) -> None:
    """Raises UserError for a value outside its range."""
    if not (1 <= options.seeds <= MOST_SEEDS and options.cores >= 1):
        raise UserError(f"--seeds takes a number from 1 to {MOST_SEEDS}, --cores one of at least 1")
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
