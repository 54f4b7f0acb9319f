"""Which GPUs a job sees: as many as it asked for.

A stage works on the first GPU that it sees, and a training in one process spreads over all of them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

VISIBLE = "CUDA_VISIBLE_DEVICES"


def first_gpus(count: int) -> list[str]:
    """The names, as CUDA_VISIBLE_DEVICES has them, of the first GPUs that this process sees."""
    named = os.environ.get(VISIBLE, "")
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


class FreeGpus:
    """The GPUs of this machine that no job has. Who asks for more than are free waits."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[str] = SimpleQueue()
        for name in first_gpus(count):
            self._free.put(name)

    @contextmanager
    def taken(self, count: int) -> Iterator[list[str]]:
        """So many, until the end of the block."""
        names = [self._free.get() for _ in range(count)]
        try:
            yield names
        finally:
            for name in names:
                self._free.put(name)
