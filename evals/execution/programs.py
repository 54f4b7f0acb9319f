"""Judging programs: the candidate in one process, its tests in another, the verdict from the second one alone."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from textwrap import shorten
from typing import IO

from evals.execution.inside.plain_data import LENGTH_BYTES, decode, encode
from evals.execution.isolation import IsolationError, Limits, command

_LARGEST_VERDICT = 1 << 16
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
        # the words may be those of the tests
        super().__init__(f"its tests can't be used: {shorten(detail, 300)}")
        self.index, self.detail = index, detail


@dataclass(frozen=True)
class Outcome:
    """What became of a program. `detail` says why it did not pass; `unusable` that its tests are to blame.

    `refuted`: its tests ended in an error, by a wrong answer or otherwise, and not with the program's end.
    """

    passed: bool
    detail: str = ""
    unusable: bool = False
    refuted: bool = False


def run_programs(
    programs: Sequence[tuple[str, Checks]],
    *,
    isolated: bool = True,
    cores: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    refuse_unusable: bool = True,
) -> list[Outcome]:
    """Judges (source, tests) pairs in parallel, in their order.

    Two at a time for each of `cores` (all, unless given), as much of a program's time goes into waiting for the kernel
    to make and clear its namespaces; `progress` is called with the number done and in all.
    Raises IsolationError, before any program has run, where programs can't be isolated and `isolated` is wanted, and
    UnusableTestsError unless an outcome may say so.
    """
    limits = limits or Limits()
    if isolated:
        check_isolation()
    benches_open = 2 * (cores or len(os.sched_getaffinity(0)))
    free: SimpleQueue[_Bench] = SimpleQueue()

    def judged(program: str, tests: Checks) -> Outcome:
        bench = free.get()
        try:
            return bench.judge(program, tests)
        finally:
            free.put(bench)

    with ExitStack() as benches, ThreadPoolExecutor(benches_open) as pool:
        for slot in range(benches_open):
            bench = _Bench(slot, limits, isolated)
            benches.callback(bench.close)
            free.put(bench)
        waiting = {pool.submit(judged, *program): index for index, program in enumerate(programs)}
        outcomes: dict[int, Outcome] = {}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                index, outcome = waiting[future], future.result()
                if outcome.unusable and refuse_unusable:
                    raise UnusableTestsError(index, outcome.detail)
                outcomes[index] = outcome
                progress(done, len(programs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [outcomes[index] for index in range(len(programs))]


def check_isolation() -> None:
    """Raises IsolationError unless a trivial program runs, isolated, to its verdict."""
    bench = _Bench(0, Limits(), isolated=True)
    try:
        outcome = bench.judge("def one(): return 1", Checks("", "one", "assert one() == 1"))
    finally:
        bench.close()
    if not outcome.passed:
        raise IsolationError(f"bubblewrap can't isolate programs on this machine: {outcome.detail}")


class _Bench:
    """A checker that lives on from problem to problem, and one candidate at a time, in a process of its own."""

    def __init__(self, slot: int, limits: Limits, isolated: bool) -> None:
        self._slot, self._limits, self._isolated = slot, limits, isolated
        self._checker: ExitStack | None = None
        self._control: socket.socket
        self._errors: IO[bytes]

    def judge(self, program: str, tests: Checks) -> Outcome:
        """The outcome of one program."""
        if self._checker is None:
            self._start()
        problem = encode((tests.setup, tests.entry_point, tests.source))
        with ExitStack() as stack:
            ours, theirs = socket.socketpair()
            # An end that stays open here would never be seen closed by the other side.
            with ours, theirs:
                descriptors = (theirs.fileno(),)
                arguments = command("candidate", self._slot, *descriptors, limits=self._limits, isolated=self._isolated)
                source = program.encode("utf-8", "surrogatepass")
                stack.enter_context(_process(arguments, source, descriptors, None))
                self._send(problem, ours)
            verdict = self._receive()
        if verdict is None:
            detail = self._last_error()
            self.close()
            return Outcome(False, detail or "out of time")
        outcome, detail = decode(verdict)
        return Outcome(outcome == "passed", detail, outcome == "bad tests", outcome == "refuted")

    def close(self) -> None:
        """Ends the checker."""
        if self._checker is not None:
            self._checker.close()
            self._checker = None

    def _start(self) -> None:
        with ExitStack() as stack:
            self._control, theirs = (stack.enter_context(end) for end in socket.socketpair())
            self._errors = stack.enter_context(open(os.memfd_create("errors"), "w+b"))
            descriptors = (theirs.fileno(),)
            arguments = command("checker", self._slot, *descriptors, limits=self._limits, isolated=self._isolated)
            stack.enter_context(_process(arguments, b"", descriptors, self._errors))
            theirs.close()
            self._checker = stack.pop_all()

    def _send(self, problem: bytes, candidate: socket.socket) -> None:
        with suppress(OSError):  # a checker that has died is noticed when it does not answer
            socket.send_fds(self._control, [len(problem).to_bytes(LENGTH_BYTES, "big")], [candidate.fileno()])
            self._control.sendall(problem)

    def _receive(self) -> bytes | None:
        """The checker's verdict; None if it has died or doesn't come in time."""
        deadline = time.monotonic() + self._limits.seconds + _START_SECONDS
        data = b""
        while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big"):
            self._control.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._control.recv(1 << 16)
            except OSError:
                return None
            if not piece or len(data) > _LARGEST_VERDICT:
                return None
            data += piece
        return data[LENGTH_BYTES:]

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


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
