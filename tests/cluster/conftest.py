"""A Slurm of one machine: munged, slurmctld and two slurmd, in a directory and on ports of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NODES = ("alpha", "beta")
# No accounting database, as on many small clusters, and no cgroups, which a container may not give. What a job may use
# is counted in CPUs; ended jobs are remembered, so that the test can say at its end where each of them ran.
CONFIGURATION = """
ClusterName=one-machine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
MinJobAge=86400
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=64000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=64000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
ACCOUNT: list[str] = []
BEGAN = time.monotonic()


class SlurmJob(NamedTuple):
    """A job as squeue shows it. comment: the Snakemake rule; begin: seconds since 1970, 0 if it hasn't begun."""

    number: str
    state: str
    node: str
    comment: str
    begin: float


class SlurmMachine:
    """The cluster, through its own commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.daemons = folder, []  # type: tuple[Path, list[subprocess.Popen[bytes]]]
        path = f"{folder}/bin:{os.environ['PATH']}"
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """Raises AssertionError with a daemon's log if the nodes don't become idle."""
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, ports=free_ports(3), nodes=NODES)
        (self.folder / "slurm.conf").write_text(text)
        # the plugin's job steps start srun without SLURM_CONF
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        munged = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file")]
        munged += [f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed"]
        self._daemon("munged", "--foreground", "--force", *munged)
        wait_for(lambda: (self.folder / "munge.socket").exists(), 20, "munged has no socket")
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            (self.folder / f"spool.{node}").mkdir()
            self._daemon("slurmd", "-D", "-N", node)
        wait_for(lambda: self._states() == {"idle"}, 60, self._logs())

    def stop(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.ask("scancel", "--full", "--signal=KILL", "--partition=all")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def jobs(self) -> list[SlurmJob]:
        """Every job so far, the earliest first."""
        lines = self.ask("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%N|%k|%S").splitlines()
        found = []
        for number, state, node, comment, begin in (line.split("|") for line in lines):
            at = 0.0 if begin == "N/A" else time.mktime(time.strptime(begin, "%Y-%m-%dT%H:%M:%S"))
            found.append(SlurmJob(number, state, node, comment.removeprefix("rule_"), at))
        return found

    def processes(self, number: str) -> list[int]:
        """Those of a job that Python's fork server started: the stage at work."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    mine = f"SLURM_JOB_ID={number}".encode() in (entry / "environ").read_bytes().split(b"\0")
                    if mine and b"multiprocessing.forkserver" in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found

    def _daemon(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, f"{name} is not installed: ./reproduce.sh test-slurm does that"
        self.daemons.append(
            subprocess.Popen([program, *arguments], env=self.environment, stdout=log, stderr=log, cwd=self.folder)
        )

    def _states(self) -> set[str]:
        try:
            return set(self.ask("sinfo", "--Node", "--noheader", "--format=%T").split())
        except subprocess.SubprocessError:
            return set()

    def _logs(self) -> str:
        return f"the nodes don't become idle; the daemons' logs are in {self.folder}"


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_for(reached: Callable[[], Any], seconds: float, complaint: str) -> Any:
    """What `reached` gives once that is something. Raises AssertionError when time is up."""
    until = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < until, complaint
        time.sleep(0.2)
    return found


@pytest.fixture
def slurm() -> Iterator[SlurmMachine]:
    # munged wants its socket where everybody may look, and pytest's folders are private
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    machine = SlurmMachine(folder)
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def account() -> Callable[[str], None]:
    """Takes a line for the summary at the end."""
    return ACCOUNT.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ACCOUNT:
        terminalreporter.section("what was done on the cluster")
        for line in ACCOUNT:
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"{time.monotonic() - BEGAN:.0f} s in all")
