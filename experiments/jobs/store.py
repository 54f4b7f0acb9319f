"""The store: finished outputs, each in a directory named by its recipe, each with its provenance."""

import errno
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.errors import UserError
from experiments.jobs.job import Job
from results.files import read_bounded, seal, unseal

PROVENANCE = "run.json"
CLAIM = ".claim"
DAMAGED = "damaged"
LOCK = "lock"
_BEFORE_THE_LOCK = ("wandb",)


class _Made(BaseModel):
    size: int
    sha256: str


class _Record(BaseModel):
    """Of a run.json, what every reader counts on."""

    files: dict[str, _Made]
    measured: dict[str, Any]
    inputs: dict[str, str]


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

    def scratch(self, job: Job) -> Path:
        """Where a job keeps what it would go on from if it were killed, until its output is there."""
        return self.root / "partial" / f"{job.stage.name}-{job.id}"

    def records(self, stage: str = "*") -> Iterator[Path]:
        """The run.json of every committed output, or of one stage's: none that is being written, none set aside."""
        paths = self.root.glob(f"{stage}/[!.]*/{PROVENANCE}")
        return (path for path in paths if path.parts[-3] != DAMAGED)

    def finished(self, job: Job) -> bool:
        """Whether the output is complete: its run.json is there and every file it names has its size."""
        return not self.damage(job, content=False)

    def damage(self, job: Job, content: bool = True) -> str:
        """What is wrong with the job's output, in words; empty if nothing is. content: compare checksums as well."""
        directory = self.directory(job)
        try:
            record = _Record.model_validate(unseal(read_bounded(directory / PROVENANCE)))
        except FileNotFoundError:
            return "not made yet"
        except (ValueError, OSError):  # no record, or one of other fields
            return f"{PROVENANCE} is damaged"
        for name, made in record.files.items():
            path = directory / name
            if not path.is_file():
                return f"{name} is gone"
            if path.stat().st_size != made.size:
                return f"{name} has {path.stat().st_size} bytes instead of {made.size}"
            if content and checksum(path) != made.sha256:
                return f"the content of {name} has changed"
        return ""

    def verified(self, job: Job) -> Path:
        """The output's directory, after comparing every checksum. Raises UserError if it is damaged."""
        if wrong := self.damage(job):
            raise self._refused(job, wrong)
        return self.directory(job)

    def _refused(self, job: Job, wrong: str) -> UserError:
        aside = self.discard(job)
        return UserError(
            f"the output of {job.describe()} was damaged ({wrong}) and is set aside in {aside}; "
            "call the same command again and it is made anew"
        )

    def discard(self, job: Job) -> Path:
        """Moves an output out of the way and forgets its stamp."""
        aside = self.root / DAMAGED / f"{job.stage.name}-{job.id}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        if self.directory(job).exists():
            os.rename(self.directory(job), aside)
        self.stamp(job).unlink(missing_ok=True)
        return aside

    def provenance(self, job: Job) -> dict[str, Any]:
        """The job's run.json. Raises UserError if it is damaged."""
        try:
            return unseal(read_bounded(self.directory(job) / PROVENANCE))
        except (ValueError, OSError):
            raise self._refused(job, f"{PROVENANCE} is damaged") from None

    @contextmanager
    def writing(self, job: Job) -> Iterator[Path]:
        """A temporary directory to fill. `commit` makes it the output; without that nothing stays.

        A lock on a file beside it says that its writer lives, on whatever machine that is.
        """
        final = self.directory(job)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f".{job.id}.{socket.gethostname()}.{os.getpid()}"
        claim = temporary.with_name(f"{temporary.name}{CLAIM}")
        with claim.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                claim.unlink(missing_ok=True)

    def commit(self, job: Job, temporary: Path, record: dict[str, Any]) -> None:
        """Makes a filled temporary directory the job's output: all or nothing, and on disk before it is visible.

        A finished output that is there already, made at the same time elsewhere, stays: others may be reading it.
        """
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        record["files"] = {
            str(path.relative_to(temporary)): {"size": path.stat().st_size, "sha256": checksum(path)} for path in files
        }
        provenance = temporary / PROVENANCE
        provenance.write_text(seal(record))
        sync(temporary)
        final = self.directory(job)
        if final.exists() and not self.finished(job):
            self.discard(job)
        try:
            os.rename(temporary, final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not self.finished(job):
                raise
        _sync(final.parent)
        remove(self.scratch(job))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the store for one run. The kernel lets go of the lock when the process dies, however it dies.

        Raises UserError if another run holds it, if it can't be held, or if the directory holds something else.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = next((path.name for path in self.root.iterdir() if path.name not in _BEFORE_THE_LOCK), None)
            if foreign and not (self.root / LOCK).exists() and not any(self.records()):
                raise UserError(
                    f"{self.root} is no store, and holds {foreign}: give --store DIR, a new directory or that of an "
                    "earlier run"
                )
            lock = (self.root / LOCK).open("a+", errors="replace")
        except OSError as error:
            raise UserError(f"can't write to the store {self.root} ({error.strerror}): give --store DIR") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise UserError(f"can't lock the store {self.root} ({error.strerror}): give --store DIR") from error
                lock.seek(0)
                raise UserError(
                    f"another run is using {self.root} ({lock.read().strip()}): wait for it, or give --store DIR"
                ) from None
            with suppress(OSError):  # a word for people, for which a full disk has no room
                os.ftruncate(lock.fileno(), 0)
                os.write(lock.fileno(), f"process {os.getpid()}".encode())
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Removes what killed runs left half-written, but nothing that a cluster's job still writes."""
        for claim in self.root.glob(f"*/.*{CLAIM}"):
            with suppress(OSError), claim.open("r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(claim.with_suffix(""), ignore_errors=True)
                claim.unlink(missing_ok=True)
        for temporary in self.root.glob("*/.*.*"):
            unclaimed = not temporary.with_name(f"{temporary.name}{CLAIM}").exists()
            if temporary.is_dir() and unclaimed and temporary.parent.name != "stamps":
                shutil.rmtree(temporary, ignore_errors=True)
        for temporary in (*self.root.glob(".*.tmp.*"), *self.root.glob("*/.*.tmp.*")):
            temporary.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(directory: Path) -> None:
    """Removes a directory if it is there, all at once: no half of it is ever taken for the whole."""
    gone = directory.with_name(f".{directory.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(directory, gone)
        shutil.rmtree(gone, ignore_errors=True)


def sync(directory: Path) -> None:
    """Brings a directory and all that lies in it to the disk."""
    for path in (*directory.rglob("*"), directory):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
