"""Without a cluster: what jobs ask for, and how what happens to them comes back (tests/cluster has a real Slurm)."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.commands.main import main
from experiments.errors import UserError
from experiments.jobs.job import Job, bundles
from experiments.jobs.store import Store
from experiments.running.attempts import Attempts, said
from experiments.running.cluster import Cluster, ClusterProfile, StageRequest
from experiments.running.events import EventFile, Follower
from experiments.running.observer import Event
from experiments.running.schedule import _name, _write_schedule, load_schedule, run_scheduled
from experiments.settings import GeneratedData, PublishedData, load_preset
from experiments.stages.configs import DataConfig
from experiments.stages.registry import DATA
from experiments.tables.target import Asked, Selection, targets

ROOT = Path(__file__).resolve().parents[2]
CANCELLED = (
    "SLURM-job '12' failed, SLURM status is: 'CANCELLED'. Detailed failure reason unavailable (status command is not "
    "'sacct'). For further error details see the cluster/cloud log and the log files of the involved rule(s)."
)


def planned_jobs(table: str, preset: str = "paper") -> list[Job]:
    return targets()[table].plan(Asked(load_preset(preset), Selection())).jobs


def paper_cluster(**profile: object) -> Cluster:
    return Cluster("slurm", ClusterProfile.model_validate(profile), load_preset("paper").hardware.gpus)


@pytest.mark.parametrize(
    "content, complaint",
    [
        ('partitoin = "gpu"', "partitoin: Extra inputs are not permitted"),
        ("[stages.sft]\nhuors = 3", "stages.sft.huors: Extra inputs are not permitted"),
        ("jobs = 0", "jobs: Input should be greater than 0"),
        ("[stages.sft]\nmemory_gb = 0", "stages.sft.memory_gb: Input should be greater than 0"),
        ("jobs = ", "Invalid value"),
        ("jobs = " + "[" * 10_000, "maximum recursion depth"),
        ("[stages.stf]\nhours = 1", "unknown stage 'stf': did you mean 'sft'?"),
    ],
)
def test_a_mistake_in_the_profile_is_one_line(
    content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "cluster.toml"
    profile.write_text(content)
    places = ["--store", str(tmp_path / "store"), "--profile", str(profile)]
    assert main(["table6", "--preset", "smoke", "--dry-run", "--cluster", "slurm", *places]) == 2
    said = capsys.readouterr().err
    place = "" if complaint.startswith("unknown") else f"--profile {profile}: "
    assert said.startswith(f"reproduce.sh: {place}{complaint}") and said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--profile", "x.toml"], "--profile describes a cluster: give --cluster NAME too"),
        (["--cluster", "slrum"], "unknown --cluster 'slrum': did you mean 'slurm'?"),
        (["--cluster", "local"], "unknown --cluster 'local'"),
        (["--cluster", "slurm", "--profile", "/no/such"], "/no/such: No such file"),
        (["--cluster", "slurm", "--profile", "/dev/zero"], "--profile /dev/zero: no regular file"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table6", "--preset", "smoke", "--dry-run", "--store", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"reproduce.sh: {line}")


def test_an_unknown_setting_of_the_plugin_is_named() -> None:
    with pytest.raises(UserError, match="unknown setting of the executor slurm 'logdri': did you mean 'logdir'"):
        paper_cluster(executor={"logdri": "x"}).plugin_settings()


@pytest.mark.parametrize("table", [*targets()])
def test_every_job_of_the_paper_asks_for_time_memory_and_its_gpus(table: str) -> None:
    cluster = paper_cluster(partition="gpu", account="me", extra="--mail-type=FAIL")
    for bundle in bundles(planned_jobs(table)):
        request, job = cluster.request(bundle), bundle[0]
        assert 1 <= request.hours < 200 and 8 <= request.memory_gb < 500
        assert request.resources["mem_mb"] > 0 and request.resources["runtime"] >= 60  # type: ignore[operator]
        assert request.resources["slurm_partition"] == "gpu" and request.resources["slurm_account"] == "me"
        on_gpu = job.stage.name not in ("data", "base", "judge")
        assert request.gpus == (job.processes if on_gpu else 0)
        assert request.resources.get("gpu", 0) == request.gpus and request.cpus == (8 * request.gpus or 1)


def test_a_sharded_training_asks_for_one_node_and_room_for_every_process() -> None:
    (bundle,) = [bundle for bundle in bundles(planned_jobs("table7")) if bundle[0].stage.name == "finetune"]
    request = paper_cluster().request(bundle)
    assert request.resources["gpu"] == 4 and request.resources["nodes"] == 1
    assert request.memory_gb > 4 * 13e9 * 4 / 1e9


def test_the_profile_overrides_the_estimate_for_a_stage_only() -> None:
    own = StageRequest(hours=3, memory_gb=20.5, cpus=2, partition="short", resources={"constraint": "a100"})
    cluster = paper_cluster(partition="gpu", resources={"qos": "low"}, stages={"evaluate": own})
    requests = {bundle[0].stage.name: cluster.request(bundle) for bundle in bundles(planned_jobs("table6"))}
    changed = requests.pop("evaluate")
    assert (changed.hours, changed.memory_gb, changed.cpus) == (3, 21, 2)
    assert changed.resources["slurm_partition"] == "short" and changed.resources["runtime"] == 180
    assert changed.resources["constraint"] == "a100" and changed.resources["qos"] == "low"
    assert all("constraint" not in request.resources for request in requests.values())
    assert {request.resources["slurm_partition"] for request in requests.values()} == {"gpu"}


def test_a_kind_of_gpu_is_asked_for_by_jobs_with_a_gpu_only() -> None:
    cluster = paper_cluster(resources={"gpu_model": "a100", "qos": "low"})
    for request in map(cluster.request, bundles(planned_jobs("table6"))):
        assert ("gpu_model" in request.resources) == (request.gpus > 0) and request.resources["qos"] == "low"


def test_fewer_gpus_than_processes_are_refused() -> None:
    cluster = paper_cluster(stages={"sft": {"gpus": 1}})
    (sft, *_) = [bundle for bundle in bundles(planned_jobs("table6")) if bundle[0].stage.name == "sft"]
    with pytest.raises(UserError, match="1 GPUs for the stage sft, which trains in 2 processes"):
        cluster.request(sft)


def test_a_preset_without_gpus_asks_for_none() -> None:
    cluster = Cluster("slurm", ClusterProfile(), load_preset("smoke").hardware.gpus)
    assert all(cluster.request(bundle).gpus == 0 for bundle in bundles(planned_jobs("table6", "smoke")))


def data_job(data: GeneratedData | PublishedData, **paths: str) -> Job:
    config = DataConfig(domain="mathematics", data=data, benchmarks=("gsm8k",), files={})
    return Job(DATA, config, paths=paths, label="mathematics")


@pytest.fixture
def job() -> Job:
    return data_job(GeneratedData(source="generated", seed=1, train=4, calibration=1, heldout=1, test=1))


@pytest.fixture
def seen() -> list[Event]:
    """What the observer is told."""
    return []


@pytest.fixture
def follower(tmp_path: Path, job: Job, seen: list[Event]) -> Follower:
    return Follower(tmp_path, {"data_1": [job]}, seen.append)


def test_what_a_job_tells_reaches_the_observer(tmp_path: Path, job: Job, follower: Follower, seen: list[Event]) -> None:
    file = EventFile(tmp_path / "data_1.node.7.jsonl")
    begun = [Event([job], "started"), Event([job], "logged", ({"loss": 0.5},))]
    rest = [Event([job], "advanced", (1, 4)), Event([job], "told", ("halved",)), Event([job], "ended", (None,))]
    for event in begun:
        file(event)
    follower.poll()
    assert seen == begun
    file(rest[0])
    file(Event([job], "advanced", (2, 4)))  # at once: left out
    for event in rest[1:]:
        file(event)
    follower.poll()
    follower.poll()
    assert seen == begun + rest


def test_a_line_that_is_half_there_waits(tmp_path: Path, follower: Follower, seen: list[Event]) -> None:
    path = tmp_path / "data_1.node.7.jsonl"
    path.write_text('["star')
    follower.poll()
    assert seen == []
    path.write_text('["started"]\n["ended", nu')
    follower.poll()
    assert [event.kind for event in seen] == ["started"]


def attempts(follower: Follower, retries: int = 2) -> tuple[Attempts, SimpleNamespace]:
    rule = SimpleNamespace(restart_times=retries)
    return Attempts(follower, retries, {"data_1": rule}.__getitem__), rule


def test_a_killed_job_is_tried_again_and_said_so_until_its_retries_are_used_up(
    tmp_path: Path, job: Job, follower: Follower, seen: list[Event]
) -> None:
    judged, rule = attempts(follower)
    for attempt in range(3):
        EventFile(tmp_path / f"data_1.node.{attempt}.jsonl")(Event([job], "started"))
        judged.failed("data_1", CANCELLED, ["/store/12.log"])
    assert rule.restart_times == 2
    *told, last = [event.values[0] for event in seen if event.kind == "told"]
    assert str(last).endswith("; no other job begins, and those that run are waited for")
    assert told == [
        f"SLURM-job '12' failed, SLURM status is: 'CANCELLED'; it is tried again ({count} of 2)" for count in (1, 2)
    ]
    assert judged.given_up == [
        "data mathematics: SLURM-job '12' failed, SLURM status is: 'CANCELLED' (3 attempts); its last job's log is "
        "/store/12.log"
    ]
    assert [event.kind for event in seen if event.kind != "told"] == ["started", "ended"] * 3


def test_why_an_attempt_died_is_part_of_the_line(tmp_path: Path, job: Job, follower: Follower) -> None:
    judged, _ = attempts(follower, retries=0)
    line = "data mathematics was killed, because memory ran out"
    EventFile(tmp_path / "data_1.node.1.jsonl")(Event([job], "died", (line,)))
    judged.failed("data_1", CANCELLED.replace("CANCELLED", "OUT_OF_MEMORY"), [])
    (line,) = judged.given_up
    assert line.startswith("data mathematics: was killed, because memory ran out; SLURM-job '12' failed")
    assert line.endswith("give it more: memory_gb of its stage in the --profile")


def test_what_the_plugin_says_of_a_refused_submission_is_one_line() -> None:
    message = (
        "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gqu\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified'.\n"
        "    sbatch call:\n        sbatch --parsable --job-name x\nFor further error details see the cluster/cloud log"
    )
    assert said(message) == (
        "SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gqu sbatch: error: "
        "Batch job submission failed: Invalid partition name specified'"
    )


def scheduled(store: Store, job: Job) -> Path:
    store.root.mkdir(exist_ok=True)
    return _write_schedule([job], store, 1, 0, 0, Cluster("slurm", ClusterProfile(), 0))


def test_a_job_of_a_cluster_makes_its_output_and_tells_of_it(tmp_path: Path, job: Job, seen: list[Event]) -> None:
    store = Store(tmp_path / "store")
    schedule = scheduled(store, job)
    (item,) = load_schedule(str(schedule)).items
    assert item.resources["mem_mb"] == 8000 and item.resources["runtime"] == 60
    with Follower(schedule.parent, {item.name: [job]}, seen.append):
        run_scheduled(str(schedule), item.name, 1)
    assert store.finished(job) and store.stamp(job).exists()
    assert seen[0] == Event([job], "started") and seen[-1] == Event([job], "ended", (None,))


def test_the_line_of_a_stage_that_fails_reaches_the_user_and_is_not_tried_again(
    tmp_path: Path, seen: list[Event]
) -> None:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"question": "What is 1?", "answer": "1"}\n{"question": "What')
    published = PublishedData(source="published", seed=1, train={"gsm8k": 9}, calibration=1, heldout=1, test={})
    job, store = data_job(published, data_dir=str(tmp_path / "data")), Store(tmp_path / "store")
    schedule, name = scheduled(store, job), _name([job])
    with pytest.raises(UserError) as failure:
        run_scheduled(str(schedule), name, 1)
    follower = Follower(schedule.parent, {name: [job]}, seen.append)
    rule = SimpleNamespace(restart_times=2)
    judged = Attempts(follower, 2, {name: rule}.__getitem__)
    judged.failed(name, CANCELLED.replace("CANCELLED", "FAILED"), [])
    assert rule.restart_times == 0 and judged.given_up == [str(failure.value)]
    assert "train.jsonl, line 2: not valid JSON" in judged.given_up[0]
    assert Event([job], "ended", (str(failure.value),)) in seen


def test_a_job_whose_call_is_over_stops(tmp_path: Path) -> None:
    """The next call removes the schedule of one that was killed."""
    schedule = tmp_path / "schedule.json"
    schedule.write_text(json.dumps({}))
    code = f"""
import threading, time
from pathlib import Path
from experiments.running import schedule
schedule.RETIRED_AFTER_S = 0.05
path = Path({str(schedule)!r})
threading.Thread(target=schedule._stop_when_retired, args=(path,), daemon=True).start()
print("working", flush=True)
time.sleep(120)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "working\n"
        assert process.poll() is None
        schedule.unlink()
        assert process.wait(60) == 1
