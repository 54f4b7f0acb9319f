"""Judging programs: the candidate in one process, its tests in another, the verdict from the second one alone."""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO

from evals.execution.inside.plain_data import decode, encode
from evals.execution.isolation import IsolationError, Limits, command

_LARGEST_VERDICT = 4096
_START_SECONDS = 5.0


@dataclass(frozen=True)
class Checks:
    """A problem's tests: Python source that calls the entry point, after `setup` has made the other names it uses."""

    setup: str
    entry_point: str
    source: str


class UnusableTestsError(ValueError):
    """A problem's tests can't be run, or never call the program; `index` is the program's place."""

    def __init__(self, index: int, detail: str) -> None:
        super().__init__(f"its tests can't be used: {detail}")
        self.index = index


@dataclass(frozen=True)
class Outcome:
    """What became of a program. `detail` says why it did not pass; `unusable` that its tests are to blame."""

    passed: bool
    detail: str = ""
    unusable: bool = False


def run_programs(
    programs: Sequence[tuple[str, Checks]],
    *,
    isolated: bool = True,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Outcome]:
    """Judges (source, tests) pairs in parallel, in their order.

    `workers` at a time, one a core unless given; `progress` is called with the number done and in all.
    Raises IsolationError, before any program has run, where programs can't be isolated and `isolated` is wanted, and
    UnusableTestsError.
    """
    limits = limits or Limits()
    if isolated:
        check_isolation()
    workers = workers or len(os.sched_getaffinity(0))
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(workers):
        slots.put(slot)

    def judged(program: str, tests: Checks) -> Outcome:
        slot = slots.get()
        try:
            return _judge(program, tests, slot, limits, isolated)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(judged, *program): index for index, program in enumerate(programs)}
        outcomes: dict[int, Outcome] = {}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                index, outcome = waiting[future], future.result()
                if outcome.unusable:
                    raise UnusableTestsError(index, outcome.detail)
                outcomes[index] = outcome
                progress(done, len(programs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [outcomes[index] for index in range(len(programs))]


def check_isolation() -> None:
    """Raises IsolationError unless a trivial program runs, isolated, to its verdict."""
    trial = Checks("", "one", "assert one() == 1")
    outcome = _judge("def one(): return 1", trial, 0, Limits(), isolated=True)
    if not outcome.passed:
        raise IsolationError(f"bubblewrap can't isolate programs on this machine: {outcome.detail}")


def _judge(program: str, tests: Checks, slot: int, limits: Limits, isolated: bool) -> Outcome:
    problem = encode((tests.setup, tests.entry_point, tests.source))
    source = program.encode("utf-8", "surrogatepass")
    verdict_read, verdict_write = os.pipe()
    with (
        ExitStack() as stack,
        open(verdict_read, "rb", buffering=0) as verdict,
        open(os.memfd_create("errors"), "w+b") as errors,
    ):
        # Open here until both processes have them; an end that stays open would never be seen closed.
        with open(verdict_write, "wb", buffering=0), ExitStack() as sockets:
            ends = [sockets.enter_context(end) for end in socket.socketpair()]
            for role, given, end in (("candidate", source, ends[0]), ("checker", problem, ends[1])):
                descriptors = (end.fileno(), verdict_write) if role == "checker" else (end.fileno(),)
                arguments = command(role, slot, *descriptors, limits=limits, isolated=isolated)
                stack.enter_context(_process(arguments, given, descriptors, errors if role == "checker" else None))
        verdict_text = _read(verdict, limits.seconds + _START_SECONDS)
        stack.close()
        if verdict_text is None:
            return Outcome(False, "out of time")
        if not verdict_text:
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            return Outcome(False, last[0] if last else "the tests were stopped: out of time or memory")
    outcome, detail = decode(verdict_text)
    return Outcome(outcome == "passed", detail, outcome == "bad tests")


def _read(verdict: IO[bytes], seconds: float) -> bytes | None:
    """What comes through the pipe up to its end; None if that does not come in time."""
    text, deadline = b"", time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(verdict, selectors.EVENT_READ)
        while len(text) < _LARGEST_VERDICT:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            piece = os.read(verdict.fileno(), _LARGEST_VERDICT)
            if not piece:
                break
            text += piece
    return text


@contextmanager
def _process(
    arguments: Sequence[str], given: bytes, descriptors: Sequence[int], errors: IO[bytes] | None
) -> Iterator[None]:
    """A process that reads what is given and inherits descriptors; killed, with all that it started, on the way out."""
    # A file in memory, so that nobody has to feed a pipe while the process runs.
    with open(os.memfd_create("input"), "w+b") as source:
        source.write(given)
        source.seek(0)
        process = subprocess.Popen(
            arguments,
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=errors or subprocess.DEVNULL,
            pass_fds=descriptors,
            env={},
            start_new_session=True,
        )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
