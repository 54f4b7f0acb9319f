"""A training that is killed goes on from its checkpoint and ends as if nothing had happened."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from experiments.commands.garbage import collect
from experiments.errors import UserError
from experiments.jobs.job import Job
from experiments.jobs.stage import Task
from experiments.jobs.store import Store, checksum
from experiments.running.children import StageError, run_bundle, start_server
from experiments.running.observer import Event
from experiments.settings import GeneratedData, InitialisedModel, QLora, Training
from experiments.stages import train
from experiments.stages.configs import BaseConfig, DataConfig, QLoraConfig, QuantizeConfig, TrainConfig
from experiments.stages.registry import BASE, DATA, FINETUNE, QLORA, QUANTIZE

EVERY_STEP = 1e-9  # minutes
STEPS_AN_EPOCH, EPOCHS = 8, 6


@dataclass
class Told:
    """What a stage told while it ran. on_step is called with each step."""

    on_step: Callable[[float], None] = lambda step: None
    values: list[Mapping[str, float]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        match event.kind, event.values:
            case "advanced", (done, _):
                self.on_step(done)
            case "logged", (values,):
                self.values.append(values)
            case "told", (line,):
                self.lines.append(line)


def training(processes: int = 1, **changes: Any) -> Training:
    """Over 8 steps an epoch, the last of which is smaller: 120 rows, 16 a step, 8 at a time and process."""
    return Training(
        **{
            "learning_rate": 2e-3,
            "batch_size": 16,
            "micro_batch_size": 8,
            "epochs": EPOCHS,
            "schedule": "cosine",
            "warmup_ratio": 0.1,
            "max_length": 256,
            "precision": "bf16",
            "processes": processes,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    start_server()
    return Store(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def inputs(store: Store) -> dict[str, Job]:
    data = GeneratedData(source="generated", seed=7, train=120, calibration=8, heldout=8, test=8)
    model = InitialisedModel(
        source="initialised",
        domain="mathematics",
        seed=1,
        hidden_size=32,
        layers=1,
        heads=2,
        intermediate_size=64,
    )
    jobs = {
        "data": Job(DATA, DataConfig(domain="mathematics", data=data, benchmarks=("gsm8k",), files={})),
        "model": Job(BASE, BaseConfig(model=model)),
    }
    for job in jobs.values():
        run_bundle(store, [job], 1, Told(), 0)
    return jobs


def finetune(inputs: dict[str, Job], seed: int = 3, **changes: Any) -> Job:
    return Job(FINETUNE, TrainConfig(training=training(**changes), seed=seed, attention="eager"), inputs)


def content(directory: Path) -> dict[str, str]:
    """Every file of an output but its provenance."""
    return {
        str(path.relative_to(directory)): checksum(path)
        for path in directory.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def step_of(store: Store, job: Job) -> int:
    """Where the job's checkpoint was made, 0 without one."""
    return max((int(path.name.rpartition("-")[2]) for path in store.scratch(job).glob("checkpoint-*")), default=0)


def stage_process(store: Store, job: Job) -> int:
    """The process that makes the job's output: it says so in the name of its temporary directory."""
    (temporary,) = [path for path in store.directory(job).parent.glob(f".{job.id}.*") if path.is_dir()]
    return int(temporary.name.rpartition(".")[2])


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("processes", "victim", "line"),
    [
        (1, "stage", "was killed"),
        (2, "stage", "was killed"),
        (2, "one of several", "one of the training's processes was killed"),
    ],
)
def test_killed_in_the_second_epoch_it_ends_as_an_undisturbed_one(
    store: Store, inputs: dict[str, Job], tmp_path: Path, processes: int, victim: str, line: str
) -> None:
    job = finetune(inputs, processes=processes, epochs=3, seed=len(victim))
    undisturbed = Told()
    run_bundle(store, [job], 2, undisturbed, 0)
    expected, measured = content(store.directory(job)), store.provenance(job)["measured"]
    store.discard(job)

    killed: list[int] = []

    def kill() -> None:
        while step_of(store, job) <= STEPS_AN_EPOCH:
            time.sleep(0.002)
        process = stage_process(store, job)
        killed.extend([process, *children_of(process)])
        os.kill(process if victim == "stage" else killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.raises(StageError, match=line):
        run_bundle(store, [job], 2, Told(), EVERY_STEP)
    killer.join()
    assert len(killed) == (1 if processes == 1 else 1 + processes)
    end = time.monotonic() + 5
    while any(map(alive, killed)):
        assert time.monotonic() < end, "a process of a killed training computes on"
        time.sleep(0.05)

    step = step_of(store, job)
    assert STEPS_AN_EPOCH < step < 2 * STEPS_AN_EPOCH, "the second epoch was over: kill faster"
    resumed = Told()
    run_bundle(store, [job], 2, resumed, 0)
    assert resumed.lines == [f"continues from step {step}, where its last checkpoint was made"]
    assert content(store.directory(job)) == expected
    assert store.provenance(job)["measured"] == {**measured, "resumed_from_step": step}
    assert resumed.values == [values for values in undisturbed.values if values["step"] > step]
    assert not store.scratch(job).exists()


class StoppedAt(TrainerCallback):
    """Makes a checkpoint at a step, and stops the training some steps later."""

    class StopError(Exception): ...

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_save = state.global_step == self.step
        if state.global_step == self.step + 2:
            raise self.StopError


def run_here(store: Store, job: Job, out: Path, minutes: float = 0) -> tuple[dict[str, Any], Told]:
    """The stage in this process, writing to `out`."""
    told = Told()
    out.mkdir(exist_ok=True)
    task = Task(
        [job.config],
        {slot: store.directory(upstream) for slot, upstream in job.inputs.items()},
        {},
        [out],
        2,
        lambda done, total: told.on_step(done),
        told.values.append,
        told.lines.append,
        store.scratch(job),
        minutes,
    )
    return job.stage.run(task), told


@pytest.mark.parametrize("step", [3, STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH - 1, EPOCHS * STEPS_AN_EPOCH - 3])
def test_from_any_step_on(
    store: Store, inputs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Within an epoch, at its end, before a batch that is smaller, and between two entries of the log."""
    job = finetune(inputs, seed=step)
    measured, undisturbed = run_here(store, job, tmp_path / "undisturbed")
    with monkeypatch.context() as patch, pytest.raises(StoppedAt.StopError):
        patch.setattr(train, "ByTime", lambda minutes: StoppedAt(step))
        run_here(store, job, tmp_path / "stopped")
    resumed, told = run_here(store, job, tmp_path / "resumed")
    assert content(tmp_path / "resumed") == content(tmp_path / "undisturbed")
    assert resumed == {**measured, "resumed_from_step": step}
    assert told.values == [values for values in undisturbed.values if values["step"] > step]


def test_an_adapter_under_dropout_too(
    store: Store, inputs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QuantizeConfig(scheme="nf4", gauge="as trained", precision="fp32")
    quantized = Job(QUANTIZE, config, {"model": inputs["model"]})
    run_bundle(store, [quantized], 1, Told(), 0)
    qlora = QLora(
        start="base", rank=4, alpha=16, dropout=0.1, max_grad_norm=0.3, training=training(precision="fp32", epochs=2)
    )
    adapted = QLoraConfig(qlora=qlora, seed=5, precision="fp32", attention="eager")
    job = Job(QLORA, adapted, {"data": inputs["data"], "model": quantized})
    measured, _ = run_here(store, job, tmp_path / "undisturbed")
    with monkeypatch.context() as patch, pytest.raises(StoppedAt.StopError):
        patch.setattr(train, "ByTime", lambda minutes: StoppedAt(STEPS_AN_EPOCH + 3))
        run_here(store, job, tmp_path / "stopped")
    resumed, _ = run_here(store, job, tmp_path / "resumed")
    assert content(tmp_path / "resumed") == content(tmp_path / "undisturbed")
    assert resumed == {**measured, "resumed_from_step": STEPS_AN_EPOCH + 3}


def test_making_checkpoints_changes_nothing(store: Store, inputs: dict[str, Job], tmp_path: Path) -> None:
    job = finetune(inputs, epochs=1)
    without = run_here(store, job, tmp_path / "without")
    assert not store.scratch(job).exists()
    with_checkpoints = run_here(store, job, tmp_path / "with", EVERY_STEP)
    assert without == with_checkpoints
    assert content(tmp_path / "with") == content(tmp_path / "without")
    # the only one, and not after the last step
    assert [path.name for path in store.scratch(job).iterdir()] == [f"checkpoint-{STEPS_AN_EPOCH - 1}"]


def test_a_checkpoint_that_was_being_written_is_not_taken(
    store: Store, inputs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finetune(inputs, epochs=1, seed=11)

    def broken_off(*given: Any) -> None:
        raise StoppedAt.StopError

    with monkeypatch.context() as patch, pytest.raises(StoppedAt.StopError):
        patch.setattr(train._Trainer, "_save_rng_state", broken_off)
        run_here(store, job, tmp_path / "stopped", EVERY_STEP)
    assert step_of(store, job) == 0
    measured, told = run_here(store, job, tmp_path / "anew")
    assert told.lines == [] and "resumed_from_step" not in measured


def test_a_checkpoint_that_cannot_be_read_is_named(store: Store, inputs: dict[str, Job], tmp_path: Path) -> None:
    job = finetune(inputs, epochs=1, seed=12)
    run_here(store, job, tmp_path / "first", EVERY_STEP)
    (checkpoint,) = store.scratch(job).iterdir()
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RuntimeError, match=f"can't go on from {checkpoint} .*; without that it starts anew"):
        run_here(store, job, tmp_path / "second")


def test_a_loss_that_is_no_number_ends_the_training_at_once(
    store: Store, inputs: dict[str, Job], tmp_path: Path
) -> None:
    job = finetune(inputs, learning_rate=1e30)
    steps: list[float] = []
    with pytest.raises(StageError) as failure:
        run_bundle(store, [job], 1, Told(steps.append), EVERY_STEP)
    assert "at step" in str(failure.value) and "learning_rate, 1e+30" in str(failure.value)
    assert f"at step {int(steps[-1]) + 1}:" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert steps[-1] < STEPS_AN_EPOCH
    assert not store.scratch(job).exists()


def test_so_it_does_in_several_processes(store: Store, inputs: dict[str, Job]) -> None:
    job = finetune(inputs, learning_rate=1e30, processes=2)
    with pytest.raises(StageError, match=r"finetune: the .* is (nan|inf) at step \d: lower"):
        run_bundle(store, [job], 1, Told(), EVERY_STEP)
    assert not store.scratch(job).exists()


def test_spawned_processes_train_as_forked_ones_do(
    store: Store, inputs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on GPUs, where a fork is not possible."""
    job = finetune(inputs, processes=2, max_steps=2)
    run_bundle(store, [job], 2, Told())
    monkeypatch.setattr(train, "start_method", lambda: "spawn")
    out = tmp_path / "out"
    out.mkdir()
    upstream = {slot: store.directory(job) for slot, job in job.inputs.items()}
    job.stage.run(Task([job.config], upstream, {}, [out], 2, print, print, print, store.scratch(job), 0))
    spawned, forked = content(out), content(store.directory(job))
    assert spawned.items() <= forked.items() and "model.safetensors" in spawned


def test_a_gradient_that_is_no_number_is_found_before_it_reaches_the_weights(
    store: Store, inputs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step says nothing of it."""
    job = finetune(inputs, max_steps=1)
    monkeypatch.setattr(train.Trainer, "_clip_grad_norm", lambda trainer, model: float("nan"))
    with pytest.raises(UserError, match="the gradient's norm is nan at step 1:"):
        run_here(store, job, tmp_path / "out")


def test_gc_keeps_what_the_last_run_would_go_on_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("finetune-aaaa", "finetune-bbbb"):
        (store.root / "partial" / name / "checkpoint-4").mkdir(parents=True)
    (store.root / "schedule.json").write_text('{"missing": ["finetune/aaaa", "sft/cccc"]}')
    collect(store, [], False, Console(quiet=True))
    assert [path.name for path in (store.root / "partial").iterdir()] == ["finetune-aaaa"]
    finished = store.root / "finetune" / "aaaa"
    finished.mkdir(parents=True)
    (finished / "run.json").write_text('{"inputs": {}}')
    collect(store, [], False, Console(quiet=True))
    assert not list((store.root / "partial").iterdir())
