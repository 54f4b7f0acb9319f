"""Processes that see the Python standard library and nothing else of the machine: bubblewrap (containers/bubblewrap).

No network, a read-only root without /home, /etc or /proc, a small temporary file system, no environment, own process
table. What a process may use up is limited from inside (`evals.execution.inside.confinement`), how long it may take
from outside.
"""

import os
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INSIDE = Path(__file__).parent / "inside"
_FIRST_SPARE_USER = 1_000_000
_RUN = "import sys; sys.path.insert(0, {place!r}); from inside.main import main; main(*sys.argv[1:])"


class IsolationError(RuntimeError):
    """Programs can't be isolated on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Limits:
    """What one process may take: seconds of wall clock and of CPU, bytes of memory, bytes of temporary files."""

    seconds: int = 10
    memory_bytes: int = 1 << 30
    disk_bytes: int = 16 << 20


def command(role: str, slot: int, *descriptors: int, limits: Limits, isolated: bool) -> list[str]:
    """The argument list of a candidate's or a checker's process.

    `slot` numbers the programs that run at one time; `descriptors` are inherited. A checker lives on from problem to
    problem, so its supervisor alone limits its time.
    """
    user = _FIRST_SPARE_USER + 2 * slot + (role == "checker") if isolated and os.geteuid() == 0 else 0
    seconds = limits.seconds if role == "candidate" else resource.RLIM_INFINITY
    confinement = f"{user},{seconds},{limits.memory_bytes},{limits.disk_bytes}"
    arguments = [role, confinement, *map(str, descriptors)]
    python = os.path.realpath(sys.executable)
    if not isolated:
        return [python, "-I", "-S", "-B", "-c", _RUN.format(place=str(INSIDE.parent)), *arguments]
    place = "/harness"
    program = [python, "-I", "-S", "-B", "-c", _RUN.format(place=place), *arguments]
    own = ("--perms", "0755", "--dir", place, "--ro-bind", str(INSIDE), f"{place}/inside")
    return [*_bubblewrap(limits.disk_bytes), *own, *_SEALED, "--", *program]


# After everything is mounted: nothing but /tmp can be written to.
_SEALED = ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp")


@cache
def _bubblewrap(disk_bytes: int) -> Sequence[str]:
    executable = shutil.which("bwrap")
    if executable is None:
        raise IsolationError("bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)")
    # Root needs no user namespace, and must be able to become a user whose processes the kernel counts.
    identity = (
        ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if os.geteuid() == 0
        else ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    )
    system = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            system += ["--symlink", os.readlink(name), name]
        else:
            system += ["--ro-bind-try", name, name]
    prefix = os.path.realpath(sys.base_prefix)
    if Path("/usr") not in Path(prefix, "x").parents:
        for folder in reversed(Path(prefix).parents[:-1]):
            system += ["--perms", "0755", "--dir", str(folder)]  # bubblewrap's own would be for one user only
        system += ["--ro-bind", prefix, prefix]
    return [
        executable,
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *identity,
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *system,
        *("--dev", "/dev", "--perms", "1777", "--size", str(disk_bytes), "--tmpfs", "/tmp"),
    ]
