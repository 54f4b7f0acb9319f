"""What the chaos test stands on: one run that nothing disturbed, places to disturb others in, and an account of it all.

Every act ends with a call that nothing disturbs, and with a table that equals the undisturbed one byte for byte.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.jobs.store import Store

ROOT = Path(__file__).resolve().parents[2]
MARKER = "IMPACT_CHAOS"
ACCOUNT: dict[str, list[tuple[str, ...]]] = {}
REPORTERS: list[pytest.TerminalReporter] = []
# so often that a killed training of seconds has something to go on from; the undisturbed one never stops for it
OFTEN = ("--checkpoint-minutes", "0.02")
BEGAN = time.monotonic()


class Place:
    """A store and a folder of results that `table6` at `smoke` works in; options: of the command."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.options = options
        self.folder, self.store, self.results = folder, folder / "store", folder / "results"

    def command(self) -> list[str]:
        places = ["--store", str(self.store), "--results", str(self.results)]
        return [sys.executable, "-m", "experiments", "table6", "--preset", "smoke", *places, *self.options]

    def start(self, around: Sequence[str] = ()) -> "Live":
        """A call that goes on by itself; around: a command that runs it, such as unshare."""
        return Live([*around, *self.command()])

    def run(self, around: Sequence[str] = ()) -> "Ended":
        """A call, until it ends."""
        with self.start(around) as live:
            return live.ended()

    @property
    def csv(self) -> bytes:
        return (self.results / "table6.csv").read_bytes()

    def outputs(self) -> dict[str, int]:
        """Every finished output, as stage/id, and when it was made."""
        paths = sorted(Store(self.store).records(), key=lambda path: path.stat().st_mtime_ns)
        return {f"{path.parts[-3]}/{path.parts[-2]}": path.stat().st_mtime_ns for path in paths}

    def half_written(self) -> list[tuple[str, int, Path]]:
        """Outputs that are being made, or that a kill left: stage, the process that makes it, and the directory."""
        found = [path for path in self.store.glob("*/.*.*") if path.is_dir()]
        return [(path.parent.name, int(path.suffix[1:]), path) for path in found if path.suffix[1:].isdigit()]

    def remove(self, outputs: Iterable[str]) -> None:
        """Forgets finished outputs and what was published, so that the next call has these to make."""
        for key in outputs:
            shutil.rmtree(self.store / key)
        shutil.rmtree(self.results, ignore_errors=True)

    def readers(self, output: str) -> list[str]:
        """Finished outputs that were made from another."""
        records = {key: json.loads((self.store / key / "run.json").read_bytes()) for key in self.outputs()}
        return [key for key, record in records.items() if output.split("/")[1] in record["inputs"].values()]

    def wrong(self) -> list[str]:
        """Files that are not what their run.json says, and what should long be gone."""
        found = [str(path) for _, _, path in self.half_written()]
        found += [str(path) for path in (*self.results.glob(".*"), *self.store.glob("**/*.tmp.*"))]
        for key in self.outputs():
            record = json.loads((self.store / key / "run.json").read_bytes())
            for name, entry in record["files"].items():
                path = self.store / key / name
                if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                    found.append(str(path))
        return found


class Ended:
    """How a call ended."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @property
    def line(self) -> str:
        """The one line that a failure ends in."""
        assert self.code == 2 and self.err.count("\n") == 1 and self.err.startswith("reproduce.sh: "), self
        return self.err.removeprefix("reproduce.sh: ").strip()

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


class Live:
    """A call that is going on, in a session of its own, and every process that belongs to it."""

    def __init__(self, command: list[str]) -> None:
        self.mark, self.began = f"{MARKER}={uuid.uuid4()}", time.monotonic()
        environment = os.environ | dict([self.mark.split("=")])
        # Into files: a pipe would stay open, and be waited for, as long as a process of a killed call lives.
        self.out, self.err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=self.out, stderr=self.err, start_new_session=True
        )

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *raised: object) -> None:
        for pid in self.processes():  # none, unless a test failed in between
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.out.close()
        self.err.close()

    def wait_until(self, reached: Callable[[], Any]) -> Any:
        """What `reached` gives once it gives something, or None if the call ended before."""
        while self.process.poll() is None:
            if found := reached():
                return found
            time.sleep(0.005)
        return None

    def linger(self, seconds: float) -> None:
        """Waits, but not beyond the end of the call."""
        until = time.monotonic() + seconds
        self.wait_until(lambda: time.monotonic() >= until)

    def ended(self) -> Ended:
        code = self.process.wait(timeout=900)
        for file in (self.out, self.err):
            file.seek(0)
        return Ended(code, self.out.read(), self.err.read(), time.monotonic() - self.began)

    def processes(self) -> list[int]:
        """Those of the call that are alive, found by a mark in their environment, whoever their parent is by now."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:  # gone, or another user's
                    continue
        return found

    def orphans(self, within: float = 2.0) -> list[str]:
        """What of a killed call is still alive after so many seconds."""
        until = time.monotonic() + within
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The run that all others must equal."""
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    ended = place.run()
    assert ended.code == 0, ended
    tell("the undisturbed run", f"{len(place.outputs())} outputs in {ended.seconds:.0f} s")
    return place


@pytest.fixture
def place(undisturbed: Place, tmp_path: Path) -> Place:
    """A finished run, as a copy of the undisturbed one."""
    shutil.copytree(undisturbed.folder, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return Place(tmp_path, *OFTEN)


@pytest.fixture
def account() -> Callable[..., None]:
    """Takes a heading and the fields of a line, for the summary at the end."""
    return tell


def tell(heading: str, *fields: str) -> None:
    """Keeps a line for the summary, and shows it at once: the whole takes a quarter of an hour."""
    ACCOUNT.setdefault(heading, []).append(fields)
    if REPORTERS:
        REPORTERS[0].ensure_newline()
        REPORTERS[0].write_line(f"{heading}: {'  '.join(fields)}")


def pytest_configure(config: pytest.Config) -> None:
    if reporter := config.pluginmanager.get_plugin("terminalreporter"):
        REPORTERS.append(reporter)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ACCOUNT:
        return
    terminalreporter.section("what was done, and what came of it")
    for heading, rows in ACCOUNT.items():
        terminalreporter.write_line(f"\n{heading}", bold=True)
        widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
        for row in rows:
            line = "  ".join(field.ljust(width) for field, width in zip(row, widths, strict=False))
            terminalreporter.write_line(f"  {line.rstrip()}")
    terminalreporter.write_line(f"\n{time.monotonic() - BEGAN:.0f} s in all")
