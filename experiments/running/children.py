"""Running a bundle of jobs in a child process of its own.

The children are forked from a server that has torch, transformers and lm-eval imported once: a stage starts in
milliseconds, its peak memory is its own, and running out of memory kills that stage alone. Where there are GPUs it is
torch alone: CUDA does not survive a fork, and some of the others set it up when they are imported (bitsandbytes).
"""

import contextlib
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from evals.json_lines import DataFileError
from experiments.errors import UserError, causes, no_space
from experiments.jobs.job import Job
from experiments.jobs.store import Store
from experiments.running.gpus import VISIBLE
from experiments.running.observer import Event, Observer

PRELOADED_ALONE = ["experiments.running.dies_with_parent"]
PRELOADED_WITH_GPUS = [*PRELOADED_ALONE, "torch"]
PRELOADED = [
    *PRELOADED_WITH_GPUS,
    "transformers",
    "baselines.quantization",
    "datasets",
    "evals.generate",
    "experiments.stages.train",
    "experiments.stages.compress",
]
# Starting a process polls all others, and an exit code can be read once: where another thread reads it in that moment,
# one of the two finds 255.
_exit_codes = threading.Lock()
_running: set[int] = set()
USER_ERROR = 2  # the exit code of a child whose last message is a line for the user
RECORDED_PACKAGES = ("torch", "transformers", "accelerate", "datasets", "lm-eval", "safetensors", "snakemake", "numpy")


class StageError(UserError):
    """A stage ended without an output."""


class StageDiedError(StageError):
    """It was killed, or broke in a way that it has no line for: another attempt elsewhere may go through."""


@dataclass(frozen=True)
class _Order:
    """What a child is told."""

    store: Path
    bundle: list[Job]
    threads: int
    command: str
    checkpoint_minutes: float
    gpus: Sequence[str]


def start_server(preloaded: list[str] = PRELOADED) -> None:
    """Starts the server that children are forked from; it imports in the background while the caller goes on.

    preloaded: PRELOADED_WITH_GPUS where there are any, PRELOADED_ALONE for one bundle.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(preloaded)
    # It removes the semaphores that a killed stage leaves; that it did is nobody's concern.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    resource_tracker.ensure_running()
    # The server inherits the mask: Ctrl-C is the caller's to answer, and not in the midst of an import. Starting the
    # tracker would take it away.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_bundle(
    store: Store,
    bundle: list[Job],
    threads: int,
    observer: Observer,
    checkpoint_minutes: float = 0,
    gpus: Sequence[str] = (),
) -> None:
    """Makes the outputs of the bundle's jobs that aren't there yet. Raises StageError with one line.

    The observer is told what the stage says while it runs; the caller tells it of beginning and end.
    checkpoint_minutes: how often a training keeps what it would go on from if it were killed. gpus: the
    only ones that the stage sees. `start_server` was called before.
    """
    missing = [job for job in bundle if not store.finished(job)]
    if not missing:
        return
    # Checked here and not in the child, so that a damaged input is one clear line.
    for upstream in missing[0].inputs.values():
        store.verified(upstream)
    # Duplex, although the parent never writes: when it dies, however it dies, the child reads the end of the pipe.
    receiving, sending = multiprocessing.Pipe(duplex=True)
    command = os.environ.get("IMPACT_COMMAND", " ".join(sys.argv))
    order = _Order(store.root, missing, threads, command, checkpoint_minutes, gpus)
    process = start(_child, order, sending)
    sending.close()
    message = ""
    try:
        # Not until the end of the pipe: what a killed stage had started may hold it open.
        while receiving in wait([receiving, process.sentinel]):
            kind, values = receiving.recv()
            if kind == "error":
                (message,) = values
            else:
                observer(Event(bundle, kind, values))
    except EOFError:
        pass
    code = exit_code(process)
    log = store.log(missing[0])
    if code == 0:
        return
    assert process.pid is not None  # it was started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    what = missing[0].describe()
    if message:
        raise (StageError if code == USER_ERROR else StageDiedError)(f"{what}: {message}")
    if code == -signal.SIGKILL:
        raise StageDiedError(f"{what} was killed, most likely because memory ran out; what it printed is in {log}")
    if code == -signal.SIGXCPU:
        raise StageDiedError(f"{what} was ended by the limit on processor time (ulimit -t): raise it")
    raise StageDiedError(f"{what} died with exit code {code}; what it printed is in {log}")


def start(target: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """A child that runs target, from any thread."""
    process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
    with _exit_codes:
        process.start()
        assert process.pid is not None
        _running.add(process.pid)
    return process


def kill_children() -> None:
    """Ends all at once, with what they had started."""
    for pid in [*_running]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def exit_code(process: BaseProcess) -> int | None:
    """That of a child that `start` has started, once it has ended."""
    wait([process.sentinel])
    with _exit_codes:
        process.join()
        _running.discard(process.pid or 0)
    return process.exitcode


def _child(order: _Order, connection: Connection) -> None:
    """In the child: runs the stage, writes outputs and provenance, and reports."""
    # A group of its own: what the stage starts ends with it, and Ctrl-C is the caller's to answer.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ[VISIBLE] = ",".join(order.gpus)
    threading.Thread(target=_die_with_parent, args=(connection,), daemon=True).start()
    store = Store(order.store)
    log = store.log(order.bundle[0])
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError as error:
        _fail(connection, f"{error.filename}: {error.strerror}")
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        _run_stage(store, order, connection)
    except (UserError, DataFileError) as error:
        _fail(connection, str(error))
    except Exception as error:
        with contextlib.suppress(OSError):  # no room for the log either
            traceback.print_exc()
        if no_space(error):
            _fail(connection, f"no space left on the device of {store.root}: free some, or give --store DIR")
        _fail(connection, f"{causes(error)} (its traceback, and what it printed, is in {log})", code=1)


def _die_with_parent(connection: Connection) -> None:
    """An orphan must not go on computing beside the next run."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os.killpg(0, signal.SIGKILL)


def _tell(connection: Connection, kind: str, *values: Any) -> None:
    connection.send((kind, values))


def _fail(connection: Connection, line: str, code: int = USER_ERROR) -> NoReturn:
    _tell(connection, "error", line)
    sys.exit(code)


def _run_stage(store: Store, order: _Order, connection: Connection) -> None:
    import torch

    from experiments.jobs.stage import Task

    if order.gpus and not torch.cuda.is_available():
        raise UserError(
            f"it was given the GPUs {os.environ[VISIBLE]}, and PyTorch {torch.__version__} sees none: where that is a "
            "build for CPUs, remove .venv and set it up again on a machine with an NVIDIA driver"
        )
    torch.set_num_threads(order.threads)
    first, started = order.bundle[0], time.time()
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(store.writing(job)) for job in order.bundle]
        inputs = {slot: store.directory(job) for slot, job in first.inputs.items()}
        task = Task(
            [job.config for job in order.bundle],
            inputs,
            first.paths,
            outputs,
            order.threads,
            progress=partial(_tell, connection, "advanced"),
            log=partial(_tell, connection, "logged"),
            say=partial(_tell, connection, "told"),
            scratch=store.scratch(first),
            checkpoint_minutes=order.checkpoint_minutes,
        )
        measured = first.stage.run(task)
        for job, output in zip(order.bundle, outputs, strict=True):
            store.commit(job, output, _provenance(job, measured, started, order))


def _provenance(job: Job, measured: dict[str, Any], started: float, order: _Order) -> dict[str, Any]:
    import torch

    from evals.speed.machine_limits import cpu_name

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
        "git": git_state(Path(__file__).parent),
        "packages": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        "hardware": {
            "machine": platform.machine(),
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": order.threads,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
        },
    }


def git_state(folder: Path) -> dict[str, Any]:
    """The commit of the work tree that a folder is in, and whether tracked files differ from it.

    Tables and figures in the folders under results/ don't count: a run itself writes them, and no stage reads them.
    """

    def git(*arguments: str) -> str:
        try:
            result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        except OSError:  # no git here
            return ""
        return result.stdout.strip()

    written = (f":(top,exclude,glob)results/*/**/*.{kind}" for kind in ("csv", "md", "json", "png", "pdf", "html"))
    changed = git("status", "--porcelain", "-uno", "--", ":/", *written)
    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(changed)}
