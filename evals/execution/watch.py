"""What an isolated program takes that no limit of the kernel's bounds, read from outside while it runs."""

import json
import os
from contextlib import ExitStack, suppress

from evals.execution.isolation import PLACE, Limits

INTERVAL_SECONDS = 0.02
_MEMORY = ("VmRSS:", "VmPTE:", "VmSwap:")


class Watch:
    """Looks at one program: the files that it made, and together its memory, the page tables that the kernel keeps for
    that, and what its files hold.

    `information` is the file that bubblewrap writes its --info-fd to.
    """

    def __init__(self, information: int, limits: Limits) -> None:
        self._information, self._limits = information, limits
        self._opened = ExitStack()
        self._temporary: int | None = None
        self._status: int | None = None

    def excess(self) -> str:
        """What there is too much of, in words; empty while that is nothing, before the start and after the end."""
        with suppress(OSError, ValueError, KeyError):
            if self._temporary is None:
                self._temporary = self._kept(self._temporary_folder())
            used = os.fstatvfs(self._temporary)
            if used.f_files - used.f_ffree > self._limits.files:
                return f"more than {self._limits.files} files"
            if self._status is None:
                self._status = self._kept(self._process_status())
            memory = (used.f_blocks - used.f_bfree) * used.f_frsize
            for line in os.pread(self._status, 4096, 0).decode().splitlines():
                if line.startswith(_MEMORY):
                    memory += int(line.split()[1]) << 10
            if memory > self._limits.memory_bytes:
                return "more memory than allowed"
        return ""

    def close(self) -> None:
        """Lets go of the program's files."""
        self._opened.close()

    def _kept(self, descriptor: int) -> int:
        self._opened.callback(os.close, descriptor)
        return descriptor

    def _first_process(self) -> int:
        return int(json.loads(os.pread(self._information, 4096, 0))["child-pid"])

    def _temporary_folder(self) -> int:
        root = os.open(f"/proc/{self._first_process()}/root", os.O_PATH | os.O_DIRECTORY)
        try:
            os.stat(f".{PLACE}/inside/main.py", dir_fd=root)  # or it is the machine's root still
            return os.open("tmp", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        finally:
            os.close(root)

    def _process_status(self) -> int:
        first = self._first_process()
        with open(f"/proc/{first}/task/{first}/children") as children:
            (program,) = children.read().split()
        return os.open(f"/proc/{program}/status", os.O_RDONLY)
