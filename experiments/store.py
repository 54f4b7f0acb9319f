"""The store: finished outputs, each in a directory named by its recipe, each with its provenance."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.jobs import Job

PROVENANCE = "run.json"


class Store:
    """Outputs under one directory: <stage>/<id>/, stamps for the scheduler, logs, and a lock for the live run."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def directory(self, job: Job) -> Path:
        """Where the job's output is, or will be."""
        return self.root / job.key

    def stamp(self, job: Job) -> Path:
        """The small file that tells the scheduler the output is there."""
        return self.root / "stamps" / job.stage.name / job.id

    def log(self, job: Job) -> Path:
        """What the job printed."""
        return self.root / "logs" / f"{job.stage.name}-{job.id}.log"

    def finished(self, job: Job) -> bool:
        """Whether the output is complete: its run.json is there and every file it names has its size."""
        return not self.damage(job, content=False)

    def damage(self, job: Job, content: bool = True) -> str:
        """What is wrong with the job's output, in words; empty if nothing is. content: compare checksums as well."""
        directory = self.directory(job)
        if not (directory / PROVENANCE).exists():
            return "not made yet"
        for name, recorded in self.provenance(job)["files"].items():
            path = directory / name
            if not path.exists():
                return f"{name} is gone"
            if path.stat().st_size != recorded["size"]:
                return f"{name} has {path.stat().st_size} bytes instead of {recorded['size']}"
            if content and checksum(path) != recorded["sha256"]:
                return f"the content of {name} has changed"
        return ""

    def verified(self, job: Job) -> Path:
        """The output's directory, after comparing every checksum. Raises UserError if it is damaged."""
        if wrong := self.damage(job):
            aside = self.discard(job)
            raise UserError(
                f"the output of {job.describe()} was damaged ({wrong}) and is set aside in {aside}; "
                "call the same command again and it is made anew"
            )
        return self.directory(job)

    def discard(self, job: Job) -> Path:
        """Moves an output out of the way and forgets its stamp."""
        aside = self.root / "damaged" / f"{job.stage.name}-{job.id}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        if self.directory(job).exists():
            os.rename(self.directory(job), aside)
        self.stamp(job).unlink(missing_ok=True)
        return aside

    def provenance(self, job: Job) -> dict[str, Any]:
        """The job's run.json."""
        return json.loads((self.directory(job) / PROVENANCE).read_text())

    @contextmanager
    def writing(self, job: Job) -> Iterator[Path]:
        """A temporary directory to fill. `commit` makes it the output; without that nothing stays."""
        final = self.directory(job)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{job.id}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def commit(self, job: Job, temporary: Path, record: dict[str, Any]) -> None:
        """Makes a filled temporary directory the job's output: all or nothing, and on disk before it is visible."""
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        record["files"] = {
            str(path.relative_to(temporary)): {"size": path.stat().st_size, "sha256": checksum(path)} for path in files
        }
        provenance = temporary / PROVENANCE
        provenance.write_text(json.dumps(record, indent=1))
        for path in (*files, provenance):
            _sync(path)
        for directory in {path.parent for path in (*files, provenance)}:
            _sync(directory)
        final = self.directory(job)
        if final.exists():
            self.discard(job)
        os.rename(temporary, final)
        _sync(final.parent)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the store for one run. The kernel lets go of the lock when the process dies, however it dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                lock.seek(0)
                raise UserError(
                    f"another run is using {self.root} ({lock.read().strip()}): wait for it, or give --store DIR"
                ) from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()}")
            lock.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Removes what a killed run left half-written."""
        for temporary in self.root.glob("*/.*.*"):
            if temporary.is_dir() and temporary.parent.name != "stamps":
                shutil.rmtree(temporary, ignore_errors=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
