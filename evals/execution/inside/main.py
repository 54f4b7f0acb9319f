"""A candidate or a checker, confined before it reads anything."""

import os
import sys

from .confinement import confine
from .plain_data import Channel, ClosedError, encode


def main(role: str, limits: str, socket: str, verdict: str = "") -> None:
    """Runs the role, within the comma-separated limits of `confine`; the checker writes its verdict to `verdict`."""
    confine(*map(int, limits.split(",")))
    sys.set_int_max_str_digits(0)
    channel = Channel(int(socket))
    if role == "checker":
        from .checker import check

        os.write(int(verdict), encode(check(channel)))
        return
    from .candidate import serve

    try:
        serve(channel)
    except ClosedError:
        return
