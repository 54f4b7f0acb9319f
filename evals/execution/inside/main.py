"""A candidate or a checker, confined before it reads anything."""

import sys

from .confinement import confine


def main(role: str, limits: str, descriptor: str) -> None:
    """Serves the socket `descriptor` in the role, within the comma-separated limits of `confine`."""
    # The other role's imports would cost a candidate as much time as its start.
    if role == "candidate":
        from .candidate import serve
    else:
        from .checker import serve
    confine(*map(int, limits.split(",")))
    sys.set_int_max_str_digits(0)
    serve(int(descriptor))
