"""The files that a Python interpreter needs to run the standard library: nothing else of the machine is shown."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_UNUSABLE = ("_tkinter.", "nis.")  # would bring the libraries of a display and of a network
_OPTIONAL = ("/etc/ld.so.cache", "/usr/share/zoneinfo")  # where libraries are, and zoneinfo's data
_PACKAGES = ("site-packages", "dist-packages")


def interpreter() -> str:
    """The interpreter's own file."""
    return os.path.realpath(sys.executable)


def standard_library() -> str:
    """The folder of the standard library's modules."""
    return os.path.dirname(os.path.realpath(os.__file__))


def installed_packages() -> list[str]:
    """Folders inside the standard library's that hold what is none of it."""
    folders = (os.path.join(standard_library(), name) for name in _PACKAGES)
    return [folder for folder in folders if os.path.isdir(folder)]


@cache
def needed_files() -> tuple[str, ...]:
    """Files and folders, by the paths that the interpreter and the dynamic loader look for them at."""
    found = [*map(_place, [interpreter(), standard_library(), *_extension_folders(), *_libraries()])]
    found += [path for path in _OPTIONAL if os.path.exists(path)]
    inside = {path for path in found if not {*found}.isdisjoint(map(str, Path(path).parents))}
    return tuple(path for path in dict.fromkeys(found) if path not in inside)


@cache
def _extension_folders() -> tuple[str, ...]:
    return tuple(os.path.realpath(path) for path in sys.path if os.path.basename(path) == "lib-dynload")


def _place(path: str) -> str:
    """Without the links at the root that merge /lib into /usr/lib, which the loader's paths go through."""
    path = os.path.normpath(path)
    top = Path(*Path(path).parts[:2])
    return str(top.resolve() / Path(path).relative_to(top)) if top.is_symlink() else path


def _libraries() -> Iterator[str]:
    """The shared libraries of the interpreter and of all extension modules, as the loader itself finds them."""
    for folder in _extension_folders() or ("/",):
        modules = [name for name in sorted(os.listdir(folder)) if name.endswith(".so")]
        # by relative paths, as LD_PRELOAD ends a path at a space or a colon
        preloaded = " ".join(f"./{name}" for name in modules if not name.startswith(_UNUSABLE))
        environment = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": preloaded}
        traced = subprocess.run(
            [interpreter(), "-ISc", ""], env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        for line in traced.stdout.splitlines():
            path = line.rpartition(" (0x")[0].rpartition("=>")[2].strip()
            if os.path.isabs(path):
                yield path
