"""The process of a stage: what it started ends with it, and it says which code it ran."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.jobs.job import Job
from experiments.jobs.stage import Stage
from experiments.jobs.store import Store
from experiments.running.children import StageError, exit_code, git_state, run_bundle, start, start_server
from experiments.settings import Settings

FORKING = """
import os, signal, time

def run(task):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    with open(task.paths["child"], "w") as file:
        file.write(str(child))
    os.kill(os.getpid(), signal.SIGKILL)
"""


BREAKING = """
def run(task):
    try:
        raise ImportError("nothing to\\nread it with")
    except ImportError as error:
        raise KeyError("tokenizer") from error
"""
LOCKING = """
import multiprocessing, os, signal

def run(task):
    lock = multiprocessing.get_context("spawn").RLock()
    os.kill(os.getpid(), signal.SIGKILL)
"""
CALLING = """
import sys
from pathlib import Path
from experiments.running.children import PRELOADED_ALONE, StageError, run_bundle, start_server
from experiments.jobs.job import Job
from experiments.settings import Settings
from experiments.jobs.stage import Stage
from experiments.jobs.store import Store

sys.path.insert(0, sys.argv[1])
start_server(PRELOADED_ALONE)
try:
    job = Job(Stage("locking", 1, Settings, "locking_stage:run", ()), Settings())
    run_bundle(Store(Path(sys.argv[1]) / "store"), [job], 1, print)
except StageError as error:
    print(error)
"""


def test_the_locks_of_a_killed_stage_are_removed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "locking_stage.py").write_text(LOCKING)
    ended = subprocess.run([sys.executable, "-c", CALLING, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("locking was killed") and ended.stderr == ""


INTERRUPTED = """
import sys, time
from experiments.running.children import start_server
try:
    start_server()
    time.sleep(0.7)  # by then it imports
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    print("interrupted")
"""


def test_ctrl_c_while_the_server_imports_is_the_callers_alone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "started\n"
        os.killpg(caller.pid, signal.SIGINT)
        assert caller.communicate(timeout=60) == ("interrupted\n", "")


def test_a_killed_stage_takes_with_it_what_it_had_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork of the stage, as a training's processes are, holds the pipe to the caller open as well."""
    (tmp_path / "forking_stage.py").write_text(FORKING)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    child = tmp_path / "child"
    job = Job(Stage("forking", 1, Settings, "forking_stage:run", ()), Settings(), paths={"child": str(child)})
    start_server()
    with pytest.raises(StageError, match="forking was killed, most likely because memory ran out"):
        run_bundle(Store(tmp_path / "store"), [job], 1, print)
    until = time.monotonic() + 5
    while alive(int(child.read_text())) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(int(child.read_text()))


def test_what_nobody_foresaw_is_one_line_with_its_cause_and_its_traceback_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking_stage.py").write_text(BREAKING)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    store, job = Store(tmp_path / "store"), Job(Stage("breaking", 1, Settings, "breaking_stage:run", ()), Settings())
    start_server()
    with pytest.raises(StageError) as failed:
        run_bundle(store, [job], 1, print)
    log = store.log(job)
    assert str(failed.value) == (
        "breaking: KeyError: 'tokenizer', because of ImportError: nothing to read it with "
        f"(its traceback, and what it printed, is in {log})"
    )
    assert "The above exception was the direct cause of the following exception" in log.read_text()


def test_exit_codes_are_right_whatever_threads_start_children_meanwhile() -> None:
    """multiprocessing alone gives 255 for one in eight of these."""

    def codes(code: int) -> set[int | None]:
        return {exit_code(start(os._exit, code)) for _ in range(100)}

    start_server()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(codes, range(4))) == [{0}, {1}, {2}, {3}]


def alive(pid: int) -> bool:
    """A process that nobody has waited for yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_tables_that_a_run_writes_are_no_changes_of_its_code(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": False}
    code, deeper = tmp_path / "experiments" / "jobs.py", tmp_path / "results" / "x" / "y.py"
    tables = [tmp_path / "results" / name for name in ("tiny/table6.csv", "reference/tiny/table6.json")]
    for file in (code, deeper, *tables):
        file.parent.mkdir(parents=True)
        file.write_text("before")
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    for order in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *order], check=True)
    for table in tables:
        table.write_text("after")
    clean = git_state(code.parent)
    assert clean["commit"] and not clean["dirty"]
    for file in (code, deeper):
        file.write_text("after")
        assert git_state(code.parent) == {"commit": clean["commit"], "dirty": True}
        file.write_text("before")
