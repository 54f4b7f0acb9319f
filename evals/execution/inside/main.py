"""A candidate or a checker, confined before it reads anything."""

import sys
from importlib import import_module

from .confinement import confine


def main(role: str, limits: str, descriptor: str) -> None:
    """Serves the socket `descriptor` in the role, within the comma-separated limits of `confine`."""
    # The other role's imports would cost a candidate as much time as its start.
    served = import_module(f".{role}", __package__)
    confine(*map(int, limits.split(",")))
    sys.set_int_max_str_digits(0)
    served.serve(int(descriptor))
