"""The store: all or nothing, never a damaged output taken for a good one."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from experiments.commands.garbage import collect
from experiments.commands.make import measured
from experiments.commands.options import all_options
from experiments.errors import UserError
from experiments.jobs.job import Job
from experiments.jobs.store import Store
from experiments.settings import GeneratedData
from experiments.stages.configs import DataConfig
from experiments.stages.registry import DATA
from experiments.tables.target import Plan, Publication


@pytest.fixture
def job() -> Job:
    data = GeneratedData(source="generated", seed=1, train=1, calibration=1, heldout=1, test=1)
    return Job(DATA, DataConfig(domain="mathematics", data=data, benchmarks=("gsm8k",), files={}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    with store.locked():  # as the first run does before anything else
        pass
    return store


def write(store: Store, job: Job, content: bytes = b"0123456789") -> Path:
    with store.writing(job) as folder:
        (folder / "train.jsonl").write_bytes(content)
        store.commit(job, folder, {"inputs": {}, "measured": {}})
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


def test_a_changed_number_in_the_record_is_damage(store: Store, job: Job) -> None:
    """A table is made from what run.json says was measured: it is no less part of the output than the files."""
    with store.writing(job) as folder:
        store.commit(job, folder, {"inputs": {}, "measured": {"perplexity": 1.5}})
    path = store.directory(job) / "run.json"
    path.write_text(path.read_text().replace("1.5", "1.4"))
    assert not store.finished(job)
    with pytest.raises(UserError, match=r"damaged .run\.json is damaged.* the same command again"):
        store.provenance(job)
    assert not store.directory(job).exists()


MADE = b'{"inputs": {}, "measured": {}, "files": {"train.jsonl": {"size": %s, "sha256": "0"}}}'


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{", b'{"files": 3}', b'{"files": {"a": {}}}', bytes(300), b"\xff"),
        b'{"inputs": {}, "files": {}}',
        b'{"inputs": {}, "files": {}, "measured": []}',
        *(MADE % size for size in (b"Infinity", b"NaN", b"1e999", b'"ten"', b"null")),
        b'{"measured": ' * 100_000,
        b"[" * 100_000,
    ],
)
def test_a_record_that_is_none_is_damage(store: Store, job: Job, content: bytes) -> None:
    write(store, job)
    (store.directory(job) / "run.json").write_bytes(content)
    assert store.damage(job) == "run.json is damaged" and not store.finished(job)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_record_that_is_no_file_is_damage(store: Store, job: Job, make: Callable[[Path], None]) -> None:
    write(store, job)
    record = store.directory(job) / "run.json"
    record.unlink()
    make(record)
    assert store.damage(job) == "run.json is damaged"
    with pytest.raises(UserError, match="is set aside"):
        store.provenance(job)


def test_a_store_that_cant_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(UserError, match=r"can't write to the store .* give --store DIR"), store.locked():
        pass


def test_what_another_run_finished_meanwhile_is_not_thrown_away(
    store: Store, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missing when this run was planned, and is there once this run has the store."""
    monkeypatch.setattr(Store, "_sweep", lambda self: write(self, job))

    class OneJob(Plan):
        jobs = property(lambda self: [job])

        def publications(self, store: Store, command: str) -> Iterator[Publication]:
            yield from ()

    options = all_options(["table6", "--store", str(store.root)])
    with measured(options, "table6", OneJob(), Console(quiet=True)) as run:
        assert run is not None and run[0].finished(job)
    assert not (store.root / "damaged").exists()


def test_a_live_run_keeps_others_out_and_a_dead_one_does_not(store: Store) -> None:
    code = f"""
from pathlib import Path
from experiments.jobs.store import Store
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


def test_a_directory_that_holds_something_else_is_no_store(tmp_path: Path) -> None:
    own = tmp_path / "project" / ".my.backup" / "thesis.tex"
    own.parent.mkdir(parents=True)
    own.touch()
    with pytest.raises(UserError, match="is no store, and holds project: give --store DIR"), Store(tmp_path).locked():
        raise AssertionError("locked")
    assert own.exists() and not (tmp_path / "lock").exists()


def test_taking_the_lock_sweeps_what_a_killed_run_left(store: Store, job: Job) -> None:
    path = write(store, job)
    left = store.root / "data" / f".{job.id}.12345"
    left.mkdir()
    with store.locked():
        assert not left.exists() and path.exists()


def test_taking_the_lock_leaves_what_a_job_elsewhere_still_writes(store: Store, job: Job) -> None:
    """A cluster's job outlives the call that submitted it; its writer's lock tells it from what a kill left."""
    code = f"""
import pickle, signal, sys
from pathlib import Path
from experiments.jobs.store import Store
job = pickle.load(sys.stdin.buffer)
with Store(Path({str(store.root)!r})).writing(job) as folder:
    print(folder, flush=True)
    signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        pickle.dump(job, process.stdin)
        process.stdin.close()
        folder = Path(process.stdout.readline().decode().strip())
        with store.locked():
            assert folder.is_dir()
        process.kill()
        process.wait()
    with store.locked():
        assert list(folder.parent.iterdir()) == []


def test_gc_counts_what_was_set_aside_once_and_leaves_what_a_job_elsewhere_still_writes(store: Store, job: Job) -> None:
    write(store, job)
    store.discard(job)
    said = io.StringIO()
    with store.writing(job) as folder:
        (folder / "run.json").write_text("half")
        assert list(store.records()) == []
        collect(store, [], False, Console(file=said))
        assert folder.is_dir()
    assert said.getvalue().startswith("removed 1 outputs") and not list((store.root / "damaged").iterdir())


@pytest.mark.parametrize(
    "record",
    [
        {"title": "eta by k", "cells": [{"k": 70, "runs": {"judge": "data/aa"}}]},
        {"units": {"q": {"bins": [1, 2], "runs": {"prepare": "data/aa"}}}},
        {"runs": {}, "bins": [{"runs": {"prepare": "data/aa"}}]},
    ],
)
def test_gc_keeps_what_a_record_of_any_name_was_measured_from(
    store: Store, tmp_path: Path, record: dict[str, object]
) -> None:
    for name, upstream in (("aa", {"data": "bb"}), ("bb", {}), ("cc", {})):
        (store.root / "data" / name).mkdir(parents=True)
        (store.root / "data" / name / "run.json").write_text(json.dumps({"inputs": upstream}))
    results = tmp_path / "results"
    (results / "x").mkdir(parents=True)
    (results / "x" / "eta_by_k.json").write_text(json.dumps(record))
    (results / "claims.json").write_text('[{"claim": "growth", "runs": 5}]')
    said = io.StringIO()
    collect(store, [results], False, Console(file=said))
    assert {path.name for path in (store.root / "data").iterdir()} == {"aa", "bb"}
    assert "removed 1 outputs" in said.getvalue() and "2 are kept" in said.getvalue()
    (results / "claims.json").write_text('[{"claim": "growth", "ru')
    with pytest.raises(UserError, match=r"claims\.json is damaged: nothing is removed"):
        collect(store, [results], False, Console(quiet=True))


def test_of_two_that_make_one_output_the_first_stays(store: Store, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may be reading it already."""
    with store.writing(job) as slower:
        (slower / "train.jsonl").write_bytes(b"slower")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "elsewhere")
            first = write(store, job, b"first!")
        inode = first.stat().st_ino
        store.commit(job, slower, {"inputs": {}, "measured": {}})
    assert first.read_bytes() == b"first!" and first.stat().st_ino == inode and store.finished(job)
    assert not (store.root / "damaged").exists()
