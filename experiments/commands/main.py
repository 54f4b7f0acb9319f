"""The command line behind ./reproduce.sh."""

import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from experiments.commands.catalogue import BESIDE, COMMANDS, OWN_OF_THE_SCRIPT, check_meaning, target_command
from experiments.commands.options import all_options, check_values
from experiments.errors import CheckError, Interrupted, UserError, arrived, unexpected
from experiments.settings import known
from experiments.tables.target import targets

# Piped into a file there is no terminal to fit the tables to.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 180)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0, 2 after one line that says what is wrong, 1 if a check failed, 128 and its number after a signal.
    """
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        return _fail(str(error))
    except CheckError as failed:
        for line in failed.lines:
            _fail(line)
        return 1
    except BrokenPipeError:  # `| head` has all that it wants
        return 128 + signal.SIGPIPE
    except Exception as error:
        if arrived:
            return _fail(str(Interrupted(arrived[0])), 128 + arrived[0])
        if isinstance(error, OSError) and error.errno is not None:
            return _fail(f"{error.filename or ''}: {error.strerror}".lstrip(": "))
        return _fail(unexpected(error))
    except Interrupted as ended:
        return _fail(str(ended), 128 + ended.number)
    return 0


def _fail(line: str, code: int = 2) -> int:
    print(f"reproduce.sh: {line}", file=sys.stderr)
    return code


def _run(arguments: Sequence[str]) -> None:
    options = all_options(arguments)
    if not options.words:
        console.print(overview(), markup=False)
        return
    first, *rest = options.words
    command = COMMANDS.get(first) or target_command(options.words, options.source == "paper")
    if {"--help", "-h"} & {*arguments}:
        console.print(command.parser().format_help(), markup=False, end="")
        return
    check_meaning(command, options)
    check_values(options)
    command.run(options, rest, console)


def overview() -> str:
    """All commands on one screen."""
    measured = ", ".join(", ".join((target.name, *target.figures)) for target in targets().values())
    derived = ", ".join(name for target in targets().values() for name in target.derived)

    def lines(about: dict[str, str]) -> list[str]:
        return [f"  {name:<17} {text}" for name, text in about.items()]

    def abouts(*names: str) -> dict[str, str]:
        return {name: COMMANDS[name].about for name in names}

    return "\n".join(
        [
            "./reproduce.sh TARGET ... [OPTIONS]   measures the paper's tables and figures beside the printed numbers",
            "./reproduce.sh COMMAND ... [OPTIONS]   and --help after either: its options, with an example",
            "",
            "Tables and figures",
            f"  {measured}",
            f"  {derived}: size reductions, from those (or --from paper)",
            *lines({"all": "everything above and the claims", **BESIDE}),
            f"  --preset NAME     {', '.join(known('presets'))}: the size of the experiment (default: tiny)",
            "",
            "Your own models and generations",
            *lines(abouts("compress", "score")),
            "",
            "Runs and references",
            *lines(abouts("list", "why", "check", "bless", "gc", "wandb-workspace")),
            "",
            "Tests",
            *lines(OWN_OF_THE_SCRIPT),
        ]
    )
