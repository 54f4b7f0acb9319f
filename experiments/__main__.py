"""`python -m experiments`: see experiments.commands.main."""

import io
import sys

from experiments.commands.main import main

if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # tables have characters that a terminal in ASCII lacks
    raise SystemExit(main())
