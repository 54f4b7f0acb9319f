"""The two limits of a machine that a model's speed is compared with, measured: memory bandwidth and matrix rate."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

# Many times any cache, so that every pass streams from memory; a GPU's passes are long enough to time, too.
_STREAM_BYTES = {"cpu": 2**30, "cuda": 2**32}
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class MachineLimits:
    """bandwidth: bytes a second of a streaming read; matrix_rate: operations a second of a large product in `dtype`.

    A multiplication and an addition are two operations. `hardware` and `threads` say where they were measured.
    """

    bandwidth: float
    matrix_rate: float
    dtype: str
    hardware: str
    threads: int

    def seconds_to_move(self, size: float) -> float:
        """The least time in which `size` bytes can be read."""
        return size / self.bandwidth

    def seconds_to_compute(self, operations: float) -> float:
        """The least time that `operations` take."""
        return operations / self.matrix_rate


def machine_limits(device: str, dtype: torch.dtype, repetitions: int = 7, scale: float = 1.0) -> MachineLimits:
    """Measures both limits on `device`; the best of all repetitions counts, since they are limits.

    scale: a fraction of the usual amount of memory, for tests; below 1 the caches take part.
    """
    kind = torch.device(device).type
    return MachineLimits(
        bandwidth=_bandwidth(device, dtype, int(scale * _STREAM_BYTES[kind]), repetitions),
        matrix_rate=_matrix_rate(device, dtype, max(16, int(scale * _MATRIX_SIDE[kind])), repetitions),
        dtype=str(dtype).removeprefix("torch."),
        hardware=hardware_name(device),
        threads=torch.get_num_threads(),
    )


def hardware_name(device: str) -> str:
    """What `device` is called: the GPU's name, or the processor's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def cpu_name() -> str:
    """The processor's model, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _bandwidth(device: str, dtype: torch.dtype, size: int, repetitions: int) -> float:
    width = 4096
    rows = max(1, size // (width * dtype.itemsize))
    # ones, not zeros: pages that were never written are all one page
    matrix = torch.ones(rows, width, dtype=dtype, device=device)
    vector = torch.ones(width, dtype=dtype, device=device)
    # Several ways to read everything once: which kernel streams best differs by machine and dtype.
    ways: list[Callable[[], object]] = [lambda: matrix.sum(), lambda: matrix @ vector, lambda: matrix.amax()]
    return matrix.numel() * dtype.itemsize / min(_best(way, device, repetitions) for way in ways)


def _matrix_rate(device: str, dtype: torch.dtype, side: int, repetitions: int) -> float:
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: a @ b, device, repetitions)


def _best(work: Callable[[], object], device: str, repetitions: int) -> float:
    """The shortest time in seconds, after one call that is not timed."""
    work()
    times = []
    for _ in range(repetitions):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return min(times)


def wait_for(device: str) -> None:
    """Returns when the device has done all it was given; a CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
