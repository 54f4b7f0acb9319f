"""A signal ends a command in one line and its exit code; closed streams and limits on time end in no more than that."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import errors
from experiments.commands import main
from experiments.errors import Interrupted, end_on_signals, interrupt
from experiments.jobs.job import Job
from experiments.jobs.stage import Stage
from experiments.jobs.store import Store
from experiments.running.children import PRELOADED_ALONE, StageError, run_bundle, start_server
from experiments.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = """
import resource

def run(task):
    resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
    while True:
        pass
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_ends_at_once_with_what_it_had_started(tmp_path: Path, number: signal.Signals) -> None:
    store, command = tmp_path / "store", [sys.executable, "-m", "experiments", "table6", "--preset", "smoke"]
    command += ["--store", str(store), "--results", str(tmp_path / "results")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        while run.poll() is None and not list(store.glob("logs/*.log")):  # the first job's
            time.sleep(0.05)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.send_signal(number)
        _, said = run.communicate()
    assert run.returncode == 128 + number
    assert said == "reproduce.sh: interrupted; what is finished is kept, and the same command goes on from there\n"
    until = time.monotonic() + 10
    while any(map(alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert children
    assert not any(map(alive, children))


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_the_caller_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: dict[int, object] = {}
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN if number == signal.SIGHUP else None)
    monkeypatch.setattr(signal, "signal", answered.__setitem__)
    end_on_signals()
    assert set(answered) == {signal.SIGINT, signal.SIGTERM, signal.SIGXCPU}


@pytest.mark.parametrize(("given", "set_to"), [((50, 100), 50), ((100, 100), 98), ((-1, 100), 98), ((1, 2), 1)])
def test_no_limit_on_processor_time_is_raised(
    given: tuple[int, int], set_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    monkeypatch.setattr(resource, "getrlimit", lambda _: given)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    end_on_signals()
    assert asked == [(set_to, given[1])]


def test_a_limit_on_processor_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ulimit -t" in str(Interrupted(signal.SIGXCPU))
    (tmp_path / "endless_stage.py").write_text(ENDLESS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    start_server(PRELOADED_ALONE)
    job = Job(Stage("endless", 1, Settings, "endless_stage:run", ()), Settings())
    with pytest.raises(StageError, match=r"endless was ended by the limit on processor time \(ulimit -t\): raise it"):
        run_bundle(Store(tmp_path / "store"), [job], 1, print)


def test_an_interruption_that_a_library_makes_another_error_of_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing(*_: object) -> None:
        try:
            interrupt(signal.SIGTERM, None)
        except BaseException as error:
            raise ModuleNotFoundError("could not import it") from error

    monkeypatch.setattr(errors, "arrived", [])
    monkeypatch.setattr(main, "arrived", errors.arrived)
    monkeypatch.setattr(main, "_run", importing)
    assert main.main(["list"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "reproduce.sh: interrupted\n"


@pytest.mark.parametrize(
    ("streams", "code"),
    [("<&- >&- 2>&-", 0), (">&-", 0), ("| head -1", 1), (">/dev/full", 2)],
)
def test_closed_and_full_streams_end_in_no_traceback(streams: str, code: int) -> None:
    script = f"set -o pipefail; ./reproduce.sh list {streams}"
    ended = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    full = "reproduce.sh: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (code, full if code == 2 else "")


def test_another_programs_modules_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken')\n")
    script, environment = f"{ROOT}/reproduce.sh list", os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_limit_on_time_that_nothing_fits_in_is_refused() -> None:
    script = f"ulimit -t 30; {ROOT}/reproduce.sh list"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    line = "reproduce.sh: no process may take more than 30 s of processor time here: raise it (ulimit -t)\n"
    assert (ended.returncode, ended.stderr) == (2, line)
