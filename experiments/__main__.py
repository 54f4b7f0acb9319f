"""`python -m experiments`: see experiments.commands.main."""

import io
import os
import sys

from experiments.errors import Interrupted, end_on_signals


def _start() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # tables have characters that a terminal in ASCII lacks
    try:
        end_on_signals()
        from experiments.commands.main import main

        return main()
    except Interrupted as early:  # before it had begun
        print(f"reproduce.sh: {early}", file=sys.stderr)
        return 128 + early.number


if __name__ == "__main__":
    code = _start()
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds fails again at the end
        if not isinstance(error, BrokenPipeError):  # `| head` has all that it wants
            print(f"reproduce.sh: standard output: {error.strerror}", file=sys.stderr)
            code = code or 2
    raise SystemExit(code)
