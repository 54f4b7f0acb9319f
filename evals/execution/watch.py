"""What an isolated program takes that no limit of the kernel's bounds, read from outside while it runs."""

import json
import os
from contextlib import suppress

from evals.execution.isolation import PLACE, Limits

INTERVAL_SECONDS = 0.02


def excess(information: int, limits: Limits) -> str:
    """What the program has taken too much of, in words; empty while nothing is, before it starts and after it ends.

    `information` is the file that bubblewrap writes its --info-fd to. Counted are the files that it made, and together
    its memory, the page tables that the kernel keeps for that, and its files' content.
    """
    with suppress(OSError, ValueError, KeyError):
        outer = json.loads(os.pread(information, 4096, 0))["child-pid"]
        files, disk_bytes = _temporary_files(outer)
        if files > limits.files:
            return f"more than {limits.files} files"
        if disk_bytes + _memory(outer) > limits.memory_bytes:
            return "more memory than allowed"
    return ""


def _temporary_files(outer: int) -> tuple[int, int]:
    """Number and bytes in /tmp. Raises OSError before the root is the program's own."""
    root = os.open(f"/proc/{outer}/root", os.O_PATH | os.O_DIRECTORY)
    try:
        os.stat(f".{PLACE}/inside/main.py", dir_fd=root)
        folder = os.open("tmp", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        try:
            found = os.fstatvfs(folder)
        finally:
            os.close(folder)
    finally:
        os.close(root)
    return found.f_files - found.f_ffree, (found.f_blocks - found.f_bfree) * found.f_frsize


def _memory(outer: int) -> int:
    """Bytes of the process inside, the first one's only child."""
    with open(f"/proc/{outer}/task/{outer}/children") as listed:
        inner = listed.read().split()
    total = 0
    for process in inner:
        with open(f"/proc/{process}/status") as status:
            for line in status:
                if line.startswith(("VmRSS:", "VmPTE:", "VmSwap:")):
                    total += int(line.split()[1]) << 10
    return total
