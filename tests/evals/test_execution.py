"""Programs run isolated, and only a right answer passes (test_hostile_programs.py: whatever they try)."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evals.execution.inside.plain_data import ClosedError, Opaque, decode, encode
from evals.execution.isolation import Limits
from evals.execution.programs import Checks, Outcome, UnusableTestsError, run_programs

pytestmark = pytest.mark.usefixtures("isolation")

ROOT = Path(__file__).parents[2]
# The right answer is one that no program can guess: the tests hold it, the program never sees them.
SECRET = Checks("import random\n_n = random.SystemRandom().getrandbits(64)", "f", "assert f(_n) == _n * 3 + 1")
QUICK = Limits(cpu_seconds=3, memory_bytes=256 << 20, disk_bytes=4 << 20)


def judge(*programs: str, tests: Checks = SECRET, **options: object) -> list[Outcome]:
    return run_programs([(program, tests) for program in programs], limits=QUICK, **options)  # type: ignore[arg-type]


def test_a_right_program_passes_and_a_wrong_one_does_not() -> None:
    right, wrong, absent, broken, empty = judge(
        "def f(n): return 3 * n + 1", "def f(n): return 3 * n", "def g(n): return 3 * n + 1", "def f(n) return", ""
    )
    assert right == Outcome(True)
    assert (wrong.passed, wrong.detail) == (False, "a wrong answer")
    assert (absent.passed, absent.detail) == (False, "AttributeError")
    assert (broken.passed, broken.detail) == (False, "the program can't be loaded: SyntaxError")
    assert not empty.passed


def test_nothing_of_the_machine_can_be_read_or_written(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    home = Path.home()
    places = [secret, home / ".ssh", home / ".bashrc", Path("/etc/passwd"), Path("/etc/hostname"), Path(__file__)]
    program = (
        f"import os\ndef f(n):\n    seen = [p for p in {[str(p) for p in places]!r} if os.path.exists(p)]\n"
        f"    assert not seen and not os.environ.get('HOME') and not os.environ.get('PATH'), seen\n    return 3 * n + 1"
    )
    assert judge(program) == [Outcome(True)]
    writes = (
        "import os\ndef f(n):\n    for folder in ('/', '/usr', '/dev', '/dev/shm', '/harness', '/harness/inside'):\n"
        "        try:\n            open(folder + '/written', 'w')\n        except OSError:\n            continue\n"
        "        return folder\n    open('/tmp/written', 'w').write('x')\n    return 3 * n + 1"
    )
    assert judge(writes) == [Outcome(True)]
    assert not Path("/tmp/written").exists()


def test_programs_do_not_see_each_other() -> None:
    program = "import os\nseen = os.listdir('/tmp')\nopen('/tmp/here', 'w').close()\n"
    program += "def f(n): return 3 * n + 1 if not seen else 0"
    assert all(outcome.passed for outcome in judge(*[program] * 6))


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**200, -(2**63), 1.5, float("inf"), "text\u2028\ud800", b"\x00\xff", 1 + 2j, range(2, 9, 3),
        [1, (2, [3]), {4, 5}, frozenset({6})], {"a": 1, (1, 2): {3: None}}, [], (), set(), {},
    ],
)  # fmt: skip
def test_plain_data_arrives_as_it_was(value: object) -> None:
    arrived = decode(encode(value))
    assert arrived == value and type(arrived) is type(value)
    program = "def f(x): return x"
    tests = Checks(f"value = {value!r}".replace("inf", "float('inf')"), "f", "assert f(value) == value")
    assert judge(program, tests=tests) == [Outcome(True)]


def test_what_subclasses_add_stays_behind() -> None:
    class Loud(list[int]):
        def __iter__(self) -> Iterator[int]:
            return iter([9])

        def __eq__(self, other: object) -> bool:
            return True

    assert decode(encode(Loud([1, 2]))) == [1, 2]
    assert list(decode(encode(iter([1, 2])))) == [1, 2]
    assert isinstance(decode(encode(object())), Opaque) and decode(encode(object())) != decode(encode(object()))


@pytest.mark.parametrize(
    "message",
    [b"", b"x", b"i", b"iz;", b"s9:abc", b"l2:N", b"NN", b"c1:N", b"S1:l0:", b"l-1", b"d1:N", b"l99999999999:", b"f;"],
)
def test_what_encode_cannot_have_written_is_refused(message: bytes) -> None:
    with pytest.raises(ClosedError):
        decode(message)


def test_exceptions_cross_by_name() -> None:
    tests = Checks("", "f", "try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    raise AssertionError")
    assert judge("def f(n): return 1 / n", tests=tests) == [Outcome(True)]
    assert not judge("class ZeroDivisionError(Exception): pass\ndef f(n): return 1", tests=tests)[0].passed


@pytest.mark.parametrize("source", ["assert True", "1 = 2"])
def test_tests_that_test_nothing_are_an_error(source: str) -> None:
    with pytest.raises(UnusableTestsError, match="can't be used"):
        judge("def f(n): return 1", tests=Checks("", "f", source))
    with pytest.raises(UnusableTestsError):
        judge("def f(n): return 1", tests=Checks("import no_such_module", "f", "assert f(1) == 1"))


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "os.closerange(3, 64)"])
@pytest.mark.parametrize("swallowed", ["Exception", "BaseException"])
def test_a_program_that_ends_itself_fails_whatever_its_tests_swallow(end: str, swallowed: str) -> None:
    """And the tests aren't blamed for it, which would end the run."""
    tests = Checks("", "f", f"for n in range(2):\n    try: f(n)\n    except {swallowed}: pass")
    ended, raising = judge(f"import os, sys\ndef f(n): {end}", "def f(n): return 1 // 0", tests=tests)
    assert not ended.passed and raising.passed


def test_outcomes_keep_the_order_of_the_programs_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    programs = [
        f"import time\ntime.sleep({0.2 if i % 3 == 0 else 0})\ndef f(n): return 3 * n + {i % 2}" for i in range(8)
    ]
    outcomes = judge(*programs, progress=lambda done, total: told.append((done, total)))
    assert [outcome.passed for outcome in outcomes] == [i % 2 == 1 for i in range(8)]
    assert told == [(i, 8) for i in range(1, 9)]


def test_the_supervisor_can_be_stopped() -> None:
    """A run that is killed takes its programs with it."""
    memory = (256 << 20) + os.getpid()  # stands in the command line of these processes alone
    script = (
        "from evals.execution.programs import *\n"
        "program = 'while True: pass', Checks('', 'f', 'assert f(1) == 1')\n"
        f"run_programs([program], limits=Limits(cpu_seconds=60, memory_bytes={memory}))"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    # The program's own process: bubblewrap, until it has started that, may not know yet whom it dies with.
    _wait_until(lambda: any("candidate" in line and "bwrap" not in line for line in _command_lines(memory)))
    run.kill()
    run.wait()
    _wait_until(lambda: not _command_lines(memory))


def _command_lines(memory: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().decode(errors="replace")
            if "inside.main" in line and str(memory) in line and f"memory_bytes={memory}" not in line:
                found.append(line)
    return found


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("half a minute has passed")
