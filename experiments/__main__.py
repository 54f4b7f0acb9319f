"""`python -m experiments`: see experiments.command_line."""

from experiments.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
