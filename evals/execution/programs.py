"""Judging programs: the candidate in one process, its tests in another, the verdict from the second one alone."""

import os
import platform
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from textwrap import shorten
from typing import IO

from evals.execution.inside.plain_data import LENGTH_BYTES, decode, encode
from evals.execution.isolation import IsolationError, Limits, bubblewraps, command, own_session_keyring
from evals.execution.system_calls import call_filter
from evals.execution.watch import INTERVAL_SECONDS, Watch

_LARGEST_VERDICT = 1 << 16
_DESCRIPTORS = 12  # that a bench has open at most


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
    bubblewrap = check_isolation() if isolated else None
    benches_open = min(2 * (cores or len(os.sched_getaffinity(0))), _benches_possible())
    free: SimpleQueue[_Bench] = SimpleQueue()

    def judged(program: str, tests: Checks) -> Outcome:
        bench = free.get()
        try:
            return bench.judge(program, tests)
        finally:
            free.put(bench)

    with ExitStack() as benches, _starters(benches_open, isolated) as pool:
        for slot in range(benches_open):
            bench = _Bench(slot, limits, bubblewrap)
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
            pool.shutdown(wait=False, cancel_futures=True)
            benches.close()  # ends what runs, which would be waited for
            raise
    return [outcomes[index] for index in range(len(programs))]


def check_isolation() -> str:
    """The executable of bubblewrap that isolates programs here.

    Raises IsolationError unless a trivial program runs to its verdict, and one that makes too many files is ended.
    """
    reasons: list[str] = []
    with _starters(1, isolated=True) as pool:
        for bubblewrap in bubblewraps():
            reasons.append(pool.submit(_wrong_with, bubblewrap).result())
            if not reasons[-1]:
                return bubblewrap
    raise IsolationError(f"bubblewrap can't isolate programs on this machine: {reasons[0]}")


@cache
def _wrong_with(bubblewrap: str) -> str:
    """Why it can't isolate programs, empty if it can."""
    checks = Checks("", "one", "assert one() == 1")
    bench = _Bench(0, Limits(files=100), bubblewrap)
    try:
        plain = bench.judge("def one(): return 1", checks)
        if not plain.passed:
            return plain.detail
        many = "import time\nfor i in range(200): open(f'/tmp/{i}', 'w').close()\ntime.sleep(2)\n"
        return "what they take can't be watched" if bench.judge(many + "def one(): return 1", checks).passed else ""
    finally:
        bench.close()


def _starters(count: int, isolated: bool) -> ThreadPoolExecutor:
    """Threads that start programs, each with a session keyring of its own for them."""
    return ThreadPoolExecutor(count, initializer=own_session_keyring if isolated else None)


def _benches_possible() -> int:
    """As many as the limit on open files has room for, and one in any case."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (most - len(os.listdir("/proc/self/fd"))) // _DESCRIPTORS)


class _Bench:
    """A checker that lives on from problem to problem, and one candidate at a time, in a process of its own."""

    def __init__(self, slot: int, limits: Limits, bubblewrap: str | None) -> None:
        self._slot, self._limits, self._bubblewrap = slot, limits, bubblewrap
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
                information = stack.enter_context(_memory_file())
                source = stack.enter_context(_memory_file(program.encode("utf-8", "surrogatepass")))
                self._process(stack, "candidate", theirs.fileno(), given=source, information=information)
                self._send(problem, ours)
            watch = Watch(information.fileno(), self._limits)
            stack.callback(watch.close)
            verdict = self._receive(watch)
        if isinstance(verdict, str):
            self.close()
            return Outcome(False, verdict)
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
            self._errors = stack.enter_context(_memory_file())
            self._process(stack, "checker", theirs.fileno(), errors=self._errors)
            theirs.close()
            self._checker = stack.pop_all()

    def _process(
        self,
        stack: ExitStack,
        role: str,
        channel: int,
        given: IO[bytes] | None = None,
        errors: IO[bytes] | None = None,
        information: IO[bytes] | None = None,
    ) -> None:
        """Starts a process that reads what is given and inherits the channel; `stack` ends it with all that it started.

        bubblewrap writes who its child is to `information`.
        """
        inherited, bubblewrap = [channel], None
        if self._bubblewrap:
            filtered = stack.enter_context(_memory_file(call_filter(platform.machine())))
            inherited.append(filtered.fileno())
            bubblewrap = [self._bubblewrap, "--seccomp", str(filtered.fileno())]
            if information:
                inherited.append(information.fileno())
                bubblewrap += ["--info-fd", str(information.fileno())]
        process = subprocess.Popen(
            command(role, self._slot, channel, limits=self._limits, bubblewrap=bubblewrap),
            stdin=given or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors or subprocess.DEVNULL,
            pass_fds=inherited,
            env={},
            start_new_session=True,
        )
        stack.callback(_end, process)

    def _send(self, problem: bytes, candidate: socket.socket) -> None:
        self._control.settimeout(self._limits.wall_seconds)
        with suppress(OSError):  # a checker that has died is noticed when it does not answer
            socket.send_fds(self._control, [len(problem).to_bytes(LENGTH_BYTES, "big")], [candidate.fileno()])
            self._control.sendall(problem)

    def _receive(self, watch: Watch) -> bytes | str:
        """The checker's verdict, or why there is none: it has died, what it judges took too much, or the time is up."""
        deadline = time.monotonic() + self._limits.wall_seconds
        data = b""
        while len(data) < LENGTH_BYTES or len(data) < LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big"):
            left = deadline - time.monotonic()
            if left <= 0:
                return "out of time"
            self._control.settimeout(min(left, INTERVAL_SECONDS))
            try:
                piece = self._control.recv(1 << 16)
            except TimeoutError:
                if found := watch.excess():
                    return found
                continue
            except OSError:
                piece = b""
            if not piece or len(data) > _LARGEST_VERDICT:
                return self._last_error() or "the process of the tests ended"
            data += piece
        return data[LENGTH_BYTES:]

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@contextmanager
def _memory_file(content: bytes = b"") -> Iterator[IO[bytes]]:
    """A file in memory at its beginning, so that nobody has to feed or empty a pipe while a process runs."""
    with open(os.memfd_create("sandbox"), "w+b", buffering=0) as file:
        file.write(content)
        file.seek(0)
        yield file


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
