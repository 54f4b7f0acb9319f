"""`table6` at `smoke` through a real Slurm of two nodes, with jobs and the call itself killed and a node drained."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
jobs = 6
cpus = 2

[stages.finetune]
hours = 0.5
memory_gb = 6

[executor]
init_seconds_before_status_checks = 1
"""
PATIENCE_S = 1800


class Call:
    """One call of the harness for table6, in a place of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.folder, self.log = folder, folder / "printed"
        folder.mkdir(exist_ok=True)
        places = ["--store", str(folder / "store"), "--results", str(folder / "results"), "--cores", "2"]
        order = [sys.executable, "-m", "experiments", "table6", "--preset", "smoke", *places, *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(order, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self) -> str:
        """What it printed, once it has ended well."""
        assert self.process.wait(PATIENCE_S) == 0, self.printed
        return self.printed

    @property
    def printed(self) -> str:
        return self.log.read_text()

    @property
    def csv(self) -> bytes:
        return (self.folder / "results" / "table6.csv").read_bytes()


def test_a_disturbed_cluster_makes_the_table_that_one_machine_makes(
    slurm: Any, tmp_path: Path, account: Callable[[str], None]
) -> None:
    def running(stage: str, call: Call, other_than: str = "") -> Any:
        """A job of the stage whose work has begun, once there is one."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for job in slurm.jobs():
                mine = job.state == "RUNNING" and job.comment.startswith(stage) and job.number != other_than
                if mine and slurm.processes(job.number):
                    return job
            assert call.process.poll() is None, call.printed
            time.sleep(0.5)
        raise AssertionError(f"no job of {stage} runs: {slurm.jobs()}\n{call.printed}")

    with Call(tmp_path / "here", dict(os.environ)) as here:
        here.ended()
    profile = tmp_path / "cluster.toml"
    profile.write_text(PROFILE)
    order = ("--cluster", "slurm", "--profile", str(profile))

    with Call(tmp_path / "there", slurm.environment, *order) as call:
        orphan = running("finetune", call)
        call.process.kill()
        account(f"the call killed while job {orphan.number} ({orphan.comment}) ran")
    with Call(tmp_path / "there", slurm.environment, *order) as call:
        first = running("finetune", call, other_than=orphan.number)
        slurm.ask("scancel", first.number)
        account(f"called again; job {first.number} ({first.comment}) cancelled on {first.node}")
        second = running("sft", call)
        killed = []
        for pid in slurm.processes(second.number):
            with suppress(ProcessLookupError):  # one that ended by itself in between
                os.kill(pid, 9)
                killed.append(pid)
        assert killed, "nothing was left of the stage that was to be killed"
        account(f"the stage of job {second.number} ({second.comment}) killed on {second.node}")
        slurm.ask("scontrol", "update", f"NodeName={second.node}", "State=DRAIN", "Reason=test")
        drained_at, drained = time.time(), second.node
        account(f"{drained} drained")
        printed = call.ended()

    jobs = slurm.jobs()
    states = {job.number: job.state for job in jobs}
    assert states[orphan.number] == "FAILED", "a job went on although its call was over"
    assert states[first.number] == "CANCELLED" and states[second.number] == "FAILED"
    disturbed = {orphan.number, first.number, second.number}
    assert {states[number] for number in states.keys() - disturbed} == {"COMPLETED"}
    later = [job for job in jobs if job.begin > drained_at + 1]
    assert later and all(job.node != drained for job in later)
    assert {job.node for job in jobs} == {"alpha", "beta"}
    assert printed.count("it is tried again (1 of 2)") == 2
    assert "SLURM status is: 'CANCELLED'; it is tried again" in printed
    done = Counter(job.comment for job in jobs if job.state == "COMPLETED")
    assert set(done.values()) == {1}, "a bundle was made twice"
    assert call.csv == here.csv

    for node in ("alpha", "beta"):
        own = Counter(job.state for job in jobs if job.node == node)
        account(f"{node}: {own.total()} jobs, " + ", ".join(f"{count} {state}" for state, count in own.items()))
    account(f"{len(later)} jobs began after the drain, all on the other node")
    account(f"table6.csv equals that of one machine, {len(call.csv)} bytes")
