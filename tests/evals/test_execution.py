"""Programs run isolated, and only a right answer passes."""

# ruff: noqa: E501

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.execution.inside.plain_data import ClosedError, Opaque, decode, encode
from evals.execution.isolation import IsolationError, Limits, command
from evals.execution.programs import Checks, Outcome, UnusableTestsError, check_isolation, run_programs

# The right answer is one that no program can guess: the tests hold it, the program never sees them.
SECRET = Checks("import random\n_n = random.SystemRandom().getrandbits(64)", "f", "assert f(_n) == _n * 3 + 1")
QUICK = Limits(seconds=3, memory_bytes=256 << 20, disk_bytes=4 << 20)


@pytest.fixture(scope="module", autouse=True)
def _isolation() -> None:
    try:
        check_isolation()
    except IsolationError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


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


HOSTILE = {
    # ends in time
    "endless loop": "def f(n):\n    while True: pass",
    "endless loop while loading": "while True: pass",
    "sleep": "import time\ndef f(n):\n    time.sleep(1000)",
    "ignored signals": (
        "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef f(n):\n    while True: pass"
    ),
    "endless generator": "def f(n):\n    while True: yield n",
    "endless recursion": "def f(n): return f(n)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)",
    "deep nesting": "def f(n):\n    x = []\n    for _ in range(10**6): x = [x]\n    return x",
    "cyclic answer": "def f(n):\n    x = []\n    x.append(x)\n    return x",
    "catastrophic pattern": "import re\ndef f(n): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "huge number": "def f(n): return 10 ** 10 ** 8",
    # takes too much
    "memory hog": "def f(n):\n    return [bytearray(1 << 20) for _ in range(10**6)]",
    "memory hog while loading": "x = bytearray(1 << 40)",
    "disk hog": "def f(n):\n    with open('/tmp/x', 'wb') as o:\n        while True: o.write(bytes(1 << 20))",
    "many files": (
        "def f(n):\n    for i in range(10**6):\n        with open(f'/tmp/{i}', 'wb') as o: o.write(bytes(1 << 16))"
    ),
    "open files": "def f(n): return len([open('/dev/null') for _ in range(10**5)])",
    "huge answer": "def f(n): return 'x' * (100 << 20)",
    "huge output": "def f(n):\n    while True: print('x' * (1 << 20))",
    "huge error output": "import sys\ndef f(n):\n    while True: sys.stderr.write('x' * (1 << 20))",
    # starts others
    "fork bomb": "import os\ndef f(n):\n    while True: os.fork()",
    "fork bomb while loading": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "threads": "import threading\ndef f(n):\n    for _ in range(10**4): threading.Thread(target=lambda: f(n)).start()",
    "subprocess": "import subprocess\ndef f(n): return subprocess.run(['/bin/sleep', '100'])",
    "shell": "import os\ndef f(n): return os.system('sleep 100 &')",
    "orphan": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\ndef f(n): return 3 * n + 1",
    "new program": "import os\ndef f(n): os.execv('/bin/sleep', ['sleep', '1000'])",
    # reaches out
    "network": "import socket\ndef f(n): return socket.create_connection(('127.0.0.1', 22), 2)",
    "name look-up": "import socket\ndef f(n): return socket.gethostbyname('localhost.localdomain')",
    "signal to the parent": "import os, signal\ndef f(n):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return n",
    "signal to everyone": "import os, signal\ndef f(n):\n    os.kill(-1, signal.SIGKILL)\n    return n",
    "privileges": "import os\ndef f(n):\n    os.setuid(0)\n    return n",
    "mounts": "import ctypes\ndef f(n):\n    assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, b'') == 0",
    # forges a verdict
    "prints a verdict": "print('t2:s6:passeds0:', flush=True)\nprint('passed')\ndef f(n): return 0",
    "writes to every descriptor": (
        "import os\nfor d in range(256):\n"
        "    try: os.write(d, b't2:s6:passeds0:')\n    except OSError: pass\n"
        "def f(n): return 0"
    ),
    "forged messages": (
        "import os\nfrom inside.plain_data import encode\nm = encode(('returned', True))\nfor d in range(3, 64):\n"
        "    for _ in range(9):\n        try: os.write(d, len(m).to_bytes(4, 'big') + m)\n        except OSError: break\n"
        "def f(n): return True"
    ),
    "early exit": "import os\nos._exit(0)",
    "early exit by exception": "raise SystemExit(0)",
    "exit in the call": "import os\ndef f(n): os._exit(0)",
    "exit at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(n): return 0",
    "equal to everything": (
        "class E:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __hash__(self): return 0\ndef f(n): return E()"
    ),
    "an integer equal to everything": (
        "class E(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(n): return E(0)"
    ),
    "patched equality of integers": (
        "import builtins\nclass int(int):\n    def __eq__(self, other): return True\nbuiltins.int = int\n"
        "def f(n): return int(0)"
    ),
    "patched assert": "import builtins\nbuiltins.AssertionError = type('A', (BaseException,), {})\ndef f(n): return 0",
    "raises nothing wrong": "def f(n): raise SystemExit(0)",
    "raises a stop": "def f(n): raise StopIteration",
    "patched codec": (
        "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'encode'):\n        m.encode = lambda v: b'T'\n"
        "def f(n): return 0"
    ),
    "opaque message": "import inside.plain_data as p\np.encode = lambda v: b'o1:x'\ndef f(n): return 0",
    "hunts for the tests": (
        "import gc, sys\ndef f(n):\n    for o in gc.get_objects():\n"
        "        if isinstance(o, dict) and '_n' in o: return o['_n'] * 3 + 1\n"
        "    frame = sys._getframe()\n    while frame:\n        if '_n' in frame.f_globals: return frame.f_globals['_n']\n"
        "        frame = frame.f_back\n    return 0"
    ),
    "reads other processes": (
        "import os\ndef f(n):\n    for p in os.listdir('/proc'):\n        open(f'/proc/{p}/environ').read()\n    return n"
    ),
    "replaces the harness": "open('/harness/inside/checker.py', 'w').write('')\ndef f(n): return 0",
    "replaces the library": "open('/usr/lib/os.py', 'w').write('')\ndef f(n): return 0",
}


def _children() -> set[str]:
    own = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if "PPid:\t1\n" in status.read_text() or f"PPid:\t{os.getpid()}\n" in status.read_text():
                own.add(f"{status.parent.name} {(status.parent / 'cmdline').read_bytes()!r}")
        except OSError:
            pass
    return own


@pytest.fixture(scope="module")
def hostile_outcomes() -> Iterator[dict[str, Outcome]]:
    """All of them at once, as in a real run, with what they left behind looked at afterwards."""
    before, listing, started = _children(), sorted(os.listdir("/tmp")), time.monotonic()
    outcomes = judge(*HOSTILE.values(), cores=2)
    taken = time.monotonic() - started
    # eight seconds each at worst (three of their own and five to start), four at a time
    assert taken < 9 * len(HOSTILE) / 4
    left = {child for child in _children() - before if "sleep" in child or "inside.main" in child}
    assert not left
    assert sorted(name for name in os.listdir("/tmp") if name.isdigit() or name == "x") == [
        name for name in listing if name.isdigit() or name == "x"
    ]
    yield dict(zip(HOSTILE, outcomes, strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_never_passes(hostile_outcomes: dict[str, Outcome], name: str) -> None:
    assert not hostile_outcomes[name].passed


def test_there_are_forty_of_them_at_least() -> None:
    assert len(HOSTILE) >= 40


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
    program = "import os\nseen = os.listdir('/tmp')\nopen('/tmp/here', 'w').close()\ndef f(n): return 3 * n + 1 if not seen else 0"
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


def test_outcomes_keep_the_order_of_the_programs_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    programs = [
        f"import time\ntime.sleep({0.2 if i % 3 == 0 else 0})\ndef f(n): return 3 * n + {i % 2}" for i in range(8)
    ]
    outcomes = judge(*programs, progress=lambda done, total: told.append((done, total)))
    assert [outcome.passed for outcome in outcomes] == [i % 2 == 1 for i in range(8)]
    assert told == [(i, 8) for i in range(1, 9)]


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from evals.execution import isolation

    isolation._bubblewrap.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    ran = tmp_path / "ran"
    try:
        with pytest.raises(IsolationError, match="apt-get install bubblewrap"):
            judge(f"open({str(ran)!r}, 'w')")
        assert not ran.exists()
        # the user gave isolation up: the same verdicts, from plain processes
        right, wrong = judge("def f(n): return 3 * n + 1", "def f(n): return 0", isolated=False)
        assert right.passed and not wrong.passed
    finally:
        isolation._bubblewrap.cache_clear()


def test_a_user_without_privileges_isolates_too() -> None:
    """The argument list of a plain user: a user namespace, all capabilities dropped."""
    from evals.execution import isolation

    isolation._bubblewrap.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        arguments = command("candidate", 0, 3, limits=QUICK, isolated=True)
    isolation._bubblewrap.cache_clear()
    assert "--unshare-user" in arguments and "--cap-add" not in arguments
    assert {"--unshare-net", "--unshare-pid", "--unshare-ipc", "--clearenv", "--die-with-parent"} <= set(arguments)


def test_the_supervisor_can_be_stopped() -> None:
    """Ctrl-C in a run ends the programs with it."""
    import subprocess
    import sys

    script = (
        "from evals.execution.programs import *\n"
        "run_programs([('while True: pass', Checks('', 'f', 'assert f(1) == 1'))] * 2, limits=Limits(seconds=30))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)
    assert not [child for child in _children() if "inside.main" in child]
