"""The most memory that something took: what torch allocated on a GPU, what the process held on a CPU."""

import os
import resource
from pathlib import Path
from typing import Literal

import torch

MemoryKind = Literal["cuda_allocated", "process_resident", "process_resident_since_start"]


def reset_peak(device: str) -> MemoryKind:
    """Starts a new peak where the system allows it, and says what `peak_memory` will then mean."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return "cuda_allocated"
    try:
        # Linux: the peak of the resident memory becomes the present value
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return "process_resident_since_start"
    return "process_resident"


def peak_memory(device: str, kind: MemoryKind) -> int:
    """The peak in bytes since `reset_peak`; on a CPU libraries and what the allocator keeps are part of it."""
    if kind == "cuda_allocated":
        return torch.cuda.max_memory_allocated(device)
    if kind == "process_resident":
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
