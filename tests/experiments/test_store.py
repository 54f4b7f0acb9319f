"""The store: all or nothing, never a damaged output taken for a good one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.jobs import Job
from experiments.settings import GeneratedData
from experiments.stages.configs import DataConfig
from experiments.stages.registry import DATA
from experiments.store import Store


@pytest.fixture
def job() -> Job:
    data = GeneratedData(source="generated", seed=1, train=1, calibration=1, heldout=1, test=1)
    return Job(DATA, DataConfig(domain="mathematics", data=data, benchmarks=("gsm8k",), files={}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, job: Job, content: bytes = b"0123456789") -> Path:
    with store.writing(job) as folder:
        (folder / "train.jsonl").write_bytes(content)
        store.commit(job, folder, {"inputs": {}})
    return store.directory(job) / "train.jsonl"


def test_an_output_exists_only_after_its_commit(store: Store, job: Job) -> None:
    with store.writing(job) as folder:
        (folder / "train.jsonl").write_text("half")
        assert not store.finished(job)
    assert not store.finished(job)
    assert list((store.root / "data").iterdir()) == []
    write(store, job)
    assert store.finished(job) and store.verified(job) == store.directory(job)


def test_a_failure_while_writing_leaves_the_earlier_output(store: Store, job: Job) -> None:
    path = write(store, job, b"first")
    with pytest.raises(RuntimeError), store.writing(job) as folder:
        (folder / "train.jsonl").write_text("second")
        raise RuntimeError
    assert path.read_bytes() == b"first" and store.finished(job)


@pytest.mark.parametrize("content", [b"01234", b"012345678X", None])
def test_damage_is_found_and_set_aside(store: Store, job: Job, content: bytes | None) -> None:
    """Cut short, one byte flipped, gone."""
    path = write(store, job)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged .*train\.jsonl.* the same command again"):
        store.verified(job)
    assert not store.finished(job)


def test_a_cut_file_is_noticed_without_reading_it(store: Store, job: Job) -> None:
    write(store, job).write_bytes(b"01234")
    assert not store.finished(job)


def test_the_record_holds_what_was_written(store: Store, job: Job) -> None:
    write(store, job, b"abc")
    files = json.loads((store.directory(job) / "run.json").read_text())["files"]
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files == {"train.jsonl": {"size": 3, "sha256": digest}}


def test_a_live_run_keeps_others_out_and_a_dead_one_does_not(store: Store) -> None:
    code = f"""
from pathlib import Path
from experiments.store import Store
import os, signal
with Store(Path({str(store.root)!r})).locked():
    print("locked", flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"another run is using .*process {process.pid}"), store.locked():
            pass
        process.kill()
        process.wait()
    with store.locked():
        pass


def test_taking_the_lock_sweeps_what_a_killed_run_left(store: Store, job: Job) -> None:
    path = write(store, job)
    left = store.root / "data" / f".{job.id}.12345"
    left.mkdir()
    with store.locked():
        assert not left.exists() and path.exists()
