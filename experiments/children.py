"""Running a bundle of jobs in a child process of its own.

The children are forked from a server that has torch, transformers and lm-eval imported once: a stage starts in
milliseconds, its peak memory is its own, and running out of memory kills that stage alone.
"""

import contextlib
import errno
import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.jobs import Job
from experiments.store import Store

PRELOADED = [
    "torch",
    "transformers",
    "baselines.quantization",
    "datasets",
    "evals.generate",
    "experiments.stages.train",
    "experiments.stages.compress",
]
RECORDED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "lm-eval", "safetensors", "snakemake", "numpy")


class StageError(UserError):
    """A stage ended without an output."""


@dataclass(frozen=True)
class _Order:
    """What a child is told."""

    store: Path
    bundle: list[Job]
    threads: int
    command: str


def start_server() -> None:
    """Starts the server that children are forked from; it imports in the background while the caller goes on."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def run_bundle(store: Store, bundle: list[Job], threads: int, progress: Callable[[float, float], None]) -> None:
    """Makes the outputs of the bundle's jobs that aren't there yet. Raises StageError with one line."""
    missing = [job for job in bundle if not store.finished(job)]
    if not missing:
        return
    # Checked here and not in the child, so that a damaged input is one clear line.
    for upstream in missing[0].inputs.values():
        store.verified(upstream)
    start_server()
    context = multiprocessing.get_context("forkserver")
    # Duplex, although the parent never writes: when it dies, however it dies, the child reads the end of the pipe.
    receiving, sending = context.Pipe(duplex=True)
    order = _Order(store.root, missing, threads, os.environ.get("IMPACT_COMMAND", " ".join(sys.argv)))
    process = context.Process(target=_child, args=(order, sending))
    process.start()
    sending.close()
    message = ""
    try:
        while True:
            kind, value = receiving.recv()
            if kind == "progress":
                progress(*value)
            else:
                message = value
    except EOFError:
        pass
    process.join()
    log = store.log(missing[0])
    if process.exitcode == 0:
        return
    what = missing[0].describe()
    if message:
        raise StageError(f"{what}: {message}")
    if process.exitcode == -signal.SIGKILL:
        raise StageError(f"{what} was killed, most likely because memory ran out; what it printed is in {log}")
    raise StageError(f"{what} died with exit code {process.exitcode}; what it printed is in {log}")


def _child(order: _Order, connection: Connection) -> None:
    """In the child: runs the stage, writes outputs and provenance, and reports."""
    threading.Thread(target=_die_with_parent, args=(connection,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = Store(order.store)
    log = store.log(order.bundle[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        _run_stage(store, order, lambda done, total: connection.send(("progress", (done, total))))
    except UserError as error:
        connection.send(("error", str(error)))
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        # safetensors has an error class of its own for it
        if os.strerror(errno.ENOSPC) in str(error):
            connection.send(("error", f"no space left on the device of {store.root}: free some, or give --store DIR"))
            sys.exit(2)
        first = str(error).strip().splitlines() or [""]
        connection.send(("error", f"{type(error).__name__}: {first[0]} (what it printed is in {log})"))
        sys.exit(1)


def _die_with_parent(connection: Connection) -> None:
    """An orphan must not go on computing beside the next run."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def _run_stage(store: Store, order: _Order, progress: Callable[[float, float], None]) -> None:
    import torch

    from experiments.stages.interface import Task

    torch.set_num_threads(order.threads)
    first, started = order.bundle[0], time.time()
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(store.writing(job)) for job in order.bundle]
        inputs = {slot: store.directory(job) for slot, job in first.inputs.items()}
        task = Task([job.config for job in order.bundle], inputs, first.paths, outputs, order.threads, progress)
        measured = first.stage.run(task)
        for job, output in zip(order.bundle, outputs, strict=True):
            store.commit(job, output, _provenance(job, measured, started, order))


def _provenance(job: Job, measured: dict[str, Any], started: float, order: _Order) -> dict[str, Any]:
    import torch

    return {
        **job.recipe(),
        "id": job.id,
        "label": job.label,
        "seed": getattr(job.config, "seed", None),
        "measured": measured,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_s": round(time.time() - started, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "command": order.command,
        "git": git_state(),
        "packages": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": order.threads,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
        },
    }


def git_state() -> dict[str, Any]:
    """The commit that the code is at, and whether tracked files differ from it."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False)
        return result.stdout.strip()

    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(git("status", "--porcelain", "-uno"))}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
