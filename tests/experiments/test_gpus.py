"""Jobs see the GPUs that they have been given, side by side never the same one, and no process forks after CUDA."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from experiments.jobs.job import Job
from experiments.jobs.stage import Stage
from experiments.jobs.store import Store
from experiments.running.children import PRELOADED_ALONE, PRELOADED_WITH_GPUS, StageError, run_bundle, start_server
from experiments.running.gpus import VISIBLE, FreeGpus, first_gpus
from experiments.settings import Settings

SEEING = f"""
import os

def run(task):
    (task.out / "seen").write_text(os.environ["{VISIBLE}"])
    return {{}}
"""


@pytest.fixture
def seeing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    (tmp_path / "seeing_stage.py").write_text(SEEING)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    start_server(PRELOADED_ALONE)
    return Job(Stage("seeing", 1, Settings, "seeing_stage:run", ()), Settings())


def test_a_stage_that_asked_for_no_gpu_sees_none(tmp_path: Path, seeing: Job) -> None:
    store = Store(tmp_path / "store")
    run_bundle(store, [seeing], 1, print)
    assert (store.directory(seeing) / "seen").read_text() == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees the GPUs here")
def test_a_stage_with_gpus_that_pytorch_does_not_see_ends_in_one_line(tmp_path: Path, seeing: Job) -> None:
    with pytest.raises(StageError, match=r"given the GPUs 3,1, and PyTorch \S+ sees none: .* remove .venv"):
        run_bundle(Store(tmp_path / "store"), [seeing], 1, print, gpus=["3", "1"])


@pytest.mark.parametrize(("named", "names"), [(None, ["0", "1", "2"]), ("5,GPU-7f,6", ["5", "GPU-7f", "6"])])
def test_jobs_side_by_side_have_different_gpus(
    monkeypatch: pytest.MonkeyPatch, named: str | None, names: list[str]
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if named:
        monkeypatch.setenv(VISIBLE, named)
    assert first_gpus(2) == names[:2]
    free, together = FreeGpus(3), Barrier(2)

    def job(count: int) -> list[str]:
        with free.taken(count) as taken:
            together.wait(timeout=10)
            return taken

    for _ in range(5):  # given back, and taken again
        with ThreadPoolExecutor() as pool:
            one, two = pool.map(job, (1, 2))
        assert sorted([*one, *two]) == sorted(names)


def test_what_is_imported_before_a_fork_sets_up_no_cuda() -> None:
    """bitsandbytes does when it is imported, and the Trainer imports it."""
    program = "import sys, importlib; [importlib.import_module(name) for name in sys.argv[1:]]; import torch"
    program += "; assert not {'bitsandbytes', 'transformers'} & set(sys.modules) and not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", program, *PRELOADED_WITH_GPUS], cwd=Path(__file__).parents[2], check=True)
